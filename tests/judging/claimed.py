"""Small studies with claims, for tests: every figure of a run is given, nothing is trained."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.engines.record import CURVE_COLUMNS, MEASURE_COLUMNS, NORM_COLUMNS
from bnstudy.plan import (
    Arm,
    Claim,
    DataIdentity,
    Estimand,
    Experiment,
    Pilot,
    Plan,
    PlannedExperiment,
)
from bnstudy.runs.tables import Tables

PER_EPOCH, EPOCHS = 100, 4
HORIZON = PER_EPOCH * EPOCHS
NAN = float("nan")
STEPS = Estimand(
    "steps-to-target", (("bn",), ("none",)), {"target": 0.8, "epochs": EPOCHS}, scale="ratio"
)
ACCURACY = Estimand("accuracy", (("bn",), ("none",)), {"epochs": EPOCHS})


def claim(id: str = "speed", **changes) -> Claim:
    """A claim that BN needs fewer steps, unless changed."""
    settings = {
        "id": id,
        "sentence": "BN reaches the target in fewer steps.",
        "source": "Ioffe & Szegedy 2015",
        "estimand": STEPS,
        "unit": "times",
        "direction": "less",
        "test": "sign-flip",
    }
    return Claim(**{**settings, **changes})


def same(id: str = "same", **changes) -> Claim:
    """A claim that BN leaves final accuracy within one point, unless changed."""
    settings = {
        "sentence": "BN does not change final accuracy.",
        "estimand": ACCURACY,
        "unit": "points",
        "direction": "within",
        "test": "tost",
        "margin": 0.01,
        "pilot": Pilot(0.0, 0.002, (1000, 1001)),
    }
    return claim(id, **{**settings, **changes})


def plan(*claims: Claim, seeds: int = 10, arms: Sequence[str] = ("none", "bn")) -> Plan:
    """A plan of one experiment with these claims."""
    made = tuple(Arm(name, RunConfig(epochs=EPOCHS)) for name in arms)
    words = ("Is it faster?", "Question?", "Literature.", "Design.", "Limits.")
    experiment = Experiment("speed", *words, arms=lambda profile: made)
    data = DataIdentity("fashion-mnist", "ab" * 32, sample=False)
    planned = PlannedExperiment(experiment, made, claims)
    return Plan("quick", tuple(range(seeds)), data, (planned,))


def tables(
    plan: Plan,
    reached: Mapping[str, Sequence[float]] | None = None,
    values: Mapping[str, Mapping[str, Sequence]] | None = None,
    diverged: Sequence[tuple[str, int]] = (),
    missing: Sequence[tuple[str, int]] = (),
) -> Tables:
    """Return the tables of a study.

    Parameters
    ----------
    plan
        Whose.
    reached
        By arm, the step at which each seed's validation accuracy rises from
        0.2 to 0.9, NaN for never; 50 if not given.
    values
        By arm and column of the curve, what each seed has at the end of every
        epoch: one number, or one an epoch.
    diverged, missing
        Arm and seed of runs that diverged at once, or are not there.
    """
    rows, curves = [], []
    for run in plan.runs:
        where = {"experiment": run.experiment, "arm": run.arm.name, "seed": run.seed}
        key = (run.arm.name, run.seed)
        status = "missing" if key in missing else "diverged" if key in diverged else "done"
        known = {} if status == "missing" else {"steps_per_epoch": float(PER_EPOCH)}
        rows.append({**where, "status": status, **known})
        if status == "done":
            rises = (reached or {}).get(run.arm.name, [50.0] * len(plan.seeds))[run.seed]
            given = {
                column: by_seed[run.seed]
                for column, by_seed in (values or {}).get(run.arm.name, {}).items()
            }
            curves.append(curve(rises, given).assign(**where))
    keys = ["experiment", "arm", "seed"]
    stacked = pd.concat(curves) if curves else pd.DataFrame(columns=[*keys, *CURVE_COLUMNS])
    runs = pd.DataFrame(rows).reindex(columns=[*keys, "status", "steps_per_epoch"])
    nothing = (pd.DataFrame(columns=[*keys, *each]) for each in (NORM_COLUMNS, MEASURE_COLUMNS))
    return Tables(runs, stacked, *nothing)


def curve(rises: float, given: Mapping[str, Sequence[float] | float]) -> pd.DataFrame:
    """Return one run's curve: ten points an epoch."""
    step = np.arange(10, HORIZON + 1, 10)
    ends = step % PER_EPOCH == 0
    frame = pd.DataFrame({column: np.full(len(step), 0.5) for column in CURVE_COLUMNS})
    frame["step"] = step
    frame["epoch"] = step / PER_EPOCH
    frame["validation_accuracy"] = np.where(step >= rises, 0.9, 0.2)
    for column in (name for name in CURVE_COLUMNS if name.startswith("test")):
        frame[column] = np.where(ends, 0.85, NAN)
    for column, value in given.items():
        frame.loc[ends, column] = value
    return frame
