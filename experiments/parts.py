"""Which part of batch normalization does it: which half, which parameters, which layers?

Arms: ``none`` and ``bn``; ``mean-only`` (centres, does not divide) and ``variance-only`` (divides,
does not centre); BN without its gamma and beta, and without the bias before it; and BN in each of
the 14 subsets of the four layers that are neither none nor all.

Cost: 37.0 M image-passes at the standard size, of which 17.6 M (``none`` and ``bn``) are shared
with ``convergence``: 4 arms x 16 seeds x 110,000 and 14 x 16 x 55,000 are its own.  Parts are
watched for two epochs and subsets for one, since ``bn`` needs a quarter of an epoch to the target.

Expected: Salimans & Kingma find that mean-only BN does much of what BN does, together with weight
normalization, which keeps the scale; here nothing does.  Dividing without centring should fare
worst, since sums of sigmoids stand far from zero.  A bias before BN does nothing.

Run it: ``python -m experiments.parts`` or ``bnstudy run parts``.

Source: Salimans & Kingma 2016, section 4; Ioffe & Szegedy 2015, section 3.
"""

from itertools import combinations

from bnstudy.claim import Claim, Estimand, Variant
from bnstudy.study import Arm, Exhibit, Experiment, Profile
from experiments.common import REGISTERING, fine, registers

LAYERS = {"1": "conv1", "2": "conv2", "3": "fc1", "4": "fc2"}
SUBSETS = tuple(
    "".join(subset) for size in range(1, len(LAYERS)) for subset in combinations(LAYERS, size)
)
PARTS_EPOCHS, SUBSET_EPOCHS = 2, 1  # at the standard size; at the full one as long as the notes'
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
    part, subset = whole, whole
    subsets = SUBSETS if registers(profile) else ()  # too many for a first look
    if profile.name == "standard":
        part, subset = (
            whole.replace(epochs=each, test_every=each) for each in (PARTS_EPOCHS, SUBSET_EPOCHS)
        )
    settings = (
        part.replace(norm="mean-only"),
        part.replace(norm="variance-only"),
        part.replace(norm="bn:affine=0"),
        part.replace(norm="bn", bias=False),
    )
    return (
        Arm("none", whole, "no BN"),
        Arm("bn", whole.replace(norm="bn"), "BN"),
        *(
            Arm(name, config, label)
            for (name, label), config in zip(PART_LABELS.items(), settings, strict=True)
        ),
        *(
            Arm(f"bn/{each}", subset.replace(norm="bn", norm_layers=each), f"BN: {layers_of(each)}")
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
            explored(f"{arm.removeprefix('bn/')}-steps", f"{words} {steps}", arm, PARTS_EPOCHS)
            for arm, words in of_parts.items()
        ),
        *(
            explored(
                f"{arm.removeprefix('bn/')}-accuracy",
                f"{words} is less accurate than BN after {PARTS_EPOCHS} epochs",
                arm,
                PARTS_EPOCHS,
                "accuracy",
            )
            for arm, words in of_parts.items()
        ),
        *(
            explored(
                f"only-{name}",
                f"BN in {name} alone {steps} in all layers",
                f"bn/{number}",
                SUBSET_EPOCHS,
            )
            for number, name in LAYERS.items()
        ),
        *(
            explored(
                f"without-{name}",
                f"BN in all layers but {name} {steps} in all",
                f"bn/{''.join(each for each in LAYERS if each != number)}",
                SUBSET_EPOCHS,
            )
            for number, name in LAYERS.items()
        ),
    )


WHOLE = ("none", "bn", *PART_LABELS)
IN_LAYERS = ("none", "bn", *(f"bn/{subset}" for subset in SUBSETS))

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
        "normalization in some of the four layers only, all 16 subsets. Parts are watched for two "
        "epochs, subsets for one (at the standard size), and arms compared up to the last step "
        "that both were watched to. All of this is exploratory: estimates with intervals, and no "
        "verdict."
    ),
    limits=(
        "One learning rate, that of the notes, which suits whole batch normalization; a part may "
        "have a better one of its own. Mean-only normalization stands here without the weight "
        "normalization that it was made for. After one or two epochs no arm has converged, so "
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
        Exhibit(
            "ranking",
            "Optimizer steps until the validation accuracy first reaches 70%, batch normalization "
            "in some layers: a dot a seed, geometric means with intervals. Open triangles: not "
            "reached. Dashed: in all layers.",
            {"arms": IN_LAYERS, "baseline": "bn"},
            REGISTERING,
        ),
        Exhibit(
            "ranking",
            "Test accuracy with population statistics at the last step that all were watched to, "
            "batch normalization in some layers.",
            {"arms": IN_LAYERS, "baseline": "bn", "of": "accuracy"},
            REGISTERING,
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
