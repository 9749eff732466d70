"""What the store has on one experiment, arranged for the makers of exhibits.

Everything here is a number or a tidy table; writing them out is the makers'
work.  Rows are sorted and cut to the plan first, so that neither the order in
which runs finished nor a run beyond the plan can change a report.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bnstudy.inference import restricted_steps
from bnstudy.networks.lenet import CLASSES
from bnstudy.plan import Arm, Plan, PlannedExperiment
from bnstudy.runs.tables import Tables

CHANCE = 1.0 / CLASSES


@dataclass(frozen=True)
class Evidence:
    """The finished runs of one experiment.

    Attributes
    ----------
    plan, planned
        The study, and which of its experiments this is.
    runs, curves, norms, measures
        The store's tables, cut to the experiment, in the order of arms and seeds.
    """

    plan: Plan
    planned: PlannedExperiment
    runs: pd.DataFrame
    curves: pd.DataFrame
    norms: pd.DataFrame
    measures: pd.DataFrame

    @classmethod
    def of(cls, plan: Plan, planned: PlannedExperiment, tables: Tables) -> "Evidence":
        """Cut the store's tables to one experiment and sort them."""
        return cls(
            plan,
            planned,
            _cut(plan, planned, tables.runs, []),
            _cut(plan, planned, tables.curves, ["step"]),
            _cut(plan, planned, tables.norms, ["layer", "channel"]),
            _cut(plan, planned, tables.measures, ["probe", "step", "layer", "tensor", "stat"]),
        )

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

    def finished(self, arm: str, status: str | None = None) -> list[int]:
        """Return the seeds of an arm that are done or diverged, or of one status."""
        wanted = ("done", "diverged") if status is None else (status,)
        return [seed for seed, found in self._seeds.get(arm, ()) if found in wanted]

    @cached_property
    def _seeds(self) -> dict[str, list[tuple[int, str]]]:
        """Seed and status of every run, by arm: asked for hundreds of times a page."""
        found: dict[str, list[tuple[int, str]]] = {}
        for arm, seed, status in self.runs[["arm", "seed", "status"]].itertuples(index=False):
            found.setdefault(arm, []).append((int(seed), status))
        return found

    def curve(self, arm: str) -> pd.DataFrame:
        """Return the curves of an arm's seeds."""
        return self.curves[self.curves["arm"] == arm]

    def measured(
        self,
        arms: Iterable[Arm],
        layers: Iterable[str],
        tensor: str,
        stats: Iterable[str],
        probe: str = "activations",
        *,
        channels: bool = False,
    ) -> pd.DataFrame:
        """Return what a probe, by default the activation recorder, saw of some layers.

        Returns
        -------
        pandas.DataFrame
            Columns ``arm``, ``layer``, ``seed``, ``epoch``, ``stat``, ``value``; of whole
            tensors, or of channels, then with the column ``channel`` too.
        """
        rows = self.measures
        rows = rows[
            (rows["probe"] == probe)
            & ((rows["channel"] >= 0) if channels else (rows["channel"] == -1))
            & (rows["tensor"] == tensor)
            & rows["arm"].isin([arm.name for arm in arms])
            & rows["layer"].isin(list(layers))
            & rows["stat"].isin(list(stats))
        ]
        per_epoch = self.runs.groupby("arm")["steps_per_epoch"].first()
        epoch = rows["step"].astype(float) / rows["arm"].map(per_epoch).astype(float)
        columns = ["arm", "layer", "seed", "epoch", "stat", "value", *["channel"] * channels]
        rows = rows.assign(epoch=epoch, value=rows["value"].astype(float))
        words = dict.fromkeys(("arm", "layer", "stat"), str)  # in the store they are categories
        return rows[columns].reset_index(drop=True).astype(words)

    def horizon(self, arms: Iterable[Arm]) -> float:
        """Return the last step that every one of these arms was to be watched to; NaN if unknown.

        An arm without a finished run does not count.
        """
        lasts = []
        for arm in arms:
            rows = self.runs[self.runs["arm"] == arm.name]
            per_epoch = rows["steps_per_epoch"].dropna()
            if len(per_epoch):
                lasts.append(float(per_epoch.iloc[0]) * arm.config.epochs)
        return min(lasts, default=float("nan"))

    def steps_to(self, target: float, arm: Arm, horizon: float) -> pd.DataFrame:
        """Return when each seed of an arm first had a validation accuracy of ``target``.

        Returns
        -------
        pandas.DataFrame
            Columns ``arm``, ``seed``, ``steps`` and ``censored``.  A run that
            did not get there by the horizon, or diverged before, has the
            horizon as its steps and is censored.
        """
        curve = self.curve(arm.name)
        there = curve[curve["validation_accuracy"] >= target]
        first = there.groupby("seed")["step"].min()
        seeds = self.finished(arm.name)
        reached = np.array([first.get(seed, np.nan) for seed in seeds], dtype=float)
        return pd.DataFrame(
            {
                "arm": pd.Series([arm.name] * len(seeds), dtype=object),
                "seed": pd.Series(seeds, dtype=int),
                "steps": restricted_steps(reached, horizon) if seeds else reached,
                "censored": ~(reached <= horizon),
            }
        )

    def last_values(
        self,
        column: str,
        arm: Arm,
        horizon: float = float("inf"),
        epochs: float = float("inf"),
    ) -> pd.DataFrame:
        """Return each seed's last measured accuracy up to a step, or up to an epoch.

        Returns
        -------
        pandas.DataFrame
            Columns ``arm``, ``seed``, ``value``.  A run that diverged counts as
            guessing among the classes: leaving it out would flatter its arm.
        """
        curve = self.curve(arm.name)
        within = (curve["step"] <= horizon) & (curve["epoch"] <= epochs)
        curve = curve[within & curve[column].notna()]
        last = curve.groupby("seed")[column].last()
        diverged = set(self.finished(arm.name, "diverged"))
        values = {
            seed: CHANCE if seed in diverged else float(last.get(seed, np.nan))
            for seed in self.finished(arm.name)
        }
        rows = [(arm.name, seed, value) for seed, value in values.items() if np.isfinite(value)]
        return pd.DataFrame(rows, columns=["arm", "seed", "value"])


def running_means(curve: pd.DataFrame) -> pd.DataFrame:
    """Return training loss and accuracy as means since the start of each epoch.

    A curve's training figures are means since the row before; weighted by the
    images between two rows they add up to what the notes print.

    Parameters
    ----------
    curve
        Of one run: ``epoch``, ``images``, ``train_loss``, ``train_accuracy``,
        rows in the order of steps.

    Returns
    -------
    pandas.DataFrame
        Columns ``epoch``, ``train_loss``, ``train_accuracy``.
    """
    weights = np.diff(curve["images"].to_numpy(dtype=float), prepend=0.0)
    number = np.ceil(curve["epoch"].to_numpy(dtype=float) - 1e-9)  # 1 in the first epoch
    seen = pd.Series(weights).groupby(number).cumsum().to_numpy()
    means = {"epoch": curve["epoch"].to_numpy(dtype=float)}
    for column in ("train_loss", "train_accuracy"):
        sums = pd.Series(weights * curve[column].to_numpy(dtype=float)).groupby(number).cumsum()
        means[column] = sums.to_numpy() / seen
    return pd.DataFrame(means)


def pair_up(
    values: pd.DataFrame, arm: str, baseline: str, column: str
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


def _cut(
    plan: Plan, planned: PlannedExperiment, table: pd.DataFrame, then: list[str]
) -> pd.DataFrame:
    order = {arm.name: place for place, arm in enumerate(planned.arms)}
    mine = (
        (table["experiment"] == planned.experiment.name)
        & table["arm"].isin(list(order))
        & table["seed"].isin(list(plan.seeds))
    )
    kept = table[mine].copy()
    kept["place"] = kept["arm"].map(order).astype(int)
    kept = kept.sort_values(["place", "seed", *then], kind="stable")
    return kept.drop(columns="place").reset_index(drop=True)
