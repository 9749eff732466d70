"""Before the activation, after it, or on the input of each layer: does the place matter?

Arms: batch normalization on the output of each layer before its sigmoid, after the sigmoid,
and on the input of each layer; at learning rate 0.3.

Cost: 13.2 M image-passes at the standard size (3 arms x 16 seeds x 275,000), of which 4.4 M are
shared with ``convergence``.

Expected: the notes name the first and the last as possible and prefer none.

Run it: ``python -m experiments.placement`` or ``bnstudy run placement``.

Source: the notes; Ioffe & Szegedy 2015, section 3.2.
"""

from typing import Any

from bnstudy.plan.claim import Claim, Estimand, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments.common import fine, pilot, registers

EPOCHS, RATE = 5, 0.3
LABELS = {
    "output": "before the sigmoid",
    "activated": "after the sigmoid",
    "input": "on the layer's input",
}
QUOTE = "1. 全连接层和卷积层的输出上，激活函数前 … 2. 全连接层和卷积层的输入上"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the three places."""
    base = fine(profile).replace(norm="bn", learning_rate=RATE)
    if registers(profile):
        base = base.replace(epochs=EPOCHS, test_every=EPOCHS)
    return tuple(
        Arm(place, base.replace(placement=place), words) for place, words in LABELS.items()
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register that the other two places are as good as the first."""
    if not registers(profile):
        return ()
    source = "Lecture notes; Ioffe & Szegedy 2015"

    def same_accuracy(id: str, sentence: str, *pair: str, **rest: Any) -> Claim:
        return Claim(
            id=id,
            sentence=sentence,
            source=source,
            quote=QUOTE,
            estimand=Estimand("accuracy", tuple((name,) for name in pair), {"epochs": EPOCHS}),
            unit="points",
            direction="within",
            test="tost",
            margin=0.01,
            robustness=(
                Variant("with running averages", {"statistics": "running"}),
                Variant("within half a point", margin=0.005),
            ),
            **rest,
        )

    judged = tuple(
        same_accuracy(
            f"placement-{place}",
            f"BN {LABELS[place]} ends at the accuracy of BN before the sigmoid",
            place,
            "output",
            pilot=pilot(*PILOT[place]),
        )
        for place in OTHERS
    )
    return (
        *judged,
        # the third pair follows from two, and steps are no part of the notes' claim
        same_accuracy(
            "placement-others",
            f"BN {LABELS['activated']} ends at the accuracy of BN {LABELS['input']}",
            *OTHERS,
            family="exploratory",
        ),
        *(
            Claim(
                id=f"placement-{place}-steps",
                sentence=f"BN {LABELS[place]} needs as many steps as BN before the sigmoid",
                source=source,
                quote=QUOTE,
                estimand=Estimand(
                    "steps-to-target",
                    ((place,), ("output",)),
                    {"target": 0.70, "epochs": EPOCHS},
                    scale="ratio",
                ),
                unit="times",
                direction="within",
                test="tost",
                margin=1.25,
                family="exploratory",
                robustness=(Variant("target 80%", {"target": 0.80}),),
            )
            for place in OTHERS
        ),
    )


OTHERS = ("activated", "input")
PILOT = {"activated": (0.008538, 0.004591), "input": (0.01516, 0.005328)}

PLACEMENT = Experiment(
    name="placement",
    title="Does it matter where batch normalization stands?",
    question=(
        "Batch normalization can stand before a layer's activation, after it, or on the input of "
        "a layer. Does the place change how well the network ends up?"
    ),
    literature=(
        "The notes: it acts on the output of convolutional and linear layers before the "
        "activation, or on their input. Ioffe & Szegedy (2015) argue for the first, since sums "
        "are more nearly Gaussian than what an activation leaves."
    ),
    design=(
        f"LeNet with sigmoids, batches of 256, SGD at {RATE} for {EPOCHS} epochs, a rate that "
        "suits all three on pilot seeds. On the input means that images are normalized too, and "
        "the last layer's input."
    ),
    limits="One activation, one rate; other activations may tell the places apart.",
    arms=arms,
    claims=claims,
    targets=(0.70, 0.80),
    exhibits=(
        Exhibit("learning-curves", "Validation accuracy by epoch.", {}),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end, one point per seed, and differences within seeds.",
            {"baseline": "output"},
        ),
        Exhibit(
            "steps-to-target",
            "Optimizer steps until the validation accuracy first reaches a target.",
            {"baseline": "output"},
        ),
        Exhibit(
            "kaplan-meier",
            "Share of seeds whose validation accuracy has not reached a target yet, by step, with "
            "95% intervals (Kaplan-Meier).",
            {},
        ),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", PLACEMENT.name])  # type: ignore[has-type]
