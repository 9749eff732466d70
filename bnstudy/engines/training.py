"""The one function that trains runs: some seeds of a config, by either engine, with probes or not.

Whichever engine trains a run, it is the same run to rounding: same initial
weights, same order of images, same dropout masks and noise.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.data import Splits
from bnstudy.engines.lockstep import train_stack
from bnstudy.engines.observer import Observer, ScheduledObserver
from bnstudy.engines.probes import Probe, ProbedRun, make
from bnstudy.engines.reference import train as train_by_reference
from bnstudy.engines.run_record import MEASURE_COLUMNS, Record
from bnstudy.errors import ConfigError, find

Options: TypeAlias = Mapping[str, Mapping[str, Any]]
Observers: TypeAlias = Sequence[Sequence[Observer]]


def train(
    config: RunConfig,
    seeds: Sequence[int],
    splits: Splits,
    *,
    probes: Options | None = None,
    engine: str = "reference",
    device: str = "cpu",
    observers: Observers = (),
) -> list[Record]:
    """Train networks of one config, one per seed, and record them.

    Parameters
    ----------
    config, seeds
        Determine the runs.
    splits
        The images of ``bnstudy.data.split(dataset, config)``.
    probes
        Options by the name of the probe; see :data:`bnstudy.engines.probes.PROBES`.
    engine
        ``reference``, which trains any config, one network after the other; or
        ``lockstep``, which trains them together, as far as it can (see
        :func:`bnstudy.engines.lockstep.unsupported`).
    device
        A torch device, such as ``cpu`` or ``cuda``.
    observers
        For each seed its observers, called before the probes.  The lockstep
        engine needs a :class:`~bnstudy.engines.observer.ScheduledObserver`.

    Returns
    -------
    list of Record
        One per seed, in their order, with ``measures`` if there are probes.

    Raises
    ------
    ConfigError
        If the engine or a probe is unknown, a probe's options are impossible,
        observers are not given for every seed, or the engine cannot train such runs
        (see :func:`bnstudy.engines.reference.train` and
        :func:`bnstudy.engines.lockstep.train_stack`).
    """
    train_seeds = find("engine", engine, ENGINES)
    if observers and len(observers) != len(seeds):
        raise ConfigError(
            f"observers must be given for each seed, got {len(observers)} lists for "
            f"{len(seeds)} seeds"
        )
    per_seed = observers or [()] * len(seeds)
    return train_seeds(config, seeds, splits, probes or {}, device, per_seed)


def _by_reference(
    config: RunConfig,
    seeds: Sequence[int],
    splits: Splits,
    probes: Options,
    device: str,
    observers: Observers,
) -> list[Record]:
    records = []
    for seed, own in zip(seeds, observers, strict=True):
        made = make(probes, ProbedRun(config, seed, splits))
        watching: list[Observer] = [*own, *made.values()]
        try:
            record = train_by_reference(config, seed, splits, device=device, observers=watching)
        finally:  # a probe may have hooks in the network or a file open
            frames = _close(made)
        records.append(_with_measures(record, frames))
    return records


def _in_lockstep(
    config: RunConfig,
    seeds: Sequence[int],
    splits: Splits,
    probes: Options,
    device: str,
    observers: Observers,
) -> list[Record]:
    made = [make(probes, ProbedRun(config, seed, splits)) for seed in seeds]
    watching = [
        _scheduled([*own, *of_seed.values()]) for own, of_seed in zip(observers, made, strict=True)
    ]
    try:
        records = train_stack(config, seeds, splits, device=device, observers=watching)
    finally:
        frames = [_close(each) for each in made]
    return [_with_measures(*pair) for pair in zip(records, frames, strict=True)]


ENGINES: Mapping[str, Callable[..., list[Record]]] = {
    "reference": _by_reference,
    "lockstep": _in_lockstep,
}


def _scheduled(observers: Sequence[Observer]) -> list[ScheduledObserver]:
    for observer in observers:
        if not hasattr(observer, "steps"):
            raise ConfigError(
                "the lockstep engine calls observers at scheduled steps, but "
                f"{type(observer).__name__} has no method 'steps': choose the reference engine"
            )
    return cast(list[ScheduledObserver], list(observers))


def _close(made: Mapping[str, Probe]) -> list[pd.DataFrame]:
    return [probe.close().assign(probe=name) for name, probe in made.items()]


def _with_measures(record: Record, frames: list[pd.DataFrame]) -> Record:
    if not frames:
        return record
    measures = pd.concat(frames, ignore_index=True)[list(MEASURE_COLUMNS)]
    return dataclasses.replace(record, measures=measures)
