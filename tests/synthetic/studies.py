"""Plans of the example experiments, and the tables that a store would return had they been run."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.engines.run_record import CURVE_COLUMNS, MEASURE_COLUMNS, NORM_COLUMNS
from bnstudy.plan import Claim, Plan, PlannedExperiment, PlannedRun
from bnstudy.runs.tables import KEY_COLUMNS, Tables
from tests.identities import FASHION, SAMPLE
from tests.synthetic.examples import convergence, source, speed
from tests.synthetic.records import formula_record, given_record, random_record

BY_FORMULA = ("batches", "square", "probed")
ROW_COLUMNS = [*KEY_COLUMNS, "status", "id", "steps", "steps_per_epoch"]


def plan(*experiments: PlannedExperiment, seeds: int = 6, sample: bool = False) -> Plan:
    """Return a plan of these experiments; of ``source`` and ``convergence`` if none is given."""
    data = SAMPLE if sample else FASHION
    return Plan("quick", tuple(range(seeds)), data, experiments or (source(), convergence()))


def claims_plan(*claims: Claim, seeds: int = 10, arms: Sequence[str] = ("none", "bn")) -> Plan:
    """Return a plan of ``speed`` alone, with these claims."""
    return plan(speed(*claims, arms=arms), seeds=seeds)


def tables(
    plan: Plan,
    reached: Mapping[str, Sequence[float]] | None = None,
    values: Mapping[str, Mapping[str, Sequence]] | None = None,
    *,
    missing: Collection[str | tuple[str, int]] = (),
    diverged: Collection[str | tuple[str, int]] = (),
) -> Tables:
    """Return the tables of a study.

    Parameters
    ----------
    plan
        The study.
    reached
        Of ``speed``, by arm: the step at which each seed's validation
        accuracy rises from 0.2 to 0.9, NaN for never; 50 if not given.
    values
        Of ``speed``, by arm and column of the curve: what each seed has at the
        end of every epoch, one number or one per epoch.
    missing, diverged
        Arms, or pairs of arm and seed, whose runs are missing or diverged.
    """
    # one generator for the whole study: what a run draws depends on the runs before it
    rng = np.random.default_rng(5)
    rows, curves, norms, measures = [], [], [], []
    for number, run in enumerate(plan.runs):
        key = {"experiment": run.experiment, "arm": run.arm.name, "seed": run.seed}
        row = {**key, "id": f"{number:012d}"}
        if _listed(run, missing):
            rows.append({**row, "status": "missing"})
            continue
        lost = _listed(run, diverged)
        if run.experiment == "speed":
            record = given_record(run, lost, reached or {}, values or {})
        elif run.experiment in BY_FORMULA:
            record = formula_record(run, lost)
        else:
            record = random_record(run, lost, rng)
        rows.append({**row, "status": "diverged" if lost else "done", **record.row})
        found = (record.curve, record.norms, record.measures)
        for frames, frame in zip((curves, norms, measures), found, strict=True):
            if frame is not None:
                frames.append(frame.assign(**key))
    return Tables(
        _row_frame(rows),
        _stacked(curves, CURVE_COLUMNS),
        _stacked(norms, NORM_COLUMNS),
        _stacked(measures, MEASURE_COLUMNS),
    )


def shuffled(tables: Tables) -> Tables:
    """Return the same tables with their rows in another order."""
    mixed = (
        frame.sample(frac=1.0, random_state=3).reset_index(drop=True)
        for frame in (tables.runs, tables.curves, tables.norms, tables.measures)
    )
    return Tables(*mixed)


def _listed(run: PlannedRun, gaps: Collection[str | tuple[str, int]]) -> bool:
    return run.arm.name in gaps or (run.arm.name, run.seed) in gaps


def _row_frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*ROW_COLUMNS, *frame.columns.difference(ROW_COLUMNS, sort=True)])


def _stacked(frames: list[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    wanted = [*KEY_COLUMNS, *columns]
    if not frames:
        return pd.DataFrame(columns=wanted)
    return pd.concat(frames, ignore_index=True)[wanted]
