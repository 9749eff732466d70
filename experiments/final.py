"""Given time to converge, does batch normalization change the final accuracy?

Arms: ``none`` and ``bn`` for 20 epochs, each at the learning rate of the grid that gave it
the best accuracy on pilot seeds: 0.9 for both.

Cost: 35.2 M image-passes at the standard size (2 arms x 16 seeds x 1,100,000).

Expected: the notes say that accuracy does not change. At this size of network and
length of training the arm without normalization may still be on its way.

Run it: ``python -m experiments.final`` or ``bnstudy run final``.

Source: the notes, 'generally does not change the accuracy'; Ioffe & Szegedy 2015.
"""

from bnstudy.claim import Claim, Estimand, Variant
from bnstudy.study import Arm, Exhibit, Experiment, Profile
from experiments.common import notes, pilot, registers

EPOCHS = 20
EARLIER = 15
RATES = {"none": 0.9, "bn": 0.9}
LABELS = {"none": "no BN", "bn": "BN"}
PILOT = (0.0, 0.004)  # difference of accuracy on pilot seeds: mean, standard deviation


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return both arms at their own learning rates."""
    long = notes(profile, epochs=EPOCHS, evaluations_per_epoch=2)
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
                Variant("after 15 epochs", {"epochs": EARLIER}),
                Variant("within 2 points", margin=0.02),
            ),
        ),
        *(
            Claim(
                id=f"converged-{norm}",
                sentence=f"{label} has converged: its last {EPOCHS - EARLIER} epochs gain less "
                "than half a point of test accuracy",
                source="Lecture notes",
                quote="一般不改变模型精度",
                estimand=Estimand(
                    "accuracy", ((norm,), (norm,)), {"epochs": EPOCHS}, {"epochs": EARLIER}
                ),
                unit="points",
                direction="less",
                centre=0.005,
                test="sign-flip",
                family="exploratory",  # a condition of the claim above, not a claim about BN
            )
            for norm, label in (("none", "No BN"), ("bn", "BN"))
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
        f"LeNet with sigmoids, batches of 256, plain SGD at 0.9 for {EPOCHS} epochs: of the rates "
        "0.03, 0.1, 0.3, 0.9, 3 and 10 the one that gave either arm its best accuracy on pilot "
        "seeds, which no claim uses. An arm counts as converged when its last 5 epochs gain less "
        "than half a point. The primary accuracy is that with population statistics re-estimated "
        "on training images. A seed gives both arms the same initial weights and order of images."
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
