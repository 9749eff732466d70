"""Given time to converge, does batch normalization change the final accuracy?

Arms: ``none`` and ``bn`` with ReLUs, which converge soon, for 8 epochs in which the learning
rate falls to zero; and with sigmoids, as in the notes, for their 10 epochs (40 at the full
size). Each at the rate of a grid that gave it the best accuracy on pilot seeds.

Cost: 31.7 M image-passes at the standard size (2 arms x 16 seeds x 440,000, and 17.6 M that
are shared with ``convergence``).

Expected: the notes say that accuracy does not change. With sigmoids the arm without
normalization is still improving after 10 epochs.

Command: ``bnstudy run final``; the rates of ReLUs come from
``python -m bnstudy.experiments.tuning``.

Source: the notes, 'generally does not change the accuracy'; Ioffe & Szegedy 2015.
"""

from dataclasses import replace

from bnstudy.config import RunConfig
from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Premise, Profile, Variant

from .baseline import baseline_arm, baseline_config
from .common import RUNNING, accuracy, groups, notes, pilot

EPOCHS = {"standard": 10, "full": 40}
LAST = 5  # epochs in which a network that has converged gains next to nothing
RATES = {"none": 0.9, "bn": 0.9}
RELU_EPOCHS = 8
RELU_BATCH = 32  # many steps for the same images
RELU_TEST_EVERY = 2
RELU_LAST = 4  # LAST, in whole intervals between two tests
CONVERGED = 0.005  # of accuracy: a gain below it over the last epochs is next to nothing
RELU_RATES = {"none": 0.15, "bn": 0.15}  # the best of tuning.RATES on pilot seeds
LABELS = {"none": "no BN", "bn": "BN"}
# differences of accuracy on pilot seeds: mean, standard deviation
PILOT = (0.1012, 0.01086)
RELU_PILOT = (0.01485, 0.004843)
QUOTE = "批量归一化可以加速收敛速度，但一般不改变模型精度。"
SOURCE = "Lecture notes; Ioffe & Szegedy 2015"


def relu_config(profile: Profile, norm: str, rate: float) -> RunConfig:
    """Return the settings with ReLUs: a cosine takes the learning rate to zero."""
    base = notes(profile, epochs=RELU_EPOCHS, evaluations_per_epoch=2, test_every=RELU_TEST_EVERY)
    return base.replace(
        norm=norm,
        activation="relu",
        learning_rate=rate,
        schedule="cosine",
        batch_size=RELU_BATCH,
    )


def sigmoid_arm(profile: Profile, norm: str, label: str) -> Arm:
    """Return an arm with sigmoids: the baseline arm, unless it trains longer."""
    arm = baseline_arm(profile, norm, label)
    epochs = EPOCHS.get(profile.name, arm.config.epochs)
    config = baseline_config(profile).replace(epochs=epochs, norm=norm, learning_rate=RATES[norm])
    return arm if config == arm.config else replace(arm, config=config, probes={})


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return both arms at their own learning rates, with either activation."""
    return (
        *(sigmoid_arm(profile, norm, f"{label}, sigmoid") for norm, label in LABELS.items()),
        *(
            Arm(f"{norm}/relu", relu_config(profile, norm, rate), f"{LABELS[norm]}, ReLU")
            for norm, rate in RELU_RATES.items()
        ),
    )


SAME_ACCURACY = Claim(
    id="same-accuracy",
    sentence="Given time to converge, BN does not change the final accuracy (ReLUs)",
    source=SOURCE,
    quote=QUOTE,
    estimand=accuracy("bn/relu", "none/relu", epochs=RELU_EPOCHS),
    direction="within",
    margin=0.01,
    pilot=pilot(*RELU_PILOT),
    robustness=(RUNNING, Variant("within 2 points", margin=0.02)),
    # 'final' is said of curves that have stopped to rise
    premises=(
        Premise(
            "flat", groups("bn/relu", "none/relu"), {"last": RELU_LAST, "tolerance": CONVERGED}
        ),
    ),
)


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Return the notes' claim with either activation, and whether sigmoids converged."""
    epochs = EPOCHS[profile.name]
    before = epochs - LAST
    return (
        SAME_ACCURACY,
        Claim(
            id="same-accuracy-sigmoid",
            sentence=f"After {epochs} epochs BN has changed the accuracy by less than 2 points "
            "(sigmoids, the notes' settings)",
            source=SOURCE,
            quote=QUOTE,
            estimand=accuracy("bn", "none", epochs=epochs),
            direction="within",
            margin=0.02,  # 16 seeds cannot decide 1 point at the pilot's spread
            pilot=pilot(*PILOT),
            robustness=(
                RUNNING,
                Variant(f"after {before} epochs", {"epochs": before}),
                Variant("within 1 point", margin=0.01),
            ),
        ),
        *(
            Claim(
                id=f"converged-{norm}",
                sentence=f"{label} with sigmoids has converged: its last {LAST} epochs "
                "gain less than half a point of test accuracy",
                source="Lecture notes",
                quote="一般不改变模型精度",
                estimand=Estimand(
                    "accuracy", groups(norm, norm), {"epochs": epochs}, {"epochs": before}
                ),
                direction="less",
                centre=CONVERGED,
                family="explored",  # a condition of the claim above, not a claim about BN
            )
            for norm, label in (("none", "No BN"), ("bn", "BN"))
        ),
    )


FINAL = Experiment(
    name="final",
    title="Does batch normalization change the final accuracy?",
    question=(
        "Batch normalization makes training faster, but is the trained network any better? Each "
        "arm gets a learning rate that suits it and far more epochs than it needs to get started."
    ),
    literature=(
        "The notes: batch normalization generally does not change the accuracy of the model. "
        "Ioffe & Szegedy (2015) report a better accuracy with it, on a much larger network and "
        "with less of other regularization."
    ),
    design=(
        f"LeNet with ReLUs, batches of {RELU_BATCH}, plain SGD for {RELU_EPOCHS} epochs at "
        f"{RELU_RATES['none']} without and {RELU_RATES['bn']} with batch normalization, each "
        "the best of three rates on pilot seeds, falling to zero by a cosine, so that training "
        f"ends. With sigmoids {EPOCHS['standard']} epochs at 0.9, as in the notes: of the rates "
        "0.03, 0.1, 0.3, 0.9, 3 and 10 the one that gave either arm its best accuracy on pilot "
        f"seeds. An arm counts as converged when its last {LAST} epochs gain less than half a "
        f"point; at the full size sigmoids get {EPOCHS['full']} epochs. The primary accuracy is "
        "that with population statistics re-estimated on training images. A seed gives all arms "
        "the same initial weights and order of images."
    ),
    limits=(
        "A fixed number of epochs: where an arm's curve still rises at the end, as that of "
        "sigmoids without normalization does, its final accuracy is not known. One small network, "
        "one data set."
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
            "Test accuracy at the end with ReLUs, whose training ends, one point per seed, and the "
            "differences within seeds.",
            {"arms": ("none/relu", "bn/relu")},
        ),
        Exhibit(
            "final-accuracy",
            "The same with sigmoids, which without normalization are still improving.",
            {"arms": ("none", "bn")},
        ),
        Exhibit("learning-curves", "Training loss by epoch.", {"y": "train_loss"}),
    ),
)
