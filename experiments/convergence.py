"""Does batch normalization reach a given accuracy in fewer steps?

Arms: ``none`` and ``bn`` at the notes' settings (sigmoid, batches of 256, SGD
at 0.9), and both over a grid of learning rates, since a fair comparison lets
each arm have the rate that suits it.

Cost: 52.8 M image-passes at the standard size (2 arms x 16 seeds x 550,000, 2 x 16 x 275,000,
6 x 16 x 165,000, and with ReLUs 2 x 16 x 165,000 and 6 x 16 x 55,000).

Expected: at the notes' rate ``bn`` is several times faster, because a sigmoid
LeNet without it sits on a plateau first; part of the difference disappears at the best
rate of each arm.

Command: ``bnstudy run convergence``

Source: Ioffe & Szegedy 2015, section 4; the notes: 'batch normalization speeds
up convergence, but generally does not change the accuracy of the model'.
"""

from bnstudy.config import RunConfig
from bnstudy.plan import (
    Arm,
    Claim,
    Estimand,
    Exhibit,
    Experiment,
    Option,
    Premise,
    Profile,
    Variant,
)

from .baseline import baseline_arm, baseline_config
from .common import (
    FREQUENT,
    JUDGING,
    NOTES_RATE,
    SIGN_TEST,
    T_TEST,
    at_target,
    groups,
    pilot,
    steps_ratio,
)

# Rates are written as they stand in the names of arms: 3 rather than 3.0.
RATES = {
    "tiny": (NOTES_RATE,),
    "quick": (NOTES_RATE, 3),
    "standard": (0.03, 0.3, NOTES_RATE, 3, 10),
    "full": (0.03, 0.1, 0.3, NOTES_RATE, 3, 10),
}
NORMS = ("none", "bn")
BEST_RATE = {"none": NOTES_RATE, "bn": 0.3}  # fewest steps to 70 % on pilot seeds
QUOTE = "批量归一化可以加速收敛速度，但一般不改变模型精度。"
SMALL_RATE = {"sigmoid": 0.3, "relu": 0.03}  # the smallest of the grid at which both arms learn
GRID_EPOCHS = {"standard": 3, "full": 10}  # within which a rate trains or does not
STEPS_EPOCHS = {"standard": 5, "full": 10}  # at the rates where claims read steps
SMALL_EPOCHS = 3  # of ReLUs at their small rate
RELU_RATES = (0.003, 0.03, 0.3, 3)
RELU_EPOCHS = 1  # within which a rate trains or does not, with ReLUs
COARSE = 5  # evaluations per epoch at rates where no claim reads steps


def arm_name(norm: str, rate: float) -> str:
    """Return the name of an arm: ``bn`` at the notes' rate, ``bn/lr=3`` at another."""
    return norm if rate == NOTES_RATE else f"{norm}/lr={rate}"


def relu_arm_name(norm: str, rate: float) -> str:
    """Return that of an arm with ReLUs: ``bn/relu`` at the small rate, else ``bn/relu/lr=3``."""
    return f"{norm}/relu" if rate == SMALL_RATE["relu"] else f"{norm}/relu/lr={rate}"


def label_of(norm: str, rate: float) -> str:
    """Return the label of an arm."""
    label = {"none": "no BN", "bn": "BN"}[norm]
    return label if rate == NOTES_RATE else f"{label}, lr {rate}"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return ``none`` and ``bn`` at every learning rate of the profile."""
    sigmoids = tuple(
        baseline_arm(profile, norm, label_of(norm, rate))
        if rate == NOTES_RATE
        else Arm(
            arm_name(norm, rate),
            grid_config(profile, rate).replace(norm=norm),
            label_of(norm, rate),
        )
        for rate in RATES[profile.name]
        for norm in NORMS
    )
    return sigmoids + relu_arms(profile) if profile.judges else sigmoids


def grid_config(profile: Profile, rate: float) -> RunConfig:
    """Return the settings at a rate of the grid: longer and read often where a claim needs it."""
    base = baseline_config(profile)
    reads_steps = profile.judges and rate in (BEST_RATE["bn"], SMALL_RATE["sigmoid"])
    epochs = (STEPS_EPOCHS if reads_steps else GRID_EPOCHS).get(profile.name, base.epochs)
    return base.replace(
        epochs=epochs,
        test_every=epochs,
        learning_rate=rate,
        evaluations_per_epoch=FREQUENT if reads_steps else COARSE,
    )


def relu_arms(profile: Profile) -> tuple[Arm, ...]:
    """Return both arms with ReLUs: three epochs at the small rate, one at others."""
    small = SMALL_RATE["relu"]
    long = baseline_config(profile).replace(
        activation="relu", learning_rate=small, epochs=SMALL_EPOCHS, test_every=SMALL_EPOCHS
    )
    short = long.replace(epochs=RELU_EPOCHS, test_every=RELU_EPOCHS, evaluations_per_epoch=COARSE)
    return tuple(
        Arm(
            relu_arm_name(norm, rate),
            (long if rate == small else short).replace(norm=norm, learning_rate=rate),
            f"{label_of(norm, NOTES_RATE)}, ReLU" + (f", lr {rate}" if rate != small else ""),
        )
        for rate in RELU_RATES
        for norm in NORMS
    )


SPEED = (
    Claim(
        id="speed",
        sentence="BN reaches a validation accuracy in fewer steps at the notes' settings",
        source="Lecture notes; Ioffe & Szegedy 2015",
        quote=QUOTE,
        estimand=steps_ratio("none", "bn", 0.70, 10),
        direction="greater",
        pilot=pilot(2.651, 0.2822),
        robustness=(
            at_target(75),
            at_target(80),
            Variant("within 5 epochs", {"epochs": 5}),
            SIGN_TEST,
            T_TEST,
        ),
    ),
    Claim(
        id="speed-tuned",
        sentence="BN reaches a validation accuracy in fewer steps, each arm at its best rate",
        source="Ioffe & Szegedy 2015",
        estimand=steps_ratio(
            arm_name("none", BEST_RATE["none"]),
            arm_name("bn", BEST_RATE["bn"]),
            0.70,
            STEPS_EPOCHS["standard"],
        ),
        direction="greater",
        pilot=pilot(2.705, 0.1948),
        robustness=(at_target(75), at_target(80), SIGN_TEST),
    ),
)


def trained_range(
    bn: tuple[str, ...], none: tuple[str, ...], rates: tuple[float, ...], epochs: int
) -> Estimand:
    """Return BN against no BN in the range of learning rates that train within some epochs."""
    options: dict[str, Option] = {"threshold": 0.7, "epochs": epochs}
    return Estimand("trains", (bn, none), options, summary="range", levels=rates)


def both_ends_fail(rates: Estimand) -> Premise:
    """Return the premise that in both arms every seed trains between the ends, and at neither.

    Else the range is the width of the grid, or of what trains in few epochs, not the network's.
    """
    return Premise("bracketed", options={"best": "greatest", "share": 1.0}, estimand=rates)


def rate_range_claim(profile: Profile) -> Claim:
    """Return the claim about the range of learning rates, over the grid of the profile."""
    rates = RATES[profile.name]
    bn, none = (tuple(arm_name(norm, rate) for rate in rates) for norm in ("bn", "none"))
    estimand = trained_range(bn, none, rates, GRID_EPOCHS[profile.name])
    return Claim(
        id="lr-range",
        sentence="BN widens the range of learning rates that train by a decade or more",
        source="Ioffe & Szegedy 2015; Bjorck et al. 2018; Arora, Li & Lyu 2019",
        estimand=estimand,
        unit="decades",
        direction="greater",
        centre=1.0,
        pilot=pilot(2.359, 0.2503),
        robustness=(
            Variant("60% training accuracy", {"threshold": 0.6}),
            Variant("within 2 epochs", {"epochs": 2}),
        ),
        premises=(both_ends_fail(estimand),),
    )


RELU_RANGE = trained_range(
    tuple(relu_arm_name("bn", rate) for rate in RELU_RATES),
    tuple(relu_arm_name("none", rate) for rate in RELU_RATES),
    RELU_RATES,
    RELU_EPOCHS,
)
RELU_RATE_RANGE = Claim(
    id="lr-range-relu",
    sentence="BN widens the range of learning rates that train by a decade or more (ReLUs, "
    "one epoch)",
    source="Ioffe & Szegedy 2015; Bjorck et al. 2018; Arora, Li & Lyu 2019",
    estimand=RELU_RANGE,
    unit="decades",
    direction="greater",
    centre=1.0,
    pilot=pilot(2.375, 0.5),
    robustness=(Variant("60% training accuracy", {"threshold": 0.6}),),
    premises=(both_ends_fail(RELU_RANGE),),
)

# The claim denies an advantage of BN, so only a faster BN may contradict it.  Equivalence
# within 1.25 would also be refuted by a slower BN; so 1.25 is the centre of a direction.
SMALL_RATES = tuple(
    Claim(
        id=f"small-lr-{activation}",
        sentence="At a learning rate small enough for both, BN is less than 1.25 times as fast "
        f"({units}, {SMALL_RATE[activation]})",
        source="Bjorck et al. 2018",
        estimand=steps_ratio(*pair, 0.50, epochs),
        direction="less",
        centre=1.25,
        pilot=estimate,
        robustness=(at_target(60), at_target(70), T_TEST),
    )
    for activation, units, pair, epochs, estimate in (
        (
            "sigmoid",
            "sigmoids",
            (arm_name("none", SMALL_RATE["sigmoid"]), arm_name("bn", SMALL_RATE["sigmoid"])),
            STEPS_EPOCHS["standard"],
            pilot(3.15, 0.1769),
        ),
        ("relu", "ReLUs", ("none/relu", "bn/relu"), SMALL_EPOCHS, None),
    )
)


def statistics_estimand(measure: str, arm: str, scale: str, **options: Option) -> Estimand:
    """Return running averages against population statistics, of the same weights."""
    return Estimand(
        measure,
        groups(arm, arm),
        {**options, "statistics": "running"},
        {"statistics": "population"},
        scale=scale,
    )


EVALUATION = (
    Claim(
        id="eval-stats",
        sentence="With running averages test accuracy is lower than with population "
        "statistics of the same weights",
        source="Wu & Johnson 2021",
        estimand=statistics_estimand("accuracy", "bn", "difference", epochs=10),
        direction="less",
        pilot=pilot(-0.02031, 0.02262),
        robustness=(Variant("after 5 epochs", {"epochs": 5}), T_TEST),
    ),
    Claim(
        id="eval-stats-spread",
        sentence="With running averages test accuracy varies more from epoch to epoch than "
        "with population statistics of the same weights",
        source="Wu & Johnson 2021",
        estimand=statistics_estimand("accuracy-deviation", "bn", "ratio", epochs=10, last=5),
        direction="greater",
        pilot=pilot(0.9242, 0.5513),
        robustness=(T_TEST,),
    ),
)


def evaluation_claim(rate: float, epochs: int) -> Claim:
    """Return the claim about running averages at another rate; it is not judged."""
    return Claim(
        id=f"eval-stats-lr-{rate}".replace(".", "-"),
        sentence="With running averages test accuracy is lower than with population "
        f"statistics of the same weights, at a rate of {rate}",
        source="Wu & Johnson 2021",
        estimand=statistics_estimand("accuracy", arm_name("bn", rate), "difference", epochs=epochs),
        direction="less",
        family="explored",
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Return the claims; the grid of rates and its epochs differ between profiles."""
    return (
        *SPEED,
        rate_range_claim(profile),
        RELU_RATE_RANGE,
        *SMALL_RATES,
        *EVALUATION,
        evaluation_claim(0.3, STEPS_EPOCHS[profile.name]),
        evaluation_claim(3, GRID_EPOCHS[profile.name]),
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
        "images, so arms are compared within a seed. With ReLUs, three epochs at a small rate and "
        "one at others. Accuracy is read on validation images "
        "that no arm trains on (1,000 of them, the same for all), twenty times an epoch "
        "where a claim reads steps, else five times. A "
        "run that has not reached a target by its last step is kept and counted as censored there; "
        "so is one that diverged."
    ),
    limits=(
        "One small network, one data set, mostly sigmoids. Steps are not seconds: a step with "
        "batch normalization costs more. Steps are read every 11 steps at the rates that claims "
        "compare and every 43 at others, so smaller differences are rounded away."
    ),
    arms=arms,
    claims=claims,
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
            "kaplan-meier",
            "Share of seeds whose validation accuracy has not reached a target yet, by step, with "
            "95% intervals (Kaplan-Meier).",
            {"arms": ("none", "bn")},
        ),
        Exhibit(
            "learning-rates",
            "Steps to the first target against the learning rate, one point per seed. Open "
            "triangles: not reached.",
            {"heads": ("none", "bn")},
        ),
        Exhibit(
            "learning-rates",
            "The same with ReLUs, within one epoch.",
            {"heads": ("none/relu", "bn/relu")},
            JUDGING,
        ),
        Exhibit(
            "learning-curves",
            "Training loss by epoch at the notes' learning rate, mean since the point before.",
            {"arms": ("none", "bn"), "y": "train_loss"},
        ),
        Exhibit(
            "evaluation-statistics",
            "Test accuracy of the same weights at the end of each epoch, by the running averages "
            "that the layers keep and by population statistics recomputed over training images.",
            {"arms": ("bn",)},
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end of training, one point per seed. This is accuracy after a "
            "fixed number of epochs, not of a converged network.",
            {"arms": ("none", "bn"), "baseline": "none"},
        ),
    ),
)
