"""Up to which batch size do larger batches need fewer steps, and does BN move that point?

Arms: ``none`` and ``bn`` with ReLUs and batches of 8 to 1,024 images, each at the rate of a
small grid at which it reached the target in the fewest steps on pilot seeds.

Cost: 13.3 M image-passes at the standard size (16 arms x 16 seeds; 8,192 to 165,000 images).

Expected: steps fall in proportion to the batch at first and then hardly; batch
normalization tolerates larger rates, so larger batches save steps for longer.

Command: ``bnstudy run batch-speed``; its rates come from
``python -m bnstudy.experiments.tuning``.

Source: Shallue et al. 2019; Masters & Luschi 2018.
"""

from bnstudy.config import RunConfig
from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Profile

from .common import T_TEST, at_target, notes

TARGET = 0.7
STEPS = 1_024  # about the least number of steps of a run, where there are images enough
EPOCHS = {"none": {512: 2, 1024: 3}, "bn": {}}  # of all images; else 1
ALL_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
SIZES = {"tiny": (8, 64), "quick": (8, 64), "standard": ALL_SIZES, "full": ALL_SIZES}
# the best of tuning.RATES on pilot seeds
RATES = {
    "none": {8: 0.05, 16: 0.05, 32: 0.05, 64: 0.05, 128: 0.15, 256: 0.15, 512: 0.15, 1024: 0.15},
    "bn": {8: 0.05, 16: 0.15, 32: 0.15, 64: 0.15, 128: 0.45, 256: 0.45, 512: 0.45, 1024: 0.45},
}
LABELS = {"none": "no BN", "bn": "BN"}


def settings(profile: Profile, norm: str, size: int, rate: float) -> RunConfig:
    """Return an arm's settings: enough images for its steps, evaluated often."""
    epochs = EPOCHS[norm].get(size, 1)
    images = 0 if epochs > 1 else min(55_000, STEPS * size)
    base = notes(
        profile,
        activation="relu",
        train_images=images,
        validation_images=1_000,
        epochs=epochs,
        evaluations_per_epoch=40 if profile.judges else 10,
        test_every=epochs,
    )
    return base.replace(norm=norm, batch_size=size, learning_rate=rate)


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return both kinds of network at every batch size, at their rates."""
    return tuple(
        Arm(
            f"{norm}/B={size}",
            settings(profile, norm, size, RATES[norm][size]),
            f"{label}, batches of {size}",
        )
        for norm, label in LABELS.items()
        for size in SIZES[profile.name]
    )


def steps_by_size(*norms: str, summary: str) -> Estimand:
    """Return a summary of the steps to the target over batch sizes."""
    return Estimand(
        "steps-to-target",
        tuple(tuple(f"{norm}/B={size}" for size in ALL_SIZES) for norm in norms),
        {"target": TARGET},
        summary=summary,
        levels=ALL_SIZES,
        level_scale="log2",
        scale="ratio",
    )


TARGETS = (at_target(65), at_target(75))
CLAIMS = (
    Claim(
        id="batch-speed",
        sentence="The batch size beyond which larger batches save fewer steps is larger with BN",
        source="Shallue et al. 2019; Masters & Luschi 2018",
        estimand=steps_by_size("bn", "none", summary="knee"),
        unit="doublings of the batch",
        direction="greater",
        robustness=(*TARGETS, T_TEST),
    ),
    *(
        Claim(
            id=f"batch-speed-{norm}",
            sentence=f"Doubling the batch halves the steps, on average from {ALL_SIZES[0]} to "
            f"{ALL_SIZES[-1]} images ({label})",
            source="Shallue et al. 2019",
            estimand=steps_by_size(norm, summary="slope"),
            unit="of the logarithm per doubling",
            direction="less",
            centre=-0.6,
            family="explored",
            robustness=TARGETS,
        )
        for norm, label in LABELS.items()
    ),
)


BATCH_SPEED = Experiment(
    name="batch-speed",
    title="Up to which batch size do larger batches save steps?",
    question=(
        "A batch twice as large can halve the steps to an accuracy, but not for ever. Where does "
        "it stop, and does batch normalization move that point to larger batches?"
    ),
    literature=(
        "Shallue et al. (2019) find for many networks that steps fall in proportion to the batch "
        "up to a point and then no further. Masters & Luschi (2018) hold small batches to be "
        "best, with batch normalization as well."
    ),
    design=(
        "LeNet with ReLUs, with and without batch normalization, batches of 8 to 1,024 images. "
        "The rate of every arm is that of a grid of factors of 3 which needed the fewest steps on "
        "pilot seeds that no claim uses. The logarithm of the steps to 70 % of validation "
        "accuracy is fitted within each seed by two joined lines over the logarithm of the batch; "
        "where they meet is the seed's point."
    ),
    limits=(
        "Rates are tuned in factors of 3, so steps are up to about a third above the best. Steps "
        "are read on a grid, of 1 step at 1,024 and of 26 at 8 images. The target is low; a "
        "higher one may put the point elsewhere."
    ),
    arms=arms,
    claims=CLAIMS,
    targets=(TARGET,),
    exhibits=(
        Exhibit(
            "steps-by-batch",
            "Optimizer steps until the validation accuracy first reaches 70 %, against the batch "
            "size; thin lines are seeds. Dashed: half the steps with every doubling. At the foot: "
            "where two joined lines meet, the mean of the seeds with its interval.",
            {"norms": LABELS},
        ),
    ),
)
