"""Synthetic studies for tests of figures and reports: seeded, realistic, without training."""

import numpy as np
import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.engines.record import MEASURE_COLUMNS
from bnstudy.plan import Arm, DataIdentity, Exhibit, Experiment, Plan, PlannedExperiment
from bnstudy.runs.tables import KEY_COLUMNS, Tables

PER_EPOCH, IMAGES = 235, 60_000
HOSTILE = "<script>alert('x')</script> | `b` $y$ *z* 批量"

PRINTED = {"scratch": ((0.2, 1.1, 0.61), (1.0, 0.7, 0.74), (2.0, 0.46, 0.83), (2.8, 0.41, 0.85))}


def convergence(none: str = "without BN", bn: str = "with BN") -> PlannedExperiment:
    """An experiment of speed: two norms at two learning rates."""
    notes = RunConfig(epochs=4)
    arms = (
        Arm("none", notes, none),
        Arm("bn", notes.replace(norm="bn"), bn),
        Arm("none/lr=3", notes.replace(learning_rate=3.0, epochs=3)),
        Arm("bn/lr=3", notes.replace(norm="bn", learning_rate=3.0, epochs=3)),
    )
    pair = {"arms": ("none", "bn"), "baseline": "none"}
    exhibits = (
        Exhibit("learning-curves", "Curves.", {"arms": ("none", "bn")}),
        Exhibit("steps-to-target", "Steps.", pair),
        Exhibit("learning-rates", "Rates.", {"heads": ("none", "bn")}),
        Exhibit("learning-curves", "Loss.", {"arms": ("none", "bn"), "y": "train_loss"}),
        Exhibit("final-accuracy", "Accuracy.", pair),
    )
    words = ("Is it faster?", "Question?", "Literature.", "Design.", "Limits.")
    experiment = Experiment(
        "convergence", *words, lambda profile: arms, targets=(0.7, 0.8), exhibits=exhibits
    )
    return PlannedExperiment(experiment, arms)


def source(title: str = "The source", images: int = IMAGES) -> PlannedExperiment:
    """An experiment without validation images, beside printed values."""
    notes = RunConfig(train_split="all", epochs=4)
    arms = (
        Arm("scratch", notes.replace(norm="scratch"), "from scratch"),
        Arm("concise", notes.replace(norm="bn"), "torch"),
    )
    exhibits = (
        Exhibit("printed-results", "Printed.", {"printed": PRINTED, "images": images}),
        Exhibit(
            "first-layer-parameters",
            "Parameters.",
            {
                "arm": "scratch",
                "gamma": (0.8, 2.9, 2.7, 4.4, 2.3, 2.6),
                "beta": (-0.7, -1.6, -2.9, 2.4, 1.4, -2.0),
            },
        ),
        Exhibit("evaluation-statistics", "Statistics."),
        Exhibit("final-accuracy", "Accuracy.", {"baseline": "concise"}),
    )
    words = (title, "Question?", "Literature.", "Design.", "Limits.")
    return PlannedExperiment(
        Experiment("source", *words, lambda profile: arms, exhibits=exhibits), arms
    )


def inside() -> PlannedExperiment:
    """An experiment whose runs were watched."""
    notes = RunConfig(epochs=4)
    probes = {"activations": {"every": 47}}
    arms = (
        Arm("none", notes, "without BN", probes=probes),
        Arm("bn", notes.replace(norm="bn"), "with BN", probes=probes),
    )
    lines = {"layers": ("act1", "act4"), "tensor": "grad", "stat": "std", "label": "Gradient"}
    exhibits = (
        Exhibit("percentile-bands", "Bands.", {"layers": ("act1", "act4"), "tensor": "in"}),
        Exhibit("layer-lines", "Ratio.", {**lines, "log": True, "ratio": ("act4", "act1")}),
        Exhibit("layer-lines", "Highest.", {**lines, "percent": True}),
    )
    words = ("Inside", "Question?", "Literature.", "Design.", "Limits.")
    return PlannedExperiment(
        Experiment("inside", *words, lambda profile: arms, exhibits=exhibits), arms
    )


def measures(arm: Arm, steps: int) -> pd.DataFrame:
    """Return what a recorder saw at four points of the first epoch.

    Without BN all percentiles rise by 0.1 from record to record, with it by 0.05, the
    outer two being 2 apart; the gradient of act4 is 1000 times that of act1 without BN,
    and twice with it.
    """
    bare, rows = arm.config.norm == "none", []
    for record in range(4):
        step = record * PER_EPOCH // 4
        if step > steps:
            break
        drift = (0.1 if bare else 0.05) * record
        for layer in ("act1", "act4"):
            for stat, value in (("q15", -1.0), ("q50", 0.0), ("q85", 1.0)):
                rows.append((step, layer, "in", stat, value + drift))
            ratio = 1000.0 if bare else 2.0
            rows.append((step, layer, "grad", "std", 1e-4 * (ratio if layer == "act4" else 1.0)))
    frame = pd.DataFrame(rows, columns=["step", "layer", "tensor", "stat", "value"])
    return frame.assign(probe="activations", channel=-1)


def plan(*experiments: PlannedExperiment, seeds: int = 6, sample: bool = False) -> Plan:
    """Return a plan of these experiments, the first two of the above if none is given."""
    return Plan(
        "quick",
        tuple(range(seeds)),
        DataIdentity("fashion-mnist", "ab" * 32, sample),
        experiments or (source(), convergence()),
    )


def curve(arm: Arm, rng: np.random.Generator, epochs: int) -> pd.DataFrame:
    """Return a curve that rises towards 0.88, slowly without normalization."""
    pace = 0.35 if arm.config.norm == "none" else 1.6
    epoch = np.arange(1, 5 * epochs + 1) / 5
    step = np.round(epoch * PER_EPOCH).astype(int)
    accuracy = 0.88 - 0.78 * np.exp(-pace * rng.uniform(0.8, 1.2) * epoch)
    ends = np.isclose(epoch % 1, 0)
    validated = accuracy + rng.normal(0, 0.004, len(epoch))
    running = np.where(ends, accuracy - rng.uniform(0, 0.1, len(epoch)), np.nan)
    return pd.DataFrame(
        {
            "step": step,
            "epoch": step / PER_EPOCH,
            "images": np.minimum(step * 256, np.ceil(epoch).astype(int) * IMAGES),
            "train_loss": 2.3 * (1 - accuracy) + 0.1,
            "train_accuracy": accuracy,
            "validation_loss": np.where(arm.config.train_split == "all", np.nan, 1 - accuracy),
            "validation_accuracy": np.where(arm.config.train_split == "all", np.nan, validated),
            "test_loss": np.where(ends, 1 - accuracy, np.nan),
            "test_accuracy": running,
            "test_loss_population": np.where(ends, 1 - accuracy, np.nan),
            "test_accuracy_population": np.where(ends, accuracy, np.nan),
        }
    )


def tables(
    plan: Plan,
    *,
    missing: frozenset[str] = frozenset(),
    diverged: frozenset[str] = frozenset(),
) -> Tables:
    """Return the tables of a finished study.

    Parameters
    ----------
    plan
        Whose.
    missing, diverged
        Arms none of whose runs is there, or all of whose runs diverged in the
        first epoch: those with an even seed after two rows, the others at once.
    """
    rng = np.random.default_rng(5)
    rows, curves, norms, measured = [], [], [], []
    for number, run in enumerate(plan.runs):
        where = {"experiment": run.experiment, "arm": run.arm.name, "seed": run.seed}
        if run.arm.name in missing:
            rows.append({**where, "status": "missing", "id": f"{number:012d}"})
            continue
        points = curve(run.arm, rng, run.arm.config.epochs)
        lost = run.arm.name in diverged
        if lost:
            points = points.head(2 if run.seed % 2 == 0 else 0)
        rows.append({**where, **_result(number, len(points) * 47, lost)})
        curves.append(points.assign(**where))
        if run.arm.config.norm != "none":
            norms.append(_norms(rng).assign(**where))
        if run.arm.probes:
            measured.append(measures(run.arm, len(points) * 47).assign(**where))
    columns = [*KEY_COLUMNS, *MEASURE_COLUMNS]
    found = pd.concat(measured, ignore_index=True) if measured else pd.DataFrame(columns=columns)
    return Tables(_stacked(rows), _joined(curves), _joined(norms), found[columns])


def _result(number: int, steps: int, lost: bool) -> dict[str, object]:
    return {
        "status": "diverged" if lost else "done",
        "id": f"{number:012d}",
        "steps": steps,
        "steps_per_epoch": PER_EPOCH,
        "engine": "reference",
        "device": "cpu",
        "threads": 1,
        "git.commit": "c0ffee" * 6,
        "git.dirty": False,
        "images_per_second": 14_835.7,
        "wall_seconds": 61.3,
        "data.source": "folder",
        "machine.system": "Linux",
        "versions.torch": "2.14.1",
    }


def _norms(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": ["norm1"] * 6 + ["norm2"] * 16,
            "channel": [*range(6), *range(16)],
            "gamma": rng.uniform(0.5, 4.5, 22),
            "beta": rng.normal(0, 2, 22),
            "running_mean": rng.normal(0, 1, 22),
            "running_var": rng.uniform(0.5, 2, 22),
        }
    )


def _stacked(rows: list[dict[str, object]]) -> pd.DataFrame:
    columns = ["experiment", "arm", "seed", "status", "id", "steps", "steps_per_epoch"]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*columns, *frame.columns.difference(columns, sort=True)])


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    if frames:
        return pd.concat(frames, ignore_index=True)
    empty = ["experiment", "arm", "seed", "layer", "channel", "gamma", "beta"]
    return pd.DataFrame(
        columns=[*empty, *curve(Arm("x", RunConfig()), np.random.default_rng(0), 1)]
    )


def shuffled(tables: Tables) -> Tables:
    """Return the same tables with their rows in another order."""
    mixed = (
        frame.sample(frac=1.0, random_state=3).reset_index(drop=True)
        for frame in (tables.runs, tables.curves, tables.norms, tables.measures)
    )
    return Tables(*mixed)
