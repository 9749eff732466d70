"""The probes by name, and how a run is trained with them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.data import Splits
from bnstudy.engines.lockstep import train_stack
from bnstudy.engines.observer import MomentObserver
from bnstudy.engines.probes.affine import Affine
from bnstudy.engines.probes.base import Moments, Probe, Scene
from bnstudy.engines.probes.batch_noise import BatchNoise
from bnstudy.engines.probes.generalization import Generalization
from bnstudy.engines.probes.geometry import Geometry
from bnstudy.engines.probes.gradient_shift import GradientShift
from bnstudy.engines.probes.landscape import Landscape
from bnstudy.engines.probes.recording import Activations
from bnstudy.engines.probes.uncertainty import Uncertainty
from bnstudy.engines.probes.variance_shift import VarianceShift
from bnstudy.engines.record import MEASURE_COLUMNS, Record
from bnstudy.engines.reference import train
from bnstudy.errors import ConfigError

PROBES: Mapping[str, Callable[..., Probe]] = {
    "activations": Activations,
    "affine": Affine,
    "batch-noise": BatchNoise,
    "generalization": Generalization,
    "geometry": Geometry,
    "gradient-shift": GradientShift,
    "landscape": Landscape,
    "uncertainty": Uncertainty,
    "variance-shift": VarianceShift,
}


def probed(
    config: RunConfig,
    seed: int,
    splits: Splits,
    probes: Mapping[str, Mapping[str, Any]],
    *,
    device: str = "cpu",
) -> Record:
    """Train one network with probes.

    Parameters
    ----------
    config, seed, splits, device
        As of :func:`~bnstudy.engines.reference.train`.
    probes
        Options by the name of the probe.

    Returns
    -------
    Record
        With ``measures`` if there are probes.

    Raises
    ------
    ConfigError
        If there is no such probe, or its options are impossible.
    """
    made = _made(config, seed, splits, probes)
    try:
        record = train(config, seed, splits, device=device, observers=list(made.values()))
    finally:
        frames = _closed(made)
    return _with_measures(record, frames)


def probed_stack(
    config: RunConfig,
    seeds: Sequence[int],
    splits: Splits,
    probes: Mapping[str, Mapping[str, Any]],
    *,
    device: str = "cpu",
) -> list[Record]:
    """Train several seeds in lockstep, with probes that look at chosen moments.

    Parameters and errors as of :func:`probed` and
    :func:`~bnstudy.engines.lockstep.train_stack`; see :func:`at_moments`.
    """
    made = [_made(config, seed, splits, probes) for seed in seeds]
    watching = [cast(list[MomentObserver], list(each.values())) for each in made]
    try:
        records = train_stack(config, seeds, splits, device=device, observers=watching)
    finally:
        frames = [_closed(each) for each in made]
    return [_with_measures(*pair) for pair in zip(records, frames, strict=True)]


def at_moments(probes: Iterable[str]) -> bool:
    """Return whether all these probes look at chosen moments, not at every step."""
    return all(issubclass(cast(type, PROBES[name]), Moments) for name in probes if name in PROBES)


def modules_of(probes: Iterable[str]) -> list[str]:
    """Return the modules whose code, with what they import, decides what probes see."""
    return sorted({PROBES[name].__module__ for name in probes if name in PROBES})


def _made(
    config: RunConfig, seed: int, splits: Splits, probes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Probe]:
    for name in probes:
        if name not in PROBES:
            raise ConfigError(f"there is no probe {name!r}: choose one of {', '.join(PROBES)}")
    scene = Scene(config, seed, splits)
    return {name: PROBES[name](scene, **options) for name, options in probes.items()}


def _closed(made: Mapping[str, Probe]) -> list[pd.DataFrame]:
    return [probe.close().assign(probe=name) for name, probe in made.items()]


def _with_measures(record: Record, frames: list[pd.DataFrame]) -> Record:
    if not frames:
        return record
    measures = pd.concat(frames, ignore_index=True)[list(MEASURE_COLUMNS)]
    return dataclasses.replace(record, measures=measures)
