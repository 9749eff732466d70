"""Is dropout superfluous beside batch normalization?

Arms: with and without normalization, crossed with dropout of 0 and 0.5 after the hidden
linear layers; on all images for 10 epochs, and on 5,000 images for 40.

Cost: 35.2 M + 12.8 M image-passes at the standard size, of which 20.8 M are shared with
``convergence`` and ``regularization`` (same settings, trained once).

Expected: the notes hold dropout unnecessary beside batch normalization.

Run it: ``python -m experiments.dropout`` or ``bnstudy run dropout``.

Source: the notes; Ioffe & Szegedy 2015, section 3.4; Garbin, Zhu & Marques 2020.
"""

from bnstudy.claim import Claim, Estimand, Variant
from bnstudy.study import Arm, Exhibit, Experiment, Profile
from experiments.common import REGISTERING, fine, registers
from experiments.regularization import EPOCHS as SMALL_EPOCHS
from experiments.regularization import look, small_data

EPOCHS = 10
LABELS = {"none": "no BN", "bn": "BN"}
SQUARE = ("bn+dropout", "bn", "none+dropout", "none")
QUOTE = "从这个控制模型复杂度角度理解的话，就没有必要和丢弃法混合使用了。"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the 2 x 2 of normalization and dropout, on all images and on few."""
    made = []
    for suffix, words, base in (
        ("", "", fine(profile, epochs=EPOCHS)),
        ("/small", ", 5,000 images", small_data(profile)),
    )[: 2 if registers(profile) else 1]:  # below the standard size all images are few
        for norm, label in LABELS.items():
            for rate in (0.0, 0.5):
                name = f"{norm}+dropout" if rate else norm
                text = f"{label} + dropout" if rate else label
                config = base.replace(norm=norm, dropout=rate)
                if rate and not suffix:  # no claim reads steps of these
                    config = config.replace(evaluations_per_epoch=5, test_every=5)
                # with the probe of `regularization` it is the same run
                probes = look(config) if (name, suffix) == ("bn", "/small") else {}
                made.append(Arm(f"{name}{suffix}", config, f"{text}{words}", probes=probes))
    return tuple(made)


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register that dropout brings nothing beside BN, and less than without it."""
    if not registers(profile):
        return ()
    made = []
    for suffix, words, epochs in (
        ("", "on all images", EPOCHS),
        ("/small", "on 5,000 images", SMALL_EPOCHS),
    ):
        tag = "-small" if suffix else ""
        both, bn, dropout, none = (
            (f"{name}{suffix}",) for name in ("bn+dropout", "bn", "none+dropout", "none")
        )
        options = {"epochs": epochs}
        made += [
            Claim(
                id=f"no-need-for-dropout{tag}",
                sentence="Beside BN, dropout brings no gain of test accuracy worth half a point, "
                f"{words}",
                source="Lecture notes; Ioffe & Szegedy 2015; Garbin et al. 2020",
                quote=QUOTE,
                estimand=Estimand("accuracy", (both, bn), options),
                unit="points",
                direction="less",
                centre=0.005,
                test="sign-flip",
                robustness=(
                    Variant("t test", test="t"),
                    Variant("worth anything at all", centre=0.0),
                    Variant("with running averages", {"statistics": "running"}),
                ),
            ),
            Claim(
                id=f"dropout-interaction{tag}",
                sentence=f"Dropout gains less test accuracy with BN than without it, {words}",
                source="Ioffe & Szegedy 2015; Garbin et al. 2020",
                estimand=Estimand("accuracy", (both, bn, dropout, none), options),
                unit="points",
                direction="less",
                test="sign-flip",
                robustness=(Variant("t test", test="t"),),
            ),
            Claim(
                id=f"dropout-loss{tag}",
                sentence=f"Beside BN, dropout does not lower the test loss, {words}",
                source="Ioffe & Szegedy 2015; Garbin et al. 2020",
                estimand=Estimand("loss", (both, bn), options),
                unit="of loss",
                direction="greater",
                test="sign-flip",
                family="exploratory",  # the notes speak of accuracy, which is judged
                robustness=(Variant("with running averages", {"statistics": "running"}),),
            ),
        ]
    return tuple(made)


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
        "activation) at the notes' settings: on all images for 10 epochs, where little is "
        "overfitted, and on 5,000 images for 40 epochs, where much is. The interaction is the "
        "contrast of the four arms within a seed."
    ),
    limits=(
        "One rate of dropout, at the notes' learning rate; without normalization dropout also "
        "lengthens the plateau at the start, so that arms are at different stages when compared."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "interaction",
            "Left: test accuracy at the end, all images; a line a kind of network, thin lines are "
            "seeds, bars are intervals of means. Right: by how much dropout gains more with BN "
            "than without, a point a seed, and the mean with its interval.",
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
            REGISTERING,
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
            "Test accuracy at the end, all images; differences within seeds to BN alone.",
            {"arms": ("none", "none+dropout", "bn", "bn+dropout"), "baseline": "bn"},
        ),
        Exhibit(
            "learning-curves",
            "Test loss on 5,000 images by epoch, population statistics.",
            {
                "arms": ("none/small", "none+dropout/small", "bn/small", "bn+dropout/small"),
                "y": "test_loss_population",
            },
            REGISTERING,
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end, 5,000 images; differences within seeds to BN alone.",
            {
                "arms": ("none/small", "none+dropout/small", "bn/small", "bn+dropout/small"),
                "baseline": "bn/small",
            },
            REGISTERING,
        ),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", DROPOUT.name])  # type: ignore[has-type]
