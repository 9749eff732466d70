"""The probes by name, and how a run is trained with them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.data import Splits
from bnstudy.errors import ConfigError
from bnstudy.probes.base import Probe, Scene
from bnstudy.probes.batch_noise import BatchNoise
from bnstudy.probes.geometry import Geometry
from bnstudy.probes.gradient_shift import GradientShift
from bnstudy.probes.landscape import Landscape
from bnstudy.probes.recording import Activations
from bnstudy.probes.uncertainty import Uncertainty
from bnstudy.probes.variance_shift import VarianceShift
from bnstudy.record import MEASURE_COLUMNS, Record
from bnstudy.training import train

PROBES: Mapping[str, Callable[..., Probe]] = {
    "activations": Activations,
    "batch-noise": BatchNoise,
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
        As of :func:`~bnstudy.training.train`.
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
    for name in probes:
        if name not in PROBES:
            raise ConfigError(f"there is no probe {name!r}: choose one of {', '.join(PROBES)}")
    scene = Scene(config, seed, splits)
    made = {name: PROBES[name](scene, **options) for name, options in probes.items()}
    frames: dict[str, pd.DataFrame] = {}
    try:
        record = train(config, seed, splits, device=device, observers=list(made.values()))
    finally:
        frames = {name: probe.close() for name, probe in made.items()}
    if not frames:
        return record
    parts = [frame.assign(probe=name) for name, frame in frames.items()]
    measures = pd.concat(parts, ignore_index=True)[list(MEASURE_COLUMNS)]
    return dataclasses.replace(record, measures=measures)
