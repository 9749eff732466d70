"""Does the notes' own experiment come out as printed?

Arms: ``concise`` (``nn.BatchNorm``) and ``scratch`` (the notes' from-scratch
batch normalization), at the notes' exact settings: LeNet, sigmoid, batches of
256, SGD at 0.9, all 60,000 images; 10 epochs, of which the slow from-scratch
layer trains the first 2 below the full size.

Cost: 11.5 M image-passes at the standard size (16 seeds x 600,000 and x 120,000).

Expected: the printed values of epochs 0.2 to 2.8 lie among our seeds; the two
layers, which differ only in how they average the variance for evaluation,
train alike.

Run it: ``python -m experiments.source`` or ``bnstudy run source``.

Source: the lecture notes the project grew from, cells 15 to 18, after the
batch normalization chapter of Zhang et al., Dive into Deep Learning (2021).
"""

from bnstudy.plan.claim import Claim, Estimand, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments.common import notes, pilot, registers
from experiments.printed import FIRST_LAYER_BETA, FIRST_LAYER_GAMMA, PRINTED

# differences on pilot seeds: mean and standard deviation
SCRATCH_EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 10}
PILOT = {"accuracy": (0.00000625, 0.0001806), "steps": (0.0, 0.0)}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the two trainings of the notes; below ``standard`` with fewer images."""
    base = notes(profile, train_split="all").replace(train_split="all", validation_images=0)
    scratch = base.replace(norm="scratch", epochs=min(base.epochs, SCRATCH_EPOCHS[profile.name]))
    return (
        # by the reference engine, as its own code is what is compared
        Arm("scratch", scratch, "from-scratch BN", by_reference=True),
        Arm("concise", base.replace(norm="bn"), "torch BN"),
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register that the from-scratch layer trains to the same result as torch's."""
    if not registers(profile):
        return ()
    pair = (("scratch",), ("concise",))
    source = "Lecture notes; Zhang et al. 2021"
    epochs = SCRATCH_EPOCHS[profile.name]
    return (
        Claim(
            id="from-scratch",
            sentence=f"The from-scratch layer trains to the same accuracy as torch's in {epochs} "
            "epochs",
            source=source,
            estimand=Estimand("accuracy", pair, {"epochs": epochs}),
            unit="points",
            direction="within",
            test="tost",
            margin=0.005,
            pilot=pilot(*PILOT["accuracy"]),
            robustness=(Variant("after 1 epoch", {"epochs": 1}),),
        ),
        Claim(
            id="from-scratch-speed",
            sentence="The from-scratch layer needs as many steps as torch's",
            source=source,
            estimand=Estimand(
                "steps-to-target",
                pair,
                {"target": 0.8, "epochs": epochs, "column": "train_accuracy"},
                scale="ratio",
            ),
            unit="times",
            direction="within",
            test="tost",
            margin=1.1,
            pilot=pilot(*PILOT["steps"]),
            robustness=(Variant("target 75%", {"target": 0.75}),),
        ),
    )


SOURCE = Experiment(
    name="source",
    title="The notes' own training, sixteen times over",
    question=(
        "The notes train LeNet with batch normalization once from scratch and once with torch's "
        "layer, and print the results. Do those numbers come out again, and how much of them is "
        "luck?"
    ),
    literature=(
        "The notes print loss and accuracy five times an epoch for one training each, and the "
        "learned gamma and beta of the first normalization layer. The network and settings are "
        "those of Dive into Deep Learning (Zhang, Lipton, Li & Smola 2021, section 8.5); the "
        "layer is that of Ioffe & Szegedy (2015)."
    ),
    design=(
        "Two arms at the notes' settings: LeNet with sigmoids, Xavier-uniform weights, batches of "
        "256, plain SGD at learning rate 0.9. The arms differ in the normalization layer only: "
        "the from-scratch layer keeps the biased variance in its moving average, torch's keeps "
        "the unbiased one. Each seed gives both arms the same initial weights and the same order "
        "of images. As in the notes the printed loss and accuracy are running means since the "
        "start of the epoch, and all 60,000 training images are trained on, so there is no "
        "validation set here. The from-scratch arm is always trained by the reference engine, "
        "through the layer's own code and autograd, and, being slow, for the first 2 of the 10 "
        "epochs only, 10 at the full size."
    ),
    limits=(
        "It compares one training per arm of the notes, whose seed is unknown, with many of ours: "
        "a printed value outside our spread would show a difference, one inside does not prove "
        "that everything is equal. It says nothing about training without normalization: the "
        "notes print no such run."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "printed-results",
            "Lines: our seeds, running means since the start of each epoch. Points: the values "
            "printed in the notes.",
            {"printed": PRINTED, "images": 60_000},
        ),
        Exhibit(
            "first-layer-parameters",
            "Every channel of the first normalization layer at the end of training, sorted within "
            "a seed, because the numbering of channels means nothing across seeds.",
            {"arm": "concise", "gamma": FIRST_LAYER_GAMMA, "beta": FIRST_LAYER_BETA},
        ),
        Exhibit(
            "evaluation-statistics",
            "Test accuracy of the same weights at the end of each epoch, once with the running "
            "averages that the layers keep and once with population statistics recomputed over "
            "training images.",
            {"arms": ("scratch", "concise")},
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy where the shorter arm ends, one point per seed, with population "
            "statistics.",
            {"baseline": "concise", "together": True},
        ),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", SOURCE.name])  # type: ignore[has-type]
