"""Does batch normalization reach a given accuracy in fewer steps?

Arms: ``none`` and ``bn`` at the notes' settings (sigmoid, batches of 256, SGD
at 0.9), and both over a grid of learning rates, since a fair comparison lets
each arm have the rate that suits it.

Cost: 61.6 M image-passes at the standard size (2 arms x 16 seeds x 550,000,
and 10 arms x 16 seeds x 275,000).

Expected: at the notes' rate ``bn`` is several times faster, because a sigmoid
LeNet without it sits on a plateau first; part of the gap closes at the best
rate of each arm.

Run it: ``python -m experiments.convergence`` or ``bnstudy run convergence``.

Source: Ioffe & Szegedy 2015, section 4; the notes: 'batch normalization speeds
up convergence, but generally does not change the accuracy of the model'.
"""

from bnstudy.config import RunConfig
from bnstudy.study import Arm, Exhibit, Experiment, Profile

NOTES_RATE = 0.9
SIZES = {
    "tiny": {
        "train_images": 600,
        "validation_images": 200,
        "test_images": 200,
        "population_images": 200,
        "epochs": 1,
        "batch_size": 64,
    },
    "quick": {
        "train_images": 10_240,  # 40 whole batches
        "validation_images": 1_000,
        "test_images": 2_000,
        "population_images": 1_000,
        "epochs": 2,
    },
    "standard": {},
    "full": {},
}
RATES = {
    "tiny": (NOTES_RATE,),
    "quick": (0.1, NOTES_RATE, 3.0),
    "standard": (0.03, 0.1, 0.3, NOTES_RATE, 3.0, 10.0),
    "full": (0.03, 0.1, 0.3, NOTES_RATE, 3.0, 10.0),
}
GRID_EPOCHS = {"standard": 5, "full": 10}


def name_of(norm: str, rate: float) -> str:
    """Name an arm: ``bn`` at the notes' rate, ``bn/lr=3`` at another."""
    return norm if rate == NOTES_RATE else f"{norm}/lr={rate:g}"


def label_of(norm: str, rate: float) -> str:
    """Name an arm in sentences."""
    words = {"none": "no BN", "bn": "BN"}[norm]
    return words if rate == NOTES_RATE else f"{words}, lr {rate:g}"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return ``none`` and ``bn`` at every learning rate of the profile."""
    notes = RunConfig().replace(**SIZES[profile.name])
    grid = notes.replace(epochs=GRID_EPOCHS.get(profile.name, notes.epochs))
    return tuple(
        Arm(
            name_of(norm, rate),
            (notes if rate == NOTES_RATE else grid).replace(norm=norm, learning_rate=rate),
            label_of(norm, rate),
        )
        for rate in RATES[profile.name]
        for norm in ("none", "bn")
    )


CONVERGENCE = Experiment(
    name="convergence",
    title="Does batch normalization train faster?",
    question=(
        "Batch normalization is said to speed up convergence. How many optimizer steps does LeNet "
        "need to reach a validation accuracy with it and without it, at the notes' learning rate "
        "and at others?"
    ),
    literature=(
        "Ioffe & Szegedy (2015) reach the accuracy of their baseline in 14 times fewer steps, at "
        "30 times its learning rate. Bjorck et al. (2018) find that the gain comes from the "
        "larger learning rates that normalization makes possible. The notes say: batch "
        "normalization speeds up convergence, but generally does not change the accuracy."
    ),
    design=(
        "Arms with and without batch normalization (before each sigmoid) at the notes' settings: "
        "batches of 256, plain SGD at 0.9, Xavier-uniform weights; then the same at other "
        "learning rates. A seed gives all arms the same initial weights and the same order of "
        "images, so arms are compared within a seed. Accuracy is read on validation images "
        "that no arm trains on (5,000 of them from the standard size up), five times an epoch. A "
        "run that has not reached a target by its last step is kept and counted as censored there; "
        "so is one that diverged."
    ),
    limits=(
        "One small network, one data set, sigmoids. Steps are not seconds: a step with batch "
        "normalization costs more. Steps are read on a grid of five points an epoch, so small "
        "differences are rounded away."
    ),
    arms=arms,
    targets=(0.70, 0.75, 0.80),  # from pilot seed 1000, which no plan uses
    exhibits=(
        Exhibit(
            "learning-curves",
            "Validation accuracy by epoch at the notes' learning rate. Thin lines are seeds, thick "
            "lines their mean.",
            {"arms": ("none", "bn"), "y": "validation_accuracy"},
        ),
        Exhibit(
            "steps-to-target",
            "Optimizer steps until the validation accuracy first reaches a target; each line joins "
            "the two arms of one seed. Open triangles: not reached, censored at the last step.",
            {"arms": ("none", "bn"), "baseline": "none"},
        ),
        Exhibit(
            "learning-rates",
            "Steps to the first target against the learning rate, one point per seed. Open "
            "triangles: not reached.",
            {"norms": ("none", "bn")},
        ),
        Exhibit(
            "learning-curves",
            "Training loss by epoch at the notes' learning rate, mean since the point before.",
            {"arms": ("none", "bn"), "y": "train_loss"},
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end of training, one point per seed. This is accuracy after a "
            "fixed number of epochs, not of a converged network.",
            {"arms": ("none", "bn"), "baseline": "none"},
        ),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", CONVERGENCE.name])  # type: ignore[has-type]
