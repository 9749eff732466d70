"""Probes: what looks inside a network while the reference engine trains it.

A probe is an observer of :func:`bnstudy.training.train` that ends with a tidy
table.  It leaves no trace: the run is bit by bit the one without it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pandas as pd

from bnstudy.activations import watch
from bnstudy.activations.recorder import Recorder
from bnstudy.config import RunConfig, Step
from bnstudy.data import Splits
from bnstudy.errors import ConfigError
from bnstudy.record import MEASURE_COLUMNS, Record
from bnstudy.training import Training, train


class Probe(Protocol):
    """An observer that ends with a table."""

    def __call__(self, step: Step, training: Training) -> None:
        """Look at a run, first at step 0."""

    def close(self) -> pd.DataFrame:
        """End; return what was seen, :data:`~bnstudy.record.MEASURE_COLUMNS` but ``probe``."""


class Activations:
    """The public recorder: :func:`bnstudy.activations.watch`, with its options."""

    def __init__(self, splits: Splits, **options: Any) -> None:
        self._options = options
        self._recorder: Recorder | None = None

    def __call__(self, step: Step, training: Training) -> None:
        """Attach the recorder before the first step; it sees the others by itself."""
        if step.count == 0:
            self._recorder = watch(training.net, training.optimizer, **self._options)

    def close(self) -> pd.DataFrame:
        """Detach; return the recording."""
        if self._recorder is None:
            return pd.DataFrame(columns=list(MEASURE_COLUMNS[1:]))
        self._recorder.close()
        frame = self._recorder.frame()
        frame = frame.astype(dict.fromkeys(("layer", "tensor", "stat"), str))
        return frame[list(MEASURE_COLUMNS[1:])]


PROBES: Mapping[str, Callable[..., Probe]] = {"activations": Activations}


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
        If there is no such probe.
    """
    for name in probes:
        if name not in PROBES:
            raise ConfigError(f"there is no probe {name!r}: choose one of {', '.join(PROBES)}")
    made = {name: PROBES[name](splits, **options) for name, options in probes.items()}
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
