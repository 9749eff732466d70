"""A finished run with its rows of the study's tables, and a number that was read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.plan import DataIdentity, Plan
from bnstudy.runs.tables import KEY_COLUMNS, Tables

RunName = tuple[str, str, int]  # experiment, arm, seed


@dataclass(frozen=True)
class Reading:
    """A number read of a run.

    Attributes
    ----------
    value
        Finite.
    censored
        Whether the true one is at least this, but was not seen.
    """

    value: float
    censored: bool = False


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes
    ----------
    config
        Its settings.
    diverged
        Whether its loss stopped being finite.
    steps_per_epoch
        Optimizer steps in one epoch.
    curve, norms, measures
        Its rows of the study's tables, in the order of steps.
    data
        The images it was trained and tested on.
    readings
        What has been read of it already: claims and exhibits often read the same.
    """

    config: RunConfig
    diverged: bool
    steps_per_epoch: int
    curve: pd.DataFrame
    norms: pd.DataFrame
    measures: pd.DataFrame
    data: DataIdentity
    readings: dict[Any, Reading] = field(default_factory=dict, repr=False)


def finished_runs(plan: Plan, tables: Tables) -> Mapping[RunName, Run]:
    """Return every finished run that the plan asks for, in the order of arms and seeds."""
    arms = {
        (planned.experiment.name, arm.name): arm
        for planned in plan.experiments
        for arm in planned.arms
    }
    curves, norms, measures = map(_by_run, (tables.curves, tables.norms, tables.measures))
    rows = tables.runs[tables.runs["status"].isin(("done", "diverged"))]
    finished = {
        (row["experiment"], row["arm"], int(row["seed"])): row for row in rows.to_dict("records")
    }
    runs = {}
    for name, arm in arms.items():
        for seed in sorted(plan.seeds_of(arm)):
            row = finished.get((*name, seed))
            if row is None:
                continue
            runs[(*name, seed)] = Run(
                config=arm.config,
                diverged=row["status"] == "diverged",
                steps_per_epoch=int(row["steps_per_epoch"]),
                curve=curves.get((*name, seed), tables.curves.iloc[:0]),
                norms=norms.get((*name, seed), tables.norms.iloc[:0]),
                measures=measures.get((*name, seed), tables.measures.iloc[:0]),
                data=plan.data,
            )
    return runs


def _by_run(table: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    """Return each run's rows, in the order of steps where they have any.

    They mostly are in that order already, and then millions of rows are not copied again.
    """
    found = dict(list(table.groupby(KEY_COLUMNS, observed=True)))
    if "step" not in table:
        return found
    return {
        key: rows
        if rows["step"].is_monotonic_increasing
        else rows.sort_values("step", kind="stable")
        for key, rows in found.items()
    }
