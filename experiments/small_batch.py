"""Does batch normalization fail at small batches, where group normalization does not?

Arms: ``none``, ``bn`` and ``group`` with ReLUs and batches of 2 to 256 images, each at a
learning rate in proportion to its batch (0.3 at 256), for the same number of images.

Cost: 8.6 M image-passes at the standard size (18 arms x 16 seeds x 30,000).

Expected: with 2 or 4 images batch statistics are too noisy to train by or to average;
group normalization does not use the other images of the batch.

Command: ``bnstudy run small-batch``

Source: Wu & He 2018.
"""

from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Profile

from .common import RUNNING, T_TEST, accuracy, notes

EPOCHS = {"tiny": 1, "quick": 1, "standard": 1, "full": 10}
SIZES = {
    "tiny": (4, 64),
    "quick": (4, 64),
    "standard": (2, 4, 8, 16, 64, 256),
    "full": (2, 4, 8, 16, 32, 64, 128, 256),
}
IMAGES = 30_000
RATE = 0.3  # at 256 images; sigmoids would spend one epoch of large batches on their plateau
NORMS = {"none": "none", "bn": "bn", "group": "group:groups=2"}
LABELS = {"none": "no norm", "bn": "BN", "group": "group norm"}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return every kind of normalization with every batch size."""
    epochs = EPOCHS[profile.name]
    base = notes(profile, train_images=IMAGES, test_every=epochs).replace(
        epochs=epochs, activation="relu", schedule="cosine"
    )
    return tuple(
        Arm(
            f"{name}/B={size}",
            base.replace(norm=norm, batch_size=size, learning_rate=RATE * size / 256),
            f"{LABELS[name]}, batches of {size}",
        )
        for name, norm in NORMS.items()
        for size in SIZES[profile.name]
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Return the claims that BN loses more at small batches than group normalization."""
    sizes, epochs = SIZES[profile.name], EPOCHS[profile.name]
    return (
        Claim(
            id="small-batch",
            sentence="BN gains more test accuracy per doubling of the batch than group "
            "normalization",
            source="Wu & He 2018",
            estimand=Estimand(
                "accuracy",
                tuple(tuple(f"{name}/B={size}" for size in sizes) for name in ("bn", "group")),
                {"epochs": epochs},
                summary="slope",
                levels=sizes,
                level_scale="log2",
            ),
            unit="of accuracy per doubling",
            direction="greater",
            robustness=(RUNNING, T_TEST),
        ),
        *(
            Claim(
                id=f"small-batch-{size}",
                sentence=f"With batches of {size} BN ends at a lower test accuracy than group "
                "normalization",
                source="Wu & He 2018",
                estimand=accuracy(f"bn/B={size}", f"group/B={size}", epochs=epochs),
                direction="less",
                family="primary" if size == 2 else "explored",
                robustness=(RUNNING,),
            )
            for size in (2, 4, 8)
        ),
    )


SMALL_BATCH = Experiment(
    name="small-batch",
    title="Does batch normalization fail at small batches?",
    question=(
        "Batch statistics of two or four images are noisy. Does batch normalization lose accuracy "
        "there, and more than group normalization, which never uses the other images?"
    ),
    literature=(
        "Wu & He (2018): the error of networks with batch normalization grows as batches shrink "
        "below 8 or so, that with group normalization hardly changes (ResNet-50 on ImageNet)."
    ),
    design=(
        "LeNet with ReLUs, with no, batch and group normalization (2 groups), with batches of "
        "2 to 256 images. The learning rate is in proportion to the batch, 0.3 at 256, and falls "
        "to zero along a cosine; all arms see the same number of images, so that it takes all "
        "of them equally far. "
        "Accuracy is with population statistics, so that what is compared is training, not the "
        "averages; with running averages beside it."
    ),
    limits=(
        "One rule for the learning rate: with another one the arms may rank differently. "
        "Networks are compared after few epochs, far from converged. In convolutional layers two "
        "images still give many positions to average over."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "accuracy-by-batch",
            "Test accuracy at the end against the batch size, population statistics: means of the "
            "seeds with intervals; thin lines are seeds.",
            {"norms": {NORMS[norm]: label for norm, label in LABELS.items()}},
        ),
        Exhibit(
            "learning-curves",
            "Validation accuracy by epoch, running averages; thin lines: seeds.",
            {"arms": ("bn/B=4", "group/B=4", "bn/B=64", "group/B=64")},
        ),
    ),
)
