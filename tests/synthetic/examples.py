"""The example experiments of synthetic studies: arms, exhibits and claims."""

import dataclasses
from collections.abc import Sequence

from bnstudy.config import RunConfig
from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Pilot, PlannedExperiment

NAN = float("nan")
HOSTILE = "<script>alert('x')</script> | `b` $y$ *z* 批量"

# Random curves have the notes' sizes.
STEPS_PER_EPOCH, IMAGES = 235, 60_000
PRINTED = {"scratch": ((0.2, 1.1, 0.61), (1.0, 0.7, 0.74), (2.0, 0.46, 0.83), (2.8, 0.41, 0.85))}

# Curves by formula have round numbers.
EPOCHS = 4
HORIZON = 100 * EPOCHS
STEPS = Estimand(
    "steps-to-target", (("bn",), ("none",)), {"target": 0.8, "epochs": EPOCHS}, scale="ratio"
)
# Steps to the target of ten seeds.
FAST = [80, 90, 100, 110, 120, 80, 90, 100, 110, 120]
SLOW = [240, 260, 280, 300, 320, 340, 240, 250, 260, 270]
ACCURACY = Estimand("accuracy", (("bn",), ("none",)), {"epochs": EPOCHS})
SLOPE = Estimand("loss", (("a", "b"),), {"epochs": 1}, summary="slope", levels=(2, 4))
ORDER = dataclasses.replace(SLOPE, summary="order")
BATCH_SIZES = (8, 16, 32, 64, 128)
NORMS = {"none": "no BN", "bn": "BN"}
RANKED = ("bn/B=8", "bn/B=32", "none/B=8", "bn/B=16")
CELLS = ("bn+dropout", "bn", "none+dropout", "none")
LAYERS = ("norm1", "norm2")
READINGS = {"running": "running averages", "batches": "averaging over batches"}
LANDSCAPE = {
    "probe": "landscape",
    "layer": "network",
    "tensor": "loss",
    "stats": {"beta": "change per weight", "loss_range": "range of the loss"},
    "log": True,
}


def claim(id: str = "speed", **changes: object) -> Claim:
    """Return a claim that BN needs fewer steps, unless changed."""
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


def accuracy_claim(id: str = "same", **changes: object) -> Claim:
    """Return a claim that BN leaves final accuracy within one point, unless changed."""
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


def speed(*claims: Claim, arms: Sequence[str] = ("none", "bn")) -> PlannedExperiment:
    """Return an experiment with claims and without exhibits; a test gives its runs' numbers."""
    made = tuple(Arm(name, RunConfig(epochs=EPOCHS)) for name in arms)
    return _planned("speed", made, claims=claims, title="Is it faster?")


def convergence(none: str = "without BN", bn: str = "with BN") -> PlannedExperiment:
    """Return an experiment of speed: two norms at two learning rates, with these labels."""
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
    return _planned("convergence", arms, exhibits, targets=(0.7, 0.8), title="Is it faster?")


def source(title: str = "The source", images: int = IMAGES) -> PlannedExperiment:
    """Return an experiment without validation images, beside printed values."""
    notes = RunConfig(train_split="all", epochs=4)
    arms = (
        Arm("scratch", notes.replace(norm="scratch"), "from scratch"),
        Arm("concise", notes.replace(norm="bn"), "torch"),
    )
    parameters = {
        "arm": "scratch",
        "gamma": (0.8, 2.9, 2.7, 4.4, 2.3, 2.6),
        "beta": (-0.7, -1.6, -2.9, 2.4, 1.4, -2.0),
    }
    exhibits = (
        Exhibit("printed-results", "Printed.", {"printed": PRINTED, "images": images}),
        Exhibit("first-layer-parameters", "Parameters.", parameters),
        Exhibit("evaluation-statistics", "Statistics."),
        Exhibit("final-accuracy", "Accuracy.", {"baseline": "concise"}),
    )
    return _planned("source", arms, exhibits, title=title)


def inside() -> PlannedExperiment:
    """Return an experiment whose runs recorded percentiles of activations and gradients."""
    lines = {"layers": ("act1", "act4"), "tensor": "grad", "stat": "std", "label": "Gradient"}
    exhibits = (
        Exhibit("percentile-bands", "Bands.", {"layers": ("act1", "act4"), "tensor": "in"}),
        Exhibit("layer-lines", "Ratio.", {**lines, "log": True, "ratio": ("act4", "act1")}),
        Exhibit("layer-lines", "Highest.", {**lines, "percent": True}),
    )
    arms = _probed_arms(RunConfig(epochs=4), {"activations": {"epochs": [0, 0.25, 0.5, 0.75]}})
    return _planned("inside", arms, exhibits, title="Inside")


def histograms() -> PlannedExperiment:
    """Return an experiment whose runs recorded histograms, gamma and beta."""
    paths = {"arm": "bn", "layers": ("norm1",), "weights": ("conv1",)}
    exhibits = (
        Exhibit("histogram-maps", "Maps.", {"layers": ("act1",)}),
        Exhibit("affine-paths", "Paths.", paths),
    )
    arms = _probed_arms(RunConfig(epochs=1), {"activations": {}})
    return _planned("histograms", arms, exhibits, title="Inside")


def recorded() -> PlannedExperiment:
    """Return an experiment whose runs were read by a copy, and two by an attached recorder."""
    config, options = RunConfig(norm="bn", epochs=1), {"epochs": [0, 0.2, 0.8]}
    arms = (
        Arm("bn", config, "with BN", probes={"activations": options}),
        Arm("bn/recorded", config, "recorded", True, {"recorder": options}, seeds=2),
    )
    agreement = {"pairs": {"bn": "bn/recorded"}, "layers": ("act1", "act2"), "early": 0.5}
    exhibits = (Exhibit("probe-agreement", "Agreement.", agreement),)
    return _planned("recorded", arms, exhibits, title="Proof")


def batches() -> PlannedExperiment:
    """Return an experiment of both norms at every batch size."""
    arms = tuple(
        Arm(f"{norm}/B={size}", RunConfig(epochs=EPOCHS, norm=norm, batch_size=size))
        for norm in NORMS
        for size in BATCH_SIZES
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
    """Return a 2x2 of normalization and dropout."""
    arms = tuple(Arm(name, RunConfig(epochs=EPOCHS)) for name in CELLS)
    options = {"arms": CELLS, "treatments": ("BN", "dropout")}
    return _planned("square", arms, (Exhibit("interaction", "Square.", options),))


def probed() -> PlannedExperiment:
    """Return two arms with every probe: BN before and after the activation."""
    arms = tuple(
        Arm(name, RunConfig(epochs=EPOCHS), f"{name} BN", probes={"landscape": {}})
        for name in ("before", "after")
    )
    readings = {"probe": "uncertainty", "stat": "nll", "label": "NLL", "readings": READINGS}
    exhibits = (
        Exhibit("batch-noise", "Noise.", {"arm": "before", "layers": LAYERS}),
        Exhibit("variance-shift", "Shift.", {"layers": LAYERS}),
        Exhibit("probe-bands", "Bands.", LANDSCAPE),
        Exhibit("probe-bands", "By loss.", {**LANDSCAPE, "against_loss": True}),
        Exhibit("probe-readings", "Readings.", readings),
    )
    return _planned("probed", arms, exhibits)


def _probed_arms(config: RunConfig, probes: dict[str, dict[str, object]]) -> tuple[Arm, ...]:
    return (
        Arm("none", config, "without BN", probes=probes),
        Arm("bn", config.replace(norm="bn"), "with BN", probes=probes),
    )


def _planned(
    name: str,
    arms: tuple[Arm, ...],
    exhibits: tuple[Exhibit, ...] = (),
    *,
    claims: tuple[Claim, ...] = (),
    targets: tuple[float, ...] = (),
    title: str = "Title",
) -> PlannedExperiment:
    words = (title, "Question?", "Literature.", "Design.", "Limits.")
    experiment = Experiment(name, *words, lambda profile: arms, targets=targets, exhibits=exhibits)
    return PlannedExperiment(experiment, arms, claims)
