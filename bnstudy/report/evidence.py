"""The finished runs of one experiment, as exhibits ask for them.

Runs are read by :mod:`bnstudy.judging.measures` alone, so that a figure and a claim
never disagree about one.  Rows come in the order of the plan's arms and seeds: neither
the order in which runs finished nor a run beyond the plan can change a report.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bnstudy.errors import ConfigError, NotMeasuredError
from bnstudy.inference import mean_interval, ratio_interval
from bnstudy.judging.measures import Run, RunName, curve_points, probe_rows, read
from bnstudy.plan import Arm, Option, Plan, PlannedExperiment

READING_COLUMNS = ["arm", "seed", "value", "censored"]


@dataclass(frozen=True)
class Evidence:
    """The finished runs of one experiment.

    Attributes
    ----------
    plan, planned
        The study, and which of its experiments this is.
    runs
        All finished runs of the study, from
        :func:`~bnstudy.judging.measures.finished_runs`.
    """

    plan: Plan
    planned: PlannedExperiment
    runs: Mapping[RunName, Run]

    def arms(self, names: Iterable[str] | None = None) -> tuple[Arm, ...]:
        """Return the arms of these names, all if not given.

        Raises
        ------
        ConfigError
            If the experiment has no such arm.
        """
        if names is None:
            return self.planned.arms
        return tuple(self.planned.arm(name) for name in names)

    def targets(self) -> tuple[float, ...]:
        """Return the target accuracies of the experiment, the primary one first.

        Raises
        ------
        ConfigError
            If it has none.
        """
        experiment = self.planned.experiment
        if not experiment.targets:
            raise ConfigError(
                f"steps are read to a target, and experiment {experiment.name!r} has none: "
                "give it targets"
            )
        return experiment.targets

    def runs_of(self, arm: str) -> Iterator[tuple[int, Run]]:
        """Yield seed and run of every finished run of an arm."""
        for seed in sorted(self.plan.seeds):
            run = self.runs.get((self.planned.experiment.name, arm, seed))
            if run is not None:
                yield seed, run

    def finished(self, arm: str, status: str | None = None) -> list[int]:
        """Return the seeds of an arm that are done or diverged, or of one status."""
        return [
            seed
            for seed, run in self.runs_of(arm)
            if status is None or run.diverged == (status == "diverged")
        ]

    def readings(self, arms: Iterable[Arm], measure: str, **options: Option) -> pd.DataFrame:
        """Return what a measure reads of every finished run of some arms.

        Returns
        -------
        pandas.DataFrame
            Columns ``arm``, ``seed``, ``value``, ``censored``; runs that do not hold what
            the measure reads are left out.
        """
        rows = []
        for arm in arms:
            for seed, run in self.runs_of(arm.name):
                try:
                    reading = read(run, measure, options)
                except NotMeasuredError:
                    continue
                rows.append((arm.name, seed, reading.value, reading.censored))
        types = {"arm": object, "seed": int, "value": float, "censored": bool}
        return pd.DataFrame(rows, columns=READING_COLUMNS).astype(types)

    def steps_to(self, target: float, arms: Iterable[Arm], horizon: float) -> pd.DataFrame:
        """Return when each run first had a validation accuracy of ``target``.

        Returns
        -------
        pandas.DataFrame
            As :meth:`readings`.  A run that did not get there by the step ``horizon``, or
            diverged before, has the horizon as its value and is censored.
        """
        return self._joined(
            self.readings([arm], "steps-to-target", target=target, epochs=horizon / per_epoch)
            for arm, per_epoch in self._steps_per_epoch(arms)
        )

    def latest(self, column: str, arms: Iterable[Arm], horizon: float = np.inf) -> pd.DataFrame:
        """Return the last value of a column of the curve measured up to the step ``horizon``.

        Returns
        -------
        pandas.DataFrame
            As :meth:`readings`.
        """
        return self._joined(
            self.readings(
                [arm],
                "latest",
                column=column,
                epochs=min(horizon / per_epoch, float(arm.config.epochs)),
            )
            for arm, per_epoch in self._steps_per_epoch(arms)
        )

    def _steps_per_epoch(self, arms: Iterable[Arm]) -> Iterator[tuple[Arm, int]]:
        """Yield the arms that have a finished run, with their optimizer steps per epoch."""
        for arm in arms:
            first = next(self.runs_of(arm.name), None)
            if first is not None:
                yield arm, first[1].steps_per_epoch

    def _joined(self, frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
        """Return readings of several arms in one table, columns in place even without rows."""
        return pd.concat([self.readings([], ""), *frames], ignore_index=True)

    def series(self, arms: Iterable[Arm], rows: Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
        """Return what a function of :mod:`bnstudy.judging.measures` gives of every run.

        Returns
        -------
        pandas.DataFrame
            Columns ``arm``, ``seed`` and those of the function; without rows only the
            first two.
        """
        frames = []
        for arm in arms:
            for seed, run in self.runs_of(arm.name):
                found = rows(run)
                if len(found):
                    frames.append(found.assign(arm=arm.name, seed=seed))
        if not frames:
            return pd.DataFrame(columns=["arm", "seed"])
        joined = pd.concat(frames, ignore_index=True)
        return joined[["arm", "seed", *joined.columns.drop(["arm", "seed"])]]

    def curves(self, arms: Iterable[Arm], *columns: str) -> pd.DataFrame:
        """Return columns of the learning curves, where all of them were measured.

        Returns
        -------
        pandas.DataFrame
            Columns ``arm``, ``seed``, ``epoch`` and those asked for.
        """
        found = self.series(arms, lambda run: curve_points(run, *columns))
        return found.reindex(columns=["arm", "seed", "epoch", *columns])

    def seen(
        self,
        arms: Iterable[Arm],
        layers: Iterable[str],
        tensor: str,
        stats: Iterable[str] | None = None,
        probe: str = "activations",
        *,
        channels: bool = False,
    ) -> pd.DataFrame:
        """Return what a probe, by default ``activations``, has recorded of some layers.

        Returns
        -------
        pandas.DataFrame
            Columns ``arm``, ``seed``, ``step``, ``epoch``, ``layer``, ``stat``, ``value``; of
            whole tensors, or of channels, then with the column ``channel`` too.
        """
        layers, stats = list(layers), None if stats is None else list(stats)
        found = self.series(
            arms, lambda run: probe_rows(run, probe, tensor, layers, stats, channels=channels)
        )
        columns = ["arm", "seed", "step", "epoch", "layer", "stat", "value"]
        return found.reindex(columns=[*columns, *["channel"] * channels])

    def horizon(self, arms: Iterable[Arm]) -> float:
        """Return the last step that every one of these arms was trained to; NaN if unknown.

        An arm without a finished run does not count.
        """
        lasts = [
            float(per_epoch) * arm.config.epochs for arm, per_epoch in self._steps_per_epoch(arms)
        ]
        return min(lasts, default=float("nan"))


def pair_up(
    values: pd.DataFrame, arm: str, baseline: str, column: str = "value"
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Return the seeds that both arms have, and their values: the arm's, the baseline's."""
    wide = {
        name: values[values["arm"] == name].set_index("seed")[column] for name in (arm, baseline)
    }
    seeds = sorted(set(wide[arm].index) & set(wide[baseline].index))
    mine, theirs = (wide[name].reindex(seeds).to_numpy(dtype=float) for name in (arm, baseline))
    return [int(seed) for seed in seeds], mine, theirs


def grouped(frame: pd.DataFrame, column: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield each value of a column, in order, with its rows."""
    yield from frame.groupby(column, sort=True)


def seed_means(points: pd.DataFrame, by: list[str], *, log: bool = False) -> pd.DataFrame:
    """Return the mean of ``value`` in each group, over seeds, with its interval.

    Parameters
    ----------
    points
        Columns ``by`` and ``value``, one row per seed in each group.
    by
        Columns that make the groups.
    log
        Whether values are positive and their mean is geometric.

    Returns
    -------
    pandas.DataFrame
        Columns ``by``, ``mean``, ``low``, ``high``: NaN where there is no interval.
    """
    rows = []
    for group, at in points.groupby(by, sort=False):
        values = at["value"].to_numpy(dtype=float)
        found = ratio_interval(values, np.ones(len(values))) if log else mean_interval(values)
        ends = (found.low, found.high) if np.isfinite(found.high) else (np.nan, np.nan)
        rows.append((*group, found.estimate, *ends))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high"])


def evenly_spaced(values: Iterable[float], most: int) -> list[float]:
    """Return up to ``most`` of the different values, evenly spaced in their order."""
    there = sorted(set(values))
    return [there[round(k)] for k in np.linspace(0, len(there) - 1, min(most, len(there)))]
