"""A study whose runs were watched for histograms, gamma and beta, known by construction."""

import pandas as pd

from bnstudy.activations.builtin import bin_labels
from bnstudy.config import RunConfig
from bnstudy.plan import Arm, Exhibit, Experiment, PlannedExperiment
from bnstudy.runs.tables import Tables
from tests.report import studies

BINS = bin_labels("hist", 4, -2.0, 2.0)
STEPS = (0, 100, 235)
MOVED = {0: (0.5, 0.3, 0.1, 0.1, 0.0, 0.0), 1: (0.0, 0.0, 0.1, 0.1, 0.5, 0.3)}


def experiment() -> PlannedExperiment:
    notes = RunConfig(epochs=1)
    probes = {"activations": {}}
    arms = (
        Arm("none", notes, "without BN", probes=probes),
        Arm("bn", notes.replace(norm="bn"), "with BN", probes=probes),
    )
    exhibits = (
        Exhibit("histogram-maps", "Maps.", {"layers": ("act1",)}),
        Exhibit(
            "affine-paths", "Paths.", {"arm": "bn", "layers": ("norm1",), "weights": ("conv1",)}
        ),
    )
    words = ("Inside", "Question?", "Literature.", "Design.", "Limits.")
    return PlannedExperiment(
        Experiment("inside", *words, lambda profile: arms, exhibits=exhibits), arms
    )


def measures(arm: Arm, lost: bool) -> pd.DataFrame:
    """Return what the probes saw at the start, in the middle and at the end.

    Histograms move once, between the last two records: all but 10 % of their values without
    BN, nothing with it.  Gamma of three channels ends at 1.3, 1.4 and 0.5, beta at 0.1, 0.2
    and 0.2; a step of gamma is a tenth of one of the weights.
    """
    rows = []
    for step in STEPS[: 1 if lost else 3]:
        moved = int(arm.name == "none" and step == STEPS[-1])
        for label, share in zip(BINS, MOVED[moved], strict=True):
            rows.append(("activations", step, "act1", "in", -1, label, share))
        if arm.name == "none":
            continue
        far = step / STEPS[-1]
        for channel, (gamma, beta) in enumerate(((0.3, 0.1), (0.4, 0.2), (-0.5, 0.2))):
            rows.append(("affine", step, "norm1", "gamma", channel, "value", 1 + far * gamma))
            rows.append(("affine", step, "norm1", "beta", channel, "value", far * beta))
        for layer, ratio in (("norm1", 0.002), ("conv1", 0.02)):
            rows.append(("activations", step, layer, "weight", -1, "update_ratio", ratio))
    columns = ["probe", "step", "layer", "tensor", "channel", "stat", "value"]
    return pd.DataFrame(rows, columns=columns)


def tables(plan, **gaps) -> Tables:
    made = studies.tables(plan, **gaps)
    away, lost = gaps.get("missing", frozenset()), gaps.get("diverged", frozenset())
    seen = [
        measures(run.arm, run.arm.name in lost).assign(
            experiment=run.experiment, arm=run.arm.name, seed=run.seed
        )
        for run in plan.runs
        if run.arm.name not in away
    ]
    there = pd.concat(seen)[made.measures.columns] if seen else made.measures
    return Tables(made.runs, made.curves, made.norms, there)
