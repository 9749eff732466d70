"""Is dropout superfluous beside batch normalization?

Arms: with and without normalization, crossed with dropout of 0 and 0.5 after the hidden
linear layers; on all images for 4 epochs at the notes' settings, and on 5,000 images for
30 with ReLUs, there with dropout of 0.3 too.

Cost: 39.0 M image-passes at the standard size, of which 17.6 M are shared with
``convergence`` (same settings, trained once).

Expected: the notes hold dropout unnecessary beside batch normalization.

Command: ``bnstudy run dropout``

Source: the notes; Ioffe & Szegedy 2015, section 3.4; Garbin, Zhu & Marques 2020.
"""

from typing import Any

from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Premise, Profile, Variant

from .baseline import baseline_arm
from .common import JUDGING, RUNNING, T_TEST, accuracy, groups, notes, notes_for_steps, trained

EPOCHS = 4
# ReLUs and small batches where there is much to overfit: sigmoids without normalization but
# with dropout do not leave their plateau
SMALL_EPOCHS = 30
SMALL: dict[str, Any] = {
    "train_images": 5_000,
    "epochs": SMALL_EPOCHS,
    "batch_size": 32,
    "activation": "relu",
    # of 0.05 and 0.15 on pilot seeds, for 40 epochs, the better with BN (88.5% of validation
    # images), and as good as the other without (86.9% against 87.0%)
    "learning_rate": 0.15,
    "schedule": "cosine",
}
DROPOUT_RATE, WEAK = 0.5, 0.3
LABELS = {"none": "no BN", "bn": "BN"}
ADDED = {0.0: "", WEAK: f"+dropout={WEAK}", DROPOUT_RATE: "+dropout"}  # to an arm's name
SMALL_ARMS = tuple(f"{norm}{added}/small" for norm in LABELS for added in ADDED.values())
SQUARE = ("bn+dropout", "bn", "none+dropout", "none")
QUOTE = "从这个控制模型复杂度角度理解的话，就没有必要和丢弃法混合使用了。"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the 2 x 2 of normalization and dropout, on all images and on few."""
    base = notes_for_steps(profile)
    short = min(base.epochs, EPOCHS)
    # evaluated less often, since no claim reads steps of arms with dropout
    dropped = base.replace(
        epochs=short, evaluations_per_epoch=5, test_every=short, dropout=DROPOUT_RATE
    )
    on_all = tuple(
        arm
        for norm, label in LABELS.items()
        for arm in (
            baseline_arm(profile, norm, label),
            Arm(f"{norm}+dropout", dropped.replace(norm=norm), f"{label} + dropout"),
        )
    )
    # Below the standard size all arms train on few images.
    return on_all + small_arms(profile) if profile.judges else on_all


def small_arms(profile: Profile) -> tuple[Arm, ...]:
    """Return normalization and three rates of dropout on 5,000 images."""
    base = notes(
        profile,
        validation_images=500,
        population_images=5_000,
        evaluations_per_epoch=1,
        test_every=10,
        **SMALL,
    )
    return tuple(
        Arm(
            f"{norm}{added}/small",
            base.replace(norm=norm, dropout=rate),
            f"{label}{added.replace('+', ' + ').replace('=', ' ')}, 5,000 images",
        )
        for norm, label in LABELS.items()
        for rate, added in ADDED.items()
    )


def helps_without(with_dropout: Estimand, direction: str, unit: str) -> Premise:
    """Return the positive control: without BN the same dropout does what BN is to make needless.

    Dropout that gains nothing anywhere cannot show that BN makes it superfluous.
    """
    return Premise(
        "effect-there", options={"direction": direction}, estimand=with_dropout, unit=unit
    )


def square_claims(suffix: str, setting: str, epochs: int) -> tuple[Claim, ...]:
    """Return the claims about one 2 x 2 of normalization and dropout."""
    tag = suffix.replace("/", "-")
    square = tuple(f"{name}{suffix}" for name in SQUARE)
    both, bn, dropout, none = square
    loss = {"epochs": epochs}
    return (
        Claim(
            id=f"no-need-for-dropout{tag}",
            sentence=f"Beside BN, dropout gains less than half a point of test accuracy, {setting}",
            source="Lecture notes; Ioffe & Szegedy 2015; Garbin et al. 2020",
            quote=QUOTE,
            estimand=accuracy(both, bn, epochs=epochs),
            direction="less",
            centre=0.005,
            robustness=(T_TEST, Variant("any gain at all", centre=0.0), RUNNING),
            premises=(helps_without(accuracy(dropout, none, epochs=epochs), "greater", "points"),),
        ),
        Claim(
            id=f"dropout-interaction{tag}",
            sentence=f"Dropout gains less test accuracy with BN than without it, {setting}",
            source="Ioffe & Szegedy 2015; Garbin et al. 2020",
            estimand=accuracy(*square, epochs=epochs),
            direction="less",
            robustness=(T_TEST,),
            # a contrast with an arm that never began to learn is about getting started
            premises=(trained(*square, epochs=epochs),),
        ),
        Claim(
            id=f"dropout-loss{tag}",
            sentence=f"Beside BN, dropout does not lower the test loss, {setting}",
            source="Ioffe & Szegedy 2015; Garbin et al. 2020",
            estimand=Estimand("loss", groups(both, bn), loss),
            unit="of loss",
            direction="greater",
            family="explored",  # the notes speak of accuracy, which is judged
            robustness=(RUNNING,),
            premises=(
                helps_without(Estimand("loss", groups(dropout, none), loss), "less", "of loss"),
            ),
        ),
    )


CLAIMS = (
    *square_claims("", "on all images", EPOCHS),
    *square_claims("/small", "on 5,000 images with ReLUs", SMALL_EPOCHS),
    Claim(
        id="no-need-for-weak-dropout-small",
        sentence=f"Beside BN, dropout of {WEAK} gains less than half a point of test accuracy, on "
        "5,000 images with ReLUs",
        source="Ioffe & Szegedy 2015; Garbin et al. 2020",
        estimand=accuracy(f"bn{ADDED[WEAK]}/small", "bn/small", epochs=SMALL_EPOCHS),
        direction="less",
        centre=0.005,
        family="explored",  # one rate is judged
        robustness=(Variant("any gain at all", centre=0.0),),
        premises=(
            helps_without(
                accuracy(f"none{ADDED[WEAK]}/small", "none/small", epochs=SMALL_EPOCHS),
                "greater",
                "points",
            ),
        ),
    ),
)


DROPOUT = Experiment(
    name="dropout",
    title="Is dropout superfluous beside batch normalization?",
    question=(
        "If batch normalization already regularizes by its noise, dropout has nothing left to "
        "do. Does dropout still gain test accuracy beside it, and does it gain more without it?"
    ),
    literature=(
        "The notes: seen as a control of complexity, there is no need to combine it with dropout. "
        "Ioffe & Szegedy (2015, section 3.4) remove or weaken dropout. Garbin, Zhu & Marques "
        "(2020) find that dropout beside batch normalization often costs accuracy."
    ),
    design=(
        "A 2 x 2 of batch normalization and dropout (0.5, after the hidden linear layers' "
        "activation): at the notes' settings on all images for 4 epochs, where little is "
        "overfitted; and on 5,000 images for 30 epochs, where much is, with ReLUs, batches of 32 "
        "and SGD at 0.15 falling to zero along a cosine, with a weaker dropout of 0.3 beside it. "
        "The interaction is the contrast of the four arms within a seed."
    ),
    limits=(
        "One learning rate for all arms, constant on all images. There, with sigmoids and without "
        "normalization, dropout keeps the network on its plateau: that contrast is about getting "
        "started, not about regularization, which the one on 5,000 images with ReLUs is about."
    ),
    arms=arms,
    claims=CLAIMS,
    exhibits=(
        Exhibit(
            "interaction",
            "Left: test accuracy where the shorter arms end, all images; one line per "
            "kind of network, thin lines are seeds, bars are intervals of means. Right: by how "
            "much dropout gains more with BN than without, one point per seed, and the mean with "
            "its interval.",
            {"arms": SQUARE, "treatments": ("BN", "dropout"), "where": " on all images"},
        ),
        Exhibit(
            "interaction",
            "The same after training on 5,000 images.",
            {
                "arms": tuple(f"{name}/small" for name in SQUARE),
                "treatments": ("BN", "dropout"),
                "where": " on 5,000 images",
            },
            JUDGING,
        ),
        Exhibit(
            "learning-curves",
            "Test accuracy on all images by epoch, population statistics.",
            {
                "arms": ("none", "none+dropout", "bn", "bn+dropout"),
                "y": "test_accuracy_population",
            },
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy after the epochs of the shorter arms, all images; differences within "
            "seeds to BN alone.",
            {
                "arms": ("none", "none+dropout", "bn", "bn+dropout"),
                "baseline": "bn",
                "together": True,
            },
        ),
        Exhibit(
            "learning-curves",
            "Test loss on 5,000 images by epoch, population statistics.",
            {
                "arms": SMALL_ARMS,
                "y": "test_loss_population",
            },
            JUDGING,
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end, 5,000 images; differences within seeds to BN alone.",
            {
                "arms": SMALL_ARMS,
                "baseline": "bn/small",
            },
            JUDGING,
        ),
    ),
)
