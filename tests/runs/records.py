"""Records, plans and keys of runs that nobody trained, for tests of the store."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.engines.run_record import CURVE_COLUMNS, NORM_COLUMNS, Record
from bnstudy.plan import Arm, Experiment, PlannedRun, Profile, make_plan
from bnstudy.runs.store import identify
from tests.identities import FASHION

DATA = replace(FASHION, digest="d" * 64)


def record(status="done", steps=10, weights="w", order="o") -> Record:
    """Return the record of a run of two evaluation points and one normalization layer."""
    curve = pd.DataFrame({name: np.linspace(0, 1, 2) for name in CURVE_COLUMNS})
    curve["step"], curve["images"] = [5, 10], [500, 1000]
    curve.loc[0, "test_accuracy"] = np.nan
    norms = pd.DataFrame([("norm1", 0, 1.0, 0.0, 0.5, np.nan)], columns=list(NORM_COLUMNS))
    return Record(status, steps, 5, curve, norms, weights, order, {"training": 1.5})


def plan(arms=("none", "bn"), seeds=2, targets=(0.7,), profile_name="quick", data=DATA, **changes):
    """Return a plan of one experiment, an arm per normalization, with changed settings."""
    made = tuple(Arm(arm, RunConfig(norm=arm, **changes)) for arm in arms)
    experiment = Experiment("speed", "T", "Q", "L", "D", "S", lambda profile: made, targets)
    profile = Profile(profile_name, seeds, "")
    return make_plan((experiment,), profile, data)


def key(arm="bn", seed=0, **changes):
    """Return the key of a run of BN with changed settings."""
    return identify(PlannedRun("speed", Arm(arm, RunConfig(norm="bn", **changes)), seed), "d" * 64)


def cut(path: Path) -> None:
    """Remove the last bytes of a file."""
    path.write_bytes(path.read_bytes()[:-7])
