"""Is batch normalization a noise regularizer?

Arms, all with SGD batches of 256 on 5,000 training images, long enough to overfit: ghost
batch normalization in groups of 8, 32 and 128, standard ``bn`` (256), and ``population``,
which normalizes by moving averages and so has no noise from the batch.

Cost: 12.0 M image-passes at the standard size (5 arms x 16 seeds x 150,000), and 4.8 M
forward passes for the generalization gap, which a probe measures in evaluation mode:
measured on training batches it would contain their noise.

Expected: the smaller the group, the noisier its moments, and the smaller the gap between
training and test if the noise regularizes.

Command: ``bnstudy run regularization``

Source: the notes, 'it may control complexity by adding noise'; Ioffe & Szegedy 2015,
section 3.4; Hoffer, Hubara & Soudry 2017; Luo et al. 2019.
"""

from typing import Any

from bnstudy.config import RunConfig
from bnstudy.plan import (
    Arm,
    Claim,
    Estimand,
    Exhibit,
    Experiment,
    Option,
    Premise,
    Profile,
    Variant,
)

from .common import T_TEST, groups, notes

IMAGES, EPOCHS, RATE = 5_000, 30, 0.9
GHOSTS = (8, 32, 128)
GROUPS = (*(f"ghost-{size}" for size in GHOSTS), "bn")
SIZES = (*GHOSTS, 256)
QUOTE = (
    "后续有论文指出它可能就是通过在每个小批量里加入噪音来控制模型复杂度，"
    "因为每个小批量的均值和方差都是在随机变动的。"
)


def small_data(profile: Profile) -> RunConfig:
    """Return settings that overfit: few images and, but in a first look, many epochs."""
    return notes(
        profile,
        train_images=IMAGES,
        epochs=EPOCHS,
        evaluations_per_epoch=1 if profile.judges else 5,
        test_every=10,
        validation_images=500,  # not used by any claim
        population_images=IMAGES,
        learning_rate=RATE,
    )


def gap_probe(profile: Profile, end: int) -> dict[str, dict[str, Any]]:
    """Return the probe of the generalization gap."""
    # At the start too, so that a run that diverges has a value in any case.
    before = [0, end / 2] if profile.judges else []
    return {"generalization": {"epochs": [*before, end]}}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return normalization in groups of growing size, and without noise from the batch."""
    base = small_data(profile)
    ghosts = GHOSTS if profile.judges else GHOSTS[:1]
    kinds = (
        *((f"ghost-{size}", f"ghost:size={size}", f"BN by {size}") for size in ghosts),
        ("bn", "bn", "BN by 256"),
        ("population", "population", "noise-free BN"),
    )
    return tuple(
        Arm(name, base.replace(norm=norm), label, probes=gap_probe(profile, base.epochs))
        for name, norm, label in kinds
    )


def slope_by_size(measure: str, options: dict[str, Option]) -> Estimand:
    """Return the slope of a measure over the doublings of the group size."""
    return Estimand(measure, (GROUPS,), options, summary="slope", levels=SIZES, level_scale="log2")


GAP: dict[str, Option] = {
    "probe": "generalization",
    "tensor": "gap",
    "stat": "loss",
    "take": "last",
}
# Of training loss.  The gap grows while training loss falls, so gaps are compared at the same
# fit: a difference of fit below this one is small beside the differences of gaps looked for.
FIT_MARGIN = 0.01


def equal_fit(first: str, second: str) -> Premise:
    """Return the premise that two arms fit the training images alike at the end.

    By the probe, with population statistics: the loss on training batches holds the noise of
    small groups.
    """
    training_loss = Estimand("probe", groups(first, second), {**GAP, "tensor": "train"})
    return Premise("equal-fit", options={"margin": FIT_MARGIN}, estimand=training_loss)


CLAIMS = (
    Claim(
        id="noise-regularizes",
        sentence="Smaller normalization groups at the same SGD batch shrink the generalization gap",
        source="Lecture notes; Ioffe & Szegedy 2015; Hoffer et al. 2017; Luo et al. 2019",
        quote=QUOTE,
        estimand=slope_by_size("probe", GAP),
        unit="of loss per doubling",
        direction="greater",
        robustness=(
            Variant("gap of accuracy", {"stat": "accuracy"}, unit="of accuracy per doubling"),
            Variant(f"after {EPOCHS // 2} epochs", {"start": EPOCHS / 2, "end": EPOCHS / 2}),
            T_TEST,
            Variant(
                "order of the groups (Page)", test="page", summary="order", unit="rank correlation"
            ),
        ),
        premises=tuple(equal_fit(f"ghost-{size}", "bn") for size in GHOSTS),
    ),
    Claim(
        id="noise-lowers-loss",
        sentence="Smaller normalization groups at the same SGD batch lower the test loss",
        source="Hoffer et al. 2017; Luo et al. 2019",
        estimand=slope_by_size("loss", {"epochs": EPOCHS}),
        unit="of loss per doubling",
        direction="greater",
        robustness=(Variant("after 20 epochs", {"epochs": 20}), T_TEST),
    ),
    Claim(
        id="noise-free",
        sentence="BN has a smaller generalization gap than BN without the batch's noise",
        source="Luo et al. 2019; lecture notes",
        quote=QUOTE,
        estimand=Estimand("probe", groups("bn", "population"), GAP),
        unit="of loss",
        direction="less",
        robustness=(Variant("gap of accuracy", {"stat": "accuracy"}, unit="points"),),
        premises=(equal_fit("bn", "population"),),
    ),
)


REGULARIZATION = Experiment(
    name="regularization",
    title="Is batch normalization a noise regularizer?",
    question=(
        "The mean and variance of every small batch vary at random. Does that noise regularize: "
        "is the gap between training and test smaller the smaller the groups are over which the "
        "moments are taken, all else equal?"
    ),
    literature=(
        "The notes: later papers say that it may work by adding noise to every batch. Ioffe & "
        "Szegedy (2015, section 3.4) call it a regularizer; Hoffer, Hubara & Soudry (2017) "
        "normalize in small groups (ghost batches) to keep the effect at large batches; Luo et "
        "al. (2019) derive it as a penalty on gamma and a decay of rates."
    ),
    design=(
        f"{IMAGES:,} training images, {EPOCHS} epochs of SGD at {RATE} with batches of 256, so "
        "that networks overfit. Arms differ only in the group over which moments are taken: 8, "
        "32, 128 or all 256 images of the batch; and one arm normalizes by moving averages, with "
        "the gradient of batch normalization but none of its noise. For the gap, training and test "
        "images are classified by the same weights with population statistics: the loss on "
        "training batches holds the noise of small groups, which would pass for a smaller gap."
    ),
    limits=(
        "Small groups also change what is differentiated, not only the noise. The gap depends on "
        "how far training loss has fallen, so an arm that trains more slowly has a smaller gap at "
        "the same epoch: read it beside the test loss."
    ),
    arms=arms,
    claims=CLAIMS,
    exhibits=(
        Exhibit(
            "probe-readings",
            "Loss on the training and on the test images at the end, by the same weights and with "
            "population statistics: one dot per seed, means with intervals. The gap is the "
            "distance between an arm's two rows.",
            {
                "probe": "generalization",
                "stat": "loss",
                "label": "Loss",
                "preposition": "on",
                "readings": {"train": "training images", "test": "test images"},
            },
        ),
        Exhibit("learning-curves", "Training loss by epoch.", {"y": "train_loss"}),
        Exhibit(
            "learning-curves",
            "Test loss by epoch with population statistics.",
            {"y": "test_loss_population"},
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end, and differences within seeds to plain BN.",
            {"baseline": "bn"},
        ),
    ),
)
