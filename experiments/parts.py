"""Which part of batch normalization does it: which half, which parameters, which layers?

Arms: ``none`` and ``bn``; ``mean-only`` (centres, does not divide) and ``variance-only`` (divides,
does not centre); BN without its gamma and beta, and without the bias before it; and BN in
one of the four layers, in all but one, and at the full size in two.

Cost: 28.2 M image-passes at the standard size, of which 17.6 M (``none`` and ``bn``) are shared
with ``convergence``: 12 arms x 16 seeds x 55,000 are its own, one epoch each, since ``bn`` needs
a quarter of an epoch to the target.

Expected: Salimans & Kingma find that mean-only BN does much of what BN does, together with weight
normalization, which keeps the scale; here nothing does.  Dividing without centring should fare
worst, since sums of sigmoids stand far from zero.  A bias before BN does nothing.

Run it: ``python -m experiments.parts`` or ``bnstudy run parts``.

Source: Salimans & Kingma 2016, section 4; Ioffe & Szegedy 2015, section 3.
"""

from itertools import combinations

from bnstudy.plan.claim import Claim, Estimand, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments.common import fine, registers
from experiments.plain import plain

LAYERS = {"1": "conv1", "2": "conv2", "3": "fc1", "4": "fc2"}
# one layer, all but one, and at the full size also two
SUBSETS = {
    size: tuple("".join(some) for count in counts for some in combinations(LAYERS, count))
    for size, counts in {"standard": (1, 3), "full": (1, 2, 3)}.items()
}
SHORT = 1  # epochs at the standard size, of all arms but the two that others have too
TARGET = 0.70
PART_LABELS = {
    "mean-only": "mean only",
    "variance-only": "variance only",
    "bn/no-affine": "BN, no gamma and beta",
    "bn/no-bias": "BN, no bias before it",
}


def layers_of(subset: str) -> str:
    """Name the layers of a subset: ``conv1, fc1``."""
    return ", ".join(LAYERS[number] for number in subset)


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return no and whole BN, its parts, and BN in every subset of the layers."""
    whole = fine(profile)
    part = whole.replace(epochs=SHORT) if profile.name == "standard" else whole
    subsets = SUBSETS.get(profile.name, ())  # too many for a first look
    settings = (
        part.replace(norm="mean-only"),
        part.replace(norm="variance-only"),
        part.replace(norm="bn:affine=0"),
        part.replace(norm="bn", bias=False),
    )
    return (
        plain(profile, "none", "no BN"),
        plain(profile, "bn", "BN"),
        *(
            Arm(name, config, label)
            for (name, label), config in zip(PART_LABELS.items(), settings, strict=True)
        ),
        *(
            Arm(f"bn/{each}", part.replace(norm="bn", norm_layers=each), f"BN: {layers_of(each)}")
            for each in subsets
        ),
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register, to be estimated only, each part, each layer alone and all layers but one."""
    if not registers(profile):
        return ()

    def explored(
        name: str, sentence: str, arm: str, epochs: int, measure: str = "steps-to-target"
    ) -> Claim:
        of_steps = measure == "steps-to-target"
        options = {"target": TARGET, "epochs": epochs} if of_steps else {"epochs": epochs}
        return Claim(
            id=f"parts-{name}",
            sentence=sentence,
            source="Salimans & Kingma 2016; Ioffe & Szegedy 2015",
            estimand=Estimand(
                measure, ((arm,), ("bn",)), options, scale="ratio" if of_steps else "difference"
            ),
            unit="times" if of_steps else "points",
            direction="greater" if of_steps else "less",
            test="sign-flip",
            family="exploratory",
            robustness=(
                Variant("target 60%", {"target": 0.60})
                if of_steps
                else Variant("with running averages", {"statistics": "running"}),
            ),
        )

    of_parts = {
        "mean-only": "BN that only centres",
        "variance-only": "BN that only divides",
        "bn/no-affine": "BN without gamma and beta",
        "bn/no-bias": "BN without the bias before it",
    }
    steps = "needs more steps to 70% validation accuracy than BN"
    return (
        *(
            explored(f"{arm.removeprefix('bn/')}-steps", f"{words} {steps}", arm, SHORT)
            for arm, words in of_parts.items()
        ),
        *(
            explored(
                f"{arm.removeprefix('bn/')}-accuracy",
                f"{words} is less accurate than BN after {SHORT} epoch",
                arm,
                SHORT,
                "accuracy",
            )
            for arm, words in of_parts.items()
        ),
        *(
            explored(
                f"only-{name}",
                f"BN in {name} alone {steps} in all layers",
                f"bn/{number}",
                SHORT,
            )
            for number, name in LAYERS.items()
        ),
        *(
            explored(
                f"without-{name}",
                f"BN in all layers but {name} {steps} in all",
                f"bn/{''.join(each for each in LAYERS if each != number)}",
                SHORT,
            )
            for number, name in LAYERS.items()
        ),
    )


WHOLE = ("none", "bn", *PART_LABELS)
IN_LAYERS = {
    size: ("none", "bn", *(f"bn/{each}" for each in subsets)) for size, subsets in SUBSETS.items()
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
        "beta as usual. Without gamma and beta: 1 and 0 throughout. Then whole batch "
        "normalization in one of the four layers, in all but one, and at the full size in two. "
        "At the standard size all of these are watched for one epoch, and arms compared up to the "
        "last step that both were watched to. All of this is exploratory: estimates with "
        "intervals, and no verdict."
    ),
    limits=(
        "One learning rate, that of the notes, which suits whole batch normalization; a part may "
        "have a better one of its own. Mean-only normalization stands here without the weight "
        "normalization that it was made for. After one epoch no arm has converged, so "
        "accuracies tell speed as well. Nothing here is corrected for the number of comparisons."
    ),
    arms=arms,
    claims=claims,
    targets=(TARGET,),
    exhibits=(
        Exhibit(
            "learning-curves",
            "Validation accuracy by epoch, running averages; thin lines: seeds.",
            {"arms": WHOLE},
        ),
        Exhibit(
            "ranking",
            "Optimizer steps until the validation accuracy first reaches 70%, the parts of batch "
            "normalization: a dot a seed, geometric means with intervals. Open triangles: not "
            "reached. Dashed: whole batch normalization.",
            {"arms": WHOLE, "baseline": "bn"},
        ),
        Exhibit(
            "ranking",
            "Test accuracy with population statistics at the last step that all were watched to: a "
            "dot a seed, means with intervals. Dashed: whole batch normalization.",
            {"arms": WHOLE, "baseline": "bn", "of": "accuracy"},
        ),
        *(
            Exhibit(
                "ranking",
                f"{what}, batch normalization in some layers. Dashed: in all layers.",
                {"arms": IN_LAYERS[size], "baseline": "bn", "of": of},
                (size,),
            )
            for size in SUBSETS
            for of, what in (
                (
                    "steps",
                    "Optimizer steps until the validation accuracy first reaches 70% (a dot a "
                    "seed, geometric means with intervals; open triangles: not reached)",
                ),
                (
                    "accuracy",
                    "Test accuracy with population statistics at the last step that all were "
                    "watched to",
                ),
            )
        ),
        Exhibit(
            "kaplan-meier",
            "Share of seeds whose validation accuracy has not reached 70% yet, by step, with "
            "95% intervals (Kaplan-Meier).",
            {"arms": WHOLE},
        ),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", PARTS.name])  # type: ignore[has-type]
