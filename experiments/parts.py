"""Which part of batch normalization does it: which half, which parameters, which layers?

Arms: ``none`` and ``bn``; ``mean-only`` (centres, does not divide) and ``variance-only`` (divides,
does not centre); BN without its gamma and beta, and without the bias before it; and BN in
one of the four layers, in all but one, and at the full size in two.

Cost: 28.2 M image-passes at the standard size, of which 17.6 M (``none`` and ``bn``) are shared
with ``convergence``: 12 arms x 16 seeds x 55,000 are its own, one epoch each, since ``bn`` needs
a quarter of an epoch to the target.

Expected: Salimans & Kingma find that mean-only BN does much of what BN does, together with weight
normalization, which keeps the scale; here nothing does.  Dividing without centring should fare
worst, since sums of sigmoids are far from zero.  A bias before BN does nothing.

Command: ``bnstudy run parts``

Source: Salimans & Kingma 2016, section 4; Ioffe & Szegedy 2015, section 3.
"""

from itertools import combinations

from bnstudy.plan import Arm, Claim, Exhibit, Experiment, Profile

from .baseline import baseline_arm
from .common import RUNNING, accuracy, at_target, notes_for_steps, steps_ratio

LAYERS = {"1": "conv1", "2": "conv2", "3": "fc1", "4": "fc2"}
# one layer, all but one, and at the full size also two
SUBSETS = {
    profile: tuple("".join(some) for count in counts for some in combinations(LAYERS, count))
    for profile, counts in {"standard": (1, 3), "full": (1, 2, 3)}.items()
}
SHORT = 1  # epochs at the standard size, of all arms but the two that others have too
TARGET = 0.70
PART_LABELS = {
    "mean-only": "mean only",
    "variance-only": "variance only",
    "bn/no-affine": "BN, no gamma and beta",
    "bn/no-bias": "BN, no bias before it",
}
PART_SUBJECTS = {
    "mean-only": "BN that only centres",
    "variance-only": "BN that only divides",
    "bn/no-affine": "BN without gamma and beta",
    "bn/no-bias": "BN without the bias before it",
}


def layers_of(subset: str) -> str:
    """Return the names of the layers of a subset: ``conv1, fc1``."""
    return ", ".join(LAYERS[number] for number in subset)


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return no BN, complete BN, its parts, and BN in every subset of the layers."""
    base = notes_for_steps(profile)
    part = base.replace(epochs=SHORT) if profile.name == "standard" else base
    settings = (
        part.replace(norm="mean-only"),
        part.replace(norm="variance-only"),
        part.replace(norm="bn:affine=0"),
        part.replace(norm="bn", bias=False),
    )
    return (
        baseline_arm(profile, "none", "no BN"),
        baseline_arm(profile, "bn", "BN"),
        *(
            Arm(name, config, label)
            for (name, label), config in zip(PART_LABELS.items(), settings, strict=True)
        ),
        *(
            Arm(f"bn/{each}", part.replace(norm="bn", norm_layers=each), f"BN: {layers_of(each)}")
            for each in SUBSETS.get(profile.name, ())  # too many for a first look
        ),
    )


SOURCE = "Salimans & Kingma 2016; Ioffe & Szegedy 2015"
MORE_STEPS = "needs more steps to 70% validation accuracy than BN"


def slower(name: str, sentence: str, arm: str) -> Claim:
    """Return the claim that an arm needs more steps than BN; it is not judged."""
    return Claim(
        id=f"parts-{name}",
        sentence=sentence,
        source=SOURCE,
        estimand=steps_ratio(arm, "bn", TARGET, SHORT),
        direction="greater",
        family="explored",
        robustness=(at_target(60),),
    )


CLAIMS = (
    *(
        slower(f"{arm.removeprefix('bn/')}-steps", f"{subject} {MORE_STEPS}", arm)
        for arm, subject in PART_SUBJECTS.items()
    ),
    *(
        Claim(
            id=f"parts-{arm.removeprefix('bn/')}-accuracy",
            sentence=f"{subject} is less accurate than BN after {SHORT} epoch",
            source=SOURCE,
            estimand=accuracy(arm, "bn", epochs=SHORT),
            direction="less",
            family="explored",
            robustness=(RUNNING,),
        )
        for arm, subject in PART_SUBJECTS.items()
    ),
    *(
        slower(f"only-{name}", f"BN in {name} alone {MORE_STEPS} in all layers", f"bn/{number}")
        for number, name in LAYERS.items()
    ),
    *(
        slower(
            f"without-{name}",
            f"BN in all layers but {name} {MORE_STEPS} in all",
            f"bn/{''.join(each for each in LAYERS if each != number)}",
        )
        for number, name in LAYERS.items()
    ),
)

PART_ARMS = ("none", "bn", *PART_LABELS)
IN_LAYERS = {
    profile: ("none", "bn", *(f"bn/{each}" for each in subsets))
    for profile, subsets in SUBSETS.items()
}

PARTS = Experiment(
    name="parts",
    title="Which part of batch normalization does it?",
    question=(
        "Batch normalization subtracts a mean, divides by a standard deviation, scales and shifts "
        "by what it learns, and does so in every layer. Which of this makes the network train fast?"
    ),
    literature=(
        "Salimans & Kingma (2016) centre without dividing, beside weight normalization, and train "
        "as well as with batch normalization or better. Ioffe & Szegedy (2015) add gamma and beta "
        "so that a layer can still be the identity, and note that a bias before it is subtracted "
        "with the mean."
    ),
    design=(
        "LeNet with sigmoids at the notes' settings, batches of 256, SGD at 0.9. Mean-only: the "
        "batch mean of each channel is subtracted and beta added; there is no gamma, as in the "
        "paper. Variance-only: divided by the batch standard deviation about the mean, gamma and "
        "beta as usual. Without gamma and beta: 1 and 0 throughout. Then complete batch "
        "normalization in one of the four layers, in all but one, and at the full size in two. "
        "At the standard size all of these are trained for one epoch, and arms compared up to the "
        "last step that both were trained to. All of this is explored only: estimates with "
        "intervals, and no verdict."
    ),
    limits=(
        "One learning rate, that of the notes, which suits complete batch normalization; a part "
        "may have a better one of its own. Mean-only normalization is used here without the weight "
        "normalization that it was made for. After one epoch no arm has converged, so "
        "accuracies reflect speed as well. Nothing here is corrected for the number of comparisons."
    ),
    arms=arms,
    claims=CLAIMS,
    targets=(TARGET,),
    exhibits=(
        Exhibit(
            "learning-curves",
            "Validation accuracy by epoch, running averages; thin lines: seeds.",
            {"arms": PART_ARMS},
        ),
        Exhibit(
            "ranking",
            "Optimizer steps until the validation accuracy first reaches 70%, the parts of batch "
            "normalization: one dot per seed, geometric means with intervals. Open triangles: not "
            "reached. Dashed: complete batch normalization.",
            {"arms": PART_ARMS, "baseline": "bn"},
        ),
        Exhibit(
            "ranking",
            "Test accuracy with population statistics at the last step that all were trained to: "
            "one dot per seed, means with intervals. Dashed: complete batch normalization.",
            {"arms": PART_ARMS, "baseline": "bn", "of": "accuracy"},
        ),
        *(
            Exhibit(
                "ranking",
                f"{what}, batch normalization in some layers. Dashed: in all layers.",
                {"arms": IN_LAYERS[profile], "baseline": "bn", "of": of},
                (profile,),
            )
            for profile in SUBSETS
            for of, what in (
                (
                    "steps",
                    "Optimizer steps until the validation accuracy first reaches 70% (one dot per "
                    "seed, geometric means with intervals; open triangles: not reached)",
                ),
                (
                    "accuracy",
                    "Test accuracy with population statistics at the last step that all were "
                    "trained to",
                ),
            )
        ),
        Exhibit(
            "kaplan-meier",
            "Share of seeds whose validation accuracy has not reached 70% yet, by step, with "
            "95% intervals (Kaplan-Meier).",
            {"arms": PART_ARMS},
        ),
    ),
)
