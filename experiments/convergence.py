"""Does batch normalization reach a given accuracy in fewer steps?

Arms: ``none`` and ``bn`` at the notes' settings (sigmoid, batches of 256, SGD
at 0.9), and both over a grid of learning rates, since a fair comparison lets
each arm have the rate that suits it.

Cost: 52.8 M image-passes at the standard size (2 arms x 16 seeds x 550,000, 2 x 16 x 275,000,
6 x 16 x 165,000, and with ReLUs 2 x 16 x 165,000 and 6 x 16 x 55,000).

Expected: at the notes' rate ``bn`` is several times faster, because a sigmoid
LeNet without it sits on a plateau first; part of the gap closes at the best
rate of each arm.

Run it: ``python -m experiments.convergence`` or ``bnstudy run convergence``.

Source: Ioffe & Szegedy 2015, section 4; the notes: 'batch normalization speeds
up convergence, but generally does not change the accuracy of the model'.
"""

from bnstudy.config import RunConfig
from bnstudy.plan.claim import Claim, Estimand, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments.common import FINE, NOTES_RATE, REGISTERING, headline, pilot, registers
from experiments.plain import plain

RATES = {
    "tiny": (NOTES_RATE,),
    "quick": (NOTES_RATE, 3.0),
    "standard": (0.03, 0.3, NOTES_RATE, 3.0, 10.0),
    "full": (0.03, 0.1, 0.3, NOTES_RATE, 3.0, 10.0),
}
NORMS = ("none", "bn")
BEST_RATE = {"none": NOTES_RATE, "bn": 0.3}  # fewest steps to 70 % on pilot seeds
QUOTE = "批量归一化可以加速收敛速度，但一般不改变模型精度。"
SMALL_RATE = {"sigmoid": 0.3, "relu": 0.03}  # the smallest of the grid at which both arms learn
GRID_EPOCHS = {"standard": 3, "full": 10}  # within which a rate trains or does not
READ_EPOCHS = {"standard": 5, "full": 10}  # of the rates at which claims read steps
SMALL_EPOCHS = 3  # of ReLUs
RELU_RATES = (0.003, 0.03, 0.3, 3.0)
RELU_EPOCHS = 1  # within which a rate trains or does not, with ReLUs
SMALL_PILOT = {"sigmoid": pilot(3.15, 0.1769)}
COARSE = 5  # evaluations an epoch at rates of which no claim reads steps


def name_of(norm: str, rate: float) -> str:
    """Name an arm: ``bn`` at the notes' rate, ``bn/lr=3`` at another."""
    return norm if rate == NOTES_RATE else f"{norm}/lr={rate:g}"


def relu_name_of(norm: str, rate: float) -> str:
    """Name an arm with ReLUs: ``bn/relu`` at the small rate, ``bn/relu/lr=3`` at another."""
    return f"{norm}/relu" if rate == SMALL_RATE["relu"] else f"{norm}/relu/lr={rate:g}"


def label_of(norm: str, rate: float) -> str:
    """Name an arm in sentences."""
    words = {"none": "no BN", "bn": "BN"}[norm]
    return words if rate == NOTES_RATE else f"{words}, lr {rate:g}"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return ``none`` and ``bn`` at every learning rate of the profile."""
    whole = headline(profile)

    def grid(rate: float) -> RunConfig:
        read = registers(profile) and rate in (BEST_RATE["bn"], SMALL_RATE["sigmoid"])
        epochs = (READ_EPOCHS if read else GRID_EPOCHS).get(profile.name, whole.epochs)
        often = FINE if read else COARSE
        return whole.replace(
            epochs=epochs, test_every=epochs, learning_rate=rate, evaluations_per_epoch=often
        )

    sigmoids = tuple(
        plain(profile, norm, label_of(norm, rate))
        if rate == NOTES_RATE
        else Arm(name_of(norm, rate), grid(rate).replace(norm=norm), label_of(norm, rate))
        for rate in RATES[profile.name]
        for norm in NORMS
    )
    if not registers(profile):
        return sigmoids
    relu = whole.replace(
        activation="relu",
        learning_rate=SMALL_RATE["relu"],
        epochs=SMALL_EPOCHS,
        test_every=SMALL_EPOCHS,
    )
    brief = relu.replace(epochs=RELU_EPOCHS, test_every=RELU_EPOCHS, evaluations_per_epoch=COARSE)
    relus = tuple(
        Arm(
            relu_name_of(norm, rate),
            (relu if rate == relu.learning_rate else brief).replace(norm=norm, learning_rate=rate),
            f"{label_of(norm, NOTES_RATE)}, ReLU"
            + (f", lr {rate:g}" if rate != relu.learning_rate else ""),
        )
        for rate in RELU_RATES
        for norm in NORMS
    )
    return sigmoids + relus


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register speed at the notes' and at the best rates, the range of rates, and more."""
    if not registers(profile):
        return ()
    rates = RATES[profile.name]
    arms_of = {norm: tuple(name_of(norm, rate) for rate in rates) for norm in NORMS}

    best = {norm: name_of(norm, rate) for norm, rate in BEST_RATE.items()}

    def steps(first: str, second: str, target: float, epochs: int) -> Estimand:
        options = {"target": target, "epochs": epochs}
        return Estimand("steps-to-target", ((first,), (second,)), options, scale="ratio")

    speed = (
        Claim(
            id="speed",
            sentence="BN reaches a validation accuracy in fewer steps at the notes' settings",
            source="Lecture notes; Ioffe & Szegedy 2015",
            quote=QUOTE,
            estimand=steps("none", "bn", 0.70, 10),
            unit="times",
            direction="greater",
            test="sign-flip",
            pilot=pilot(2.651, 0.2822),
            robustness=(
                Variant("target 75%", {"target": 0.75}),
                Variant("target 80%", {"target": 0.80}),
                Variant("within 5 epochs", {"epochs": 5}),
                Variant("sign test", test="sign"),
                Variant("t test", test="t"),
            ),
        ),
        Claim(
            id="speed-tuned",
            sentence="BN reaches a validation accuracy in fewer steps, each arm at its best rate",
            source="Ioffe & Szegedy 2015",
            estimand=steps(best["none"], best["bn"], 0.70, READ_EPOCHS["standard"]),
            unit="times",
            direction="greater",
            test="sign-flip",
            pilot=pilot(2.705, 0.1948),
            robustness=(
                Variant("target 75%", {"target": 0.75}),
                Variant("target 80%", {"target": 0.80}),
                Variant("sign test", test="sign"),
            ),
        ),
        Claim(
            id="lr-range",
            sentence="BN widens the range of learning rates that train by a decade or more",
            source="Ioffe & Szegedy 2015; Bjorck et al. 2018; Arora, Li & Lyu 2019",
            estimand=Estimand(
                "trains",
                (arms_of["bn"], arms_of["none"]),
                {"threshold": 0.7, "epochs": GRID_EPOCHS[profile.name]},
                summary="range",
                levels=rates,
            ),
            unit="decades",
            direction="greater",
            centre=1.0,
            test="sign-flip",
            pilot=pilot(2.359, 0.2503),
            robustness=(
                Variant("60% training accuracy", {"threshold": 0.6}),
                Variant("within 2 epochs", {"epochs": 2}),
            ),
        ),
        Claim(
            id="lr-range-relu",
            sentence="BN widens the range of learning rates that train by a decade or more (ReLUs, "
            "one epoch)",
            source="Ioffe & Szegedy 2015; Bjorck et al. 2018; Arora, Li & Lyu 2019",
            estimand=Estimand(
                "trains",
                tuple(tuple(relu_name_of(norm, r) for r in RELU_RATES) for norm in ("bn", "none")),
                {"threshold": 0.7, "epochs": RELU_EPOCHS},
                summary="range",
                levels=RELU_RATES,
            ),
            unit="decades",
            direction="greater",
            centre=1.0,
            test="sign-flip",
            pilot=pilot(2.375, 0.5),
            robustness=(Variant("60% training accuracy", {"threshold": 0.6}),),
        ),
    )
    # Of 'no advantage' only one side can be contradicted: a ratio within 1.25 both ways would
    # also be refuted by BN being slower.  So the margin is a centre, and the test one of it.
    small = tuple(
        Claim(
            id=f"small-lr-{activation}",
            sentence="At a learning rate small enough for both, BN is not even 1.25 times as fast "
            f"({words})",
            source="Bjorck et al. 2018",
            estimand=steps(*pair, 0.50, epochs),
            unit="times",
            direction="less",
            centre=1.25,
            test="sign-flip",
            pilot=SMALL_PILOT.get(activation),
            robustness=(
                Variant("target 60%", {"target": 0.60}),
                Variant("target 70%", {"target": 0.70}),
                Variant("t test", test="t"),
            ),
        )
        for activation, words, pair, epochs in (
            (
                "sigmoid",
                f"sigmoids, {SMALL_RATE['sigmoid']:g}",
                (name_of("none", SMALL_RATE["sigmoid"]), name_of("bn", SMALL_RATE["sigmoid"])),
                READ_EPOCHS["standard"],
            ),
            (
                "relu",
                f"ReLUs, {SMALL_RATE['relu']:g}",
                ("none/relu", "bn/relu"),
                SMALL_EPOCHS,
            ),
        )
    )
    evaluation = (
        Claim(
            id="eval-stats",
            sentence="With running averages test accuracy is lower than with population "
            "statistics of the same weights",
            source="Wu & Johnson 2021",
            estimand=Estimand(
                "accuracy",
                (("bn",), ("bn",)),
                {"epochs": 10, "statistics": "running"},
                {"statistics": "population"},
            ),
            unit="points",
            direction="less",
            test="sign-flip",
            pilot=pilot(-0.02031, 0.02262),
            robustness=(Variant("after 5 epochs", {"epochs": 5}), Variant("t test", test="t")),
        ),
        Claim(
            id="eval-stats-spread",
            sentence="With running averages test accuracy varies more from epoch to epoch than "
            "with population statistics of the same weights",
            source="Wu & Johnson 2021",
            estimand=Estimand(
                "accuracy-deviation",
                (("bn",), ("bn",)),
                {"epochs": 10, "last": 5, "statistics": "running"},
                {"statistics": "population"},
                scale="ratio",
            ),
            unit="times",
            direction="greater",
            test="sign-flip",
            pilot=pilot(0.9242, 0.5513),
            robustness=(Variant("t test", test="t"),),
        ),
        *(
            Claim(
                id=f"eval-stats-lr-{rate:g}".replace(".", "-"),
                sentence="With running averages test accuracy is lower than with population "
                f"statistics of the same weights, at a rate of {rate:g}",
                source="Wu & Johnson 2021",
                estimand=Estimand(
                    "accuracy",
                    ((name_of("bn", rate),), (name_of("bn", rate),)),
                    {"epochs": epochs[profile.name], "statistics": "running"},
                    {"statistics": "population"},
                ),
                unit="points",
                direction="less",
                test="sign-flip",
                family="exploratory",
            )
            for rate, epochs in ((0.3, READ_EPOCHS), (3.0, GRID_EPOCHS))
        ),
    )
    return (*speed, *small, *evaluation)


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
            REGISTERING,
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

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", CONVERGENCE.name])  # type: ignore[has-type]
