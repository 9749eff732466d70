"""Studies of batch sizes, of a 2x2 and of probes, every number by a formula, for report tests."""

import numpy as np
import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.engines.record import CURVE_COLUMNS, MEASURE_COLUMNS, NORM_COLUMNS
from bnstudy.plan import Arm, DataIdentity, Exhibit, Experiment, Plan, PlannedExperiment
from bnstudy.runs.tables import Tables
from tests.judging import claimed

SIZES = (8, 16, 32, 64, 128)
NORMS = {"none": "no BN", "bn": "BN"}
RANKED = ("bn/B=8", "bn/B=32", "none/B=8", "bn/B=16")
SQUARE = ("bn+dropout", "bn", "none+dropout", "none")
LAYERS = ("norm1", "norm2")
SHIFTS = {"before": -1.0, "after": 0.0}  # predicted log ratio
READINGS = {"running": "running averages", "batches": "averaging over batches"}
BEND = {"none": 16, "bn": 64}  # steps halve up to this size, and stay beyond
LANDSCAPE = {
    "probe": "landscape",
    "layer": "network",
    "tensor": "loss",
    "stats": {"beta": "change per weight", "loss_range": "range of the loss"},
    "log": True,
}


def batches() -> PlannedExperiment:
    """Both kinds at every batch size."""
    arms = tuple(
        Arm(f"{norm}/B={size}", RunConfig(epochs=claimed.EPOCHS, norm=norm, batch_size=size))
        for norm in NORMS
        for size in SIZES
    )
    exhibits = (
        Exhibit("accuracy-by-batch", "Accuracy.", {"norms": NORMS}),
        Exhibit("steps-by-batch", "Steps.", {"norms": NORMS}),
        Exhibit("kaplan-meier", "Shares.", {"arms": ("none/B=8", "bn/B=8")}),
        Exhibit("ranking", "Steps.", {"arms": RANKED}),
        Exhibit("ranking", "Accuracy.", {"arms": RANKED, "baseline": "bn/B=32", "of": "accuracy"}),
    )
    return _planned("batches", arms, exhibits, targets=(0.8,))


def square() -> PlannedExperiment:
    """A 2x2 of normalization and dropout."""
    arms = tuple(Arm(name, RunConfig(epochs=claimed.EPOCHS)) for name in SQUARE)
    options = {"arms": SQUARE, "treatments": ("BN", "dropout")}
    return _planned("square", arms, (Exhibit("interaction", "Square.", options),))


def probed() -> PlannedExperiment:
    """Two arms with every probe."""
    arms = tuple(
        Arm(name, RunConfig(epochs=claimed.EPOCHS), f"{name} BN", probes={"landscape": {}})
        for name in SHIFTS
    )
    exhibits = (
        Exhibit("batch-noise", "Noise.", {"arm": "before", "layers": LAYERS}),
        Exhibit("variance-shift", "Shift.", {"layers": LAYERS}),
        Exhibit("probe-bands", "Bands.", LANDSCAPE),
        Exhibit("probe-bands", "By loss.", {**LANDSCAPE, "against_loss": True}),
        Exhibit(
            "probe-readings",
            "Readings.",
            {"probe": "uncertainty", "stat": "nll", "label": "NLL", "readings": READINGS},
        ),
    )
    return _planned("probed", arms, exhibits)


def _planned(name, arms, exhibits, targets=()):
    words = ("Title", "Question?", "Literature.", "Design.", "Limits.")
    experiment = Experiment(name, *words, lambda profile: arms, targets=targets, exhibits=exhibits)
    return PlannedExperiment(experiment, arms)


def plan(*experiments: PlannedExperiment, seeds: int = 4) -> Plan:
    """Return a plan of these, or of all three."""
    data = DataIdentity("fashion-mnist", "ab" * 32, sample=False)
    return Plan("quick", tuple(range(seeds)), data, experiments or (batches(), square(), probed()))


def accuracy(arm: Arm, seed: int) -> float:
    """Accuracy at the end: by batch size for ``bn/B=``, by cell for the 2x2."""
    if arm.name in SQUARE:
        return {"bn+dropout": 0.80, "bn": 0.82, "none+dropout": 0.60, "none": 0.70}[
            arm.name
        ] + 0.01 * seed
    size = arm.config.batch_size
    return 0.7 + (0.01 * np.log2(size) if arm.name.startswith("bn") else 0.0) + 0.002 * seed


def reached(arm: Arm, seed: int) -> float:
    """Step at which the target is reached: in proportion to the batch up to its bend."""
    if "/B=" not in arm.name:
        return 100.0
    norm, size = arm.name.split("/")[0], arm.config.batch_size
    return 320.0 * 8 / min(size, BEND[norm])


def measures(arm: Arm, seed: int) -> pd.DataFrame:
    """What the probes saw: noise of 2 / sqrt(B), a shift 1.5 times the predicted, ..."""
    rows = []
    last = claimed.HORIZON
    for step in (0, last):
        for layer in LAYERS:
            for size in SIZES:
                for stat, factor in (("mean_noise", 2.0), ("sd_noise", 1.0)):
                    value = factor * size**-0.5
                    rows.append((step, "batch-noise", layer, "in", f"{stat}_{size}", value))
        # BN's loss falls from 2 to 1, the other's from 2.5 to 1.5; beta doubles
        loss = (2.0 if arm.name == "after" else 2.5) - step / last
        beta = 6.0 if arm.name == "after" else 2.0
        for stat, value in (("beta", beta), ("loss_range", 0.5 * beta), ("loss", loss)):
            rows.append((step, "landscape", "network", "loss", stat, value))
        # likelihood losses are halved by training, and batches take 0.25 off
        halved = 1.0 if step else 2.0
        for tensor, gain in (("running", 0.0), ("batches", 0.25)):
            nll = halved + 0.1 * seed - gain
            rows.append((step, "uncertainty", "network", tensor, "nll", nll))
    for layer in LAYERS:
        predicted = SHIFTS[arm.name]
        noise = 0.01 * (seed - 1.5)
        rows.append((last, "variance-shift", layer, "in", "predicted", predicted))
        rows.append((last, "variance-shift", layer, "in", "observed", 1.5 * predicted + noise))
    columns = ["step", "probe", "layer", "tensor", "stat", "value"]
    return pd.DataFrame(rows, columns=columns).assign(channel=-1)


def tables(plan: Plan, *, missing=frozenset(), diverged=frozenset()) -> Tables:
    """Return the tables of a study, but for the runs of missing arms."""
    rows, curves, seen = [], [], []
    for run in plan.runs:
        where = {"experiment": run.experiment, "arm": run.arm.name, "seed": run.seed}
        name = run.arm.name
        status = "missing" if name in missing else "diverged" if name in diverged else "done"
        known = {} if status == "missing" else {"steps_per_epoch": float(claimed.PER_EPOCH)}
        rows.append({**where, "status": status, **known})
        if status != "done":
            continue
        given = {"test_accuracy_population": accuracy(run.arm, run.seed)}
        curves.append(claimed.curve(reached(run.arm, run.seed), given).assign(**where))
        if run.arm.probes:
            seen.append(measures(run.arm, run.seed).assign(**where))
    keys = ["experiment", "arm", "seed"]

    def joined(frames, columns):
        found = pd.concat(frames) if frames else pd.DataFrame(columns=[*keys, *columns])
        return found[[*keys, *columns]].reset_index(drop=True)

    runs = pd.DataFrame(rows).reindex(columns=[*keys, "status", "steps_per_epoch"])
    return Tables(
        runs, joined(curves, CURVE_COLUMNS), joined([], NORM_COLUMNS), joined(seen, MEASURE_COLUMNS)
    )
