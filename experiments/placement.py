"""Before the activation, after it, or on the input of each layer: does the placement matter?

Arms: batch normalization on the output of each layer before its sigmoid, after the sigmoid,
and on the input of each layer; at learning rate 0.3.

Cost: 13.2 M image-passes at the standard size (3 arms x 16 seeds x 275,000), of which 4.4 M are
shared with ``convergence``.

Expected: the notes name the first and the last as possible and prefer none.

Command: ``bnstudy run placement``

Source: the notes; Ioffe & Szegedy 2015, section 3.2.
"""

from dataclasses import replace

from bnstudy.plan import Arm, Claim, Exhibit, Experiment, Profile, Variant

from .common import RUNNING, accuracy, at_target, notes_for_steps, pilot, steps_ratio

EPOCHS, RATE = 5, 0.3
LABELS = {
    "output": "before the sigmoid",
    "activated": "after the sigmoid",
    "input": "on the layer's input",
}
SOURCE = "Lecture notes; Ioffe & Szegedy 2015"
QUOTE = "1. 全连接层和卷积层的输出上，激活函数前 … 2. 全连接层和卷积层的输入上"
OTHERS = ("activated", "input")
# differences of accuracy on pilot seeds: mean, standard deviation
PILOT = {"activated": (0.008538, 0.004591), "input": (0.01516, 0.005328)}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the three placements."""
    base = notes_for_steps(profile).replace(norm="bn", learning_rate=RATE)
    if profile.judges:
        base = base.replace(epochs=EPOCHS, test_every=EPOCHS)
    return tuple(
        Arm(placement, base.replace(placement=placement), label)
        for placement, label in LABELS.items()
    )


def same_accuracy(id: str, first: str, second: str) -> Claim:
    """Return the claim that two placements end at the same accuracy."""
    return Claim(
        id=id,
        sentence=f"BN {LABELS[first]} ends at the accuracy of BN {LABELS[second]}",
        source=SOURCE,
        quote=QUOTE,
        estimand=accuracy(first, second, epochs=EPOCHS),
        direction="within",
        margin=0.01,
        robustness=(RUNNING, Variant("within half a point", margin=0.005)),
    )


CLAIMS = (
    *(
        replace(same_accuracy(f"placement-{each}", each, "output"), pilot=pilot(*PILOT[each]))
        for each in OTHERS
    ),
    # the third pair follows from two, and steps are no part of the notes' claim
    replace(same_accuracy("placement-others", *OTHERS), family="explored"),
    *(
        Claim(
            id=f"placement-{each}-steps",
            sentence=f"BN {LABELS[each]} needs as many steps as BN before the sigmoid",
            source=SOURCE,
            quote=QUOTE,
            estimand=steps_ratio(each, "output", 0.70, EPOCHS),
            direction="within",
            margin=1.25,
            family="explored",
            robustness=(at_target(80),),
        )
        for each in OTHERS
    ),
)


PLACEMENT = Experiment(
    name="placement",
    title="Does it matter where batch normalization stands?",
    question=(
        "Batch normalization can stand before a layer's activation, after it, or on the input of "
        "a layer. Does the placement change how well the network ends up?"
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
    limits="One activation, one rate; other activations may separate the placements.",
    arms=arms,
    claims=CLAIMS,
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
