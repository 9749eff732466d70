"""Given time to converge, does batch normalization change the final accuracy?

Arms: ``none`` and ``bn``, each at a learning rate that suits it (0.9 and 0.3, chosen on
pilot seeds), for 30 epochs.

Cost: 52.8 M image-passes at the standard size (2 arms x 16 seeds x 1,650,000).

Expected: the notes say that accuracy does not change. At this size of network and
length of training the arm without normalization may still be on its way.

Run it: ``python -m experiments.final`` or ``bnstudy run final``.

Source: the notes, 'generally does not change the accuracy'; Ioffe & Szegedy 2015.
"""

from bnstudy.claim import Claim, Estimand, Variant
from bnstudy.study import Arm, Exhibit, Experiment, Profile
from experiments.common import notes, pilot, registers

EPOCHS = 30
RATES = {"none": 0.9, "bn": 0.3}
LABELS = {"none": "no BN", "bn": "BN"}
PILOT = (0.0, 0.004)  # difference of accuracy on pilot seeds: mean, standard deviation


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return both arms at their own learning rates."""
    long = notes(profile, epochs=EPOCHS)
    return tuple(
        Arm(norm, long.replace(norm=norm, learning_rate=rate), LABELS[norm])
        for norm, rate in RATES.items()
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register the notes' claim."""
    if not registers(profile):
        return ()
    accuracy = Estimand("accuracy", (("bn",), ("none",)), {"epochs": EPOCHS})
    return (
        Claim(
            id="same-accuracy",
            sentence="Given time to converge, BN does not change the final accuracy",
            source="Lecture notes; Ioffe & Szegedy 2015",
            quote="批量归一化可以加速收敛速度，但一般不改变模型精度。",
            estimand=accuracy,
            unit="points",
            direction="within",
            test="tost",
            margin=0.01,
            pilot=pilot(*PILOT),
            robustness=(
                Variant("with running averages", {"statistics": "running"}),
                Variant("after 10 epochs", {"epochs": 10}),
                Variant("after 20 epochs", {"epochs": 20}),
                Variant("within 2 points", margin=0.02),
            ),
        ),
    )


FINAL = Experiment(
    name="final",
    title="Does batch normalization change the final accuracy?",
    question=(
        "Batch normalization makes training faster, but is the trained network any better? Each "
        "arm gets a learning rate that suits it and far more epochs than it needs to get going."
    ),
    literature=(
        "The notes: batch normalization generally does not change the accuracy of the model. "
        "Ioffe & Szegedy (2015) report a better accuracy with it, on a much larger network and "
        "with less of other regularization."
    ),
    design=(
        f"LeNet with sigmoids, batches of 256, plain SGD for {EPOCHS} epochs: at 0.9 without "
        "normalization, at 0.3 with it, the rates at which each did best on pilot seeds that no "
        "claim uses. The primary accuracy is that with population statistics re-estimated on "
        "training images. A seed gives both arms the same initial weights and order of images."
    ),
    limits=(
        "A constant learning rate and a fixed number of epochs: where an arm's curve still rises "
        "at the end, its final accuracy is not known. One small network, one data set."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "learning-curves",
            "Test accuracy by epoch with population statistics; thin lines: seeds.",
            {"y": "test_accuracy_population"},
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end, one point per seed, and the differences within seeds.",
            {"arms": ("none", "bn"), "baseline": "none"},
        ),
        Exhibit("learning-curves", "Training loss by epoch.", {"y": "train_loss"}),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", FINAL.name])  # type: ignore[has-type]
