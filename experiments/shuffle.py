"""Does it hurt batch normalization to meet the same batch-mates in every epoch?

Arms: ``none`` and ``bn``, with new batches in every epoch, or with batches whose
images stay together while only the order of the batches is drawn.

Cost: 6.4 M image-passes at the standard size (4 arms x 16 seeds x 100,000).

Expected: an image always normalized by the same mates lacks the noise that would
regularize; without normalization mates hardly matter.

Command: ``bnstudy run shuffle``

Source: Ioffe & Szegedy 2015, section 4.2.1; Wu, Yun & Sra 2023.
"""

from bnstudy.plan import Arm, Claim, Exhibit, Experiment, Profile

from .common import RUNNING, T_TEST, accuracy, notes

EPOCHS = {"tiny": 1, "quick": 1, "standard": 5, "full": 20}
IMAGES = 20_000  # few, so that mates meet often
BATCH, RATE = 32, 0.3
LABELS = {"none": "no BN", "bn": "BN"}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the 2 x 2 of normalization and batch-mates."""
    epochs = EPOCHS[profile.name]
    base = notes(profile, train_images=IMAGES, test_every=epochs).replace(
        epochs=epochs, batch_size=BATCH, learning_rate=RATE
    )
    return tuple(
        Arm(f"{norm}/{mates}", base.replace(norm=norm, batch_mates=mates), f"{label}, {mates}")
        for norm, label in LABELS.items()
        for mates in ("fresh", "fixed")
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Return the difference of differences, and the difference with BN."""
    epochs = EPOCHS[profile.name]
    bn = ("bn/fixed", "bn/fresh")
    return (
        Claim(
            id="shuffle",
            sentence="Meeting the same batch-mates in every epoch costs more test accuracy with "
            "BN than without",
            source="Ioffe & Szegedy 2015, section 4.2.1; Wu, Yun & Sra 2023",
            estimand=accuracy(*bn, "none/fixed", "none/fresh", epochs=epochs),
            direction="less",
            robustness=(RUNNING, T_TEST),
        ),
        Claim(
            id="shuffle-bn",
            sentence="Meeting the same batch-mates in every epoch costs BN test accuracy",
            source="Ioffe & Szegedy 2015, section 4.2.1",
            estimand=accuracy(*bn, epochs=epochs),
            direction="less",
            family="explored",
            robustness=(RUNNING,),
        ),
    )


SHUFFLE = Experiment(
    name="shuffle",
    title="Do the same batch-mates in every epoch hurt?",
    question=(
        "With batch normalization what a network makes of an image depends on the others in its "
        "batch. Does it cost accuracy if an image meets the same others in every epoch?"
    ),
    literature=(
        "Ioffe & Szegedy (2015, section 4.2.1) gain about 1 point on ImageNet by shuffling so "
        "that images do not always meet the same others. Wu, Yun & Sra (2023) show that without "
        "new shuffling batch normalization can converge to distorted solutions."
    ),
    design=(
        f"LeNet with sigmoids on {IMAGES:,} images, batches of {BATCH}, SGD at {RATE}, with and "
        "without batch normalization. Fresh: every epoch draws new batches. Fixed: the "
        "batches of the first epoch stay together, and every epoch draws only their order. The "
        "claim is about the difference of the two differences within a seed."
    ),
    limits=(
        "The classes within a batch are random here; batches that are sorted by class are another "
        "matter. Few epochs: an effect that needs many meetings may not show."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end, one point per seed, and the differences within seeds.",
            {"baseline": "bn/fresh"},
        ),
        Exhibit("learning-curves", "Validation accuracy by epoch.", {}),
    ),
)
