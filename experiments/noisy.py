"""Does batch normalization still work when noise undoes the steadiness it brings?

Arms: ``none``, ``bn``, and ``noisy``: batch normalization followed by random shifts and
scales, new for every step, channel and image.  The same three once more for an epoch,
watched as in ``activations``: does the noise make distributions drift?

Cost: 25.5 M image-passes at the standard size, of which 17.6 M are shared with
``convergence`` and 1.8 M with ``activations``.

Expected: if Santurkar et al. are right, ``noisy`` trains about as fast as ``bn`` and far
faster than ``none``.

Run it: ``python -m experiments.noisy`` or ``bnstudy run noisy``.

Source: Santurkar, Tsipras, Ilyas & Madry 2018, section 2.2.
"""

from dataclasses import replace

from bnstudy.plan.claim import Claim, Estimand, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments import activations
from experiments.common import fine, pilot, registers
from experiments.plain import plain

EPOCHS = 6  # both kinds of BN are at the last target by then
LATE = 0.86  # earlier ones come within a few readings: too coarse for a margin of 1.25
LABELS = {"none": "no BN", "bn": "BN", "noisy": "BN + noise"}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return no normalization, normalization, and normalization with noise after it."""
    base = fine(profile)
    epochs = min(base.epochs, EPOCHS)
    short = base.replace(norm="noisy", epochs=epochs, test_every=epochs)
    watched = {arm.name: arm for arm in activations.arms(profile)}
    noisy = watched["none"].config.replace(norm="noisy")
    watched["noisy"] = replace(watched["none"], config=noisy)
    trained = (
        plain(profile, "none", LABELS["none"]),
        plain(profile, "bn", LABELS["bn"]),
        Arm("noisy", short, LABELS["noisy"]),
    )
    if not registers(profile):  # drift is what a claim is about, no exhibit
        return trained
    return trained + tuple(
        replace(watched[norm], name=f"{norm}/watched", label=f"{label}, watched")
        for norm, label in LABELS.items()
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register that the noise neither slows BN down much nor makes it as slow as none."""
    if not registers(profile):
        return ()

    def steps(target: float, *pair: str) -> Estimand:
        options = {"target": target, "epochs": EPOCHS}
        return Estimand("steps-to-target", tuple((name,) for name in pair), options, scale="ratio")

    source = "Santurkar et al. 2018"
    return (
        Claim(
            id="noisy-bn-faster",
            sentence="BN with random shifts and scales after it still trains faster than no BN",
            source=source,
            estimand=steps(0.70, "none", "noisy"),
            unit="times",
            direction="greater",
            test="sign-flip",
            pilot=pilot(2.564, 0.2662),
            robustness=(
                Variant("target 75%", {"target": 0.75}),
                Variant("sign test", test="sign"),
            ),
        ),
        Claim(
            id="noisy-bn-as-fast",
            sentence="BN with random shifts and scales after it trains about as fast as BN",
            source=source,
            estimand=steps(LATE, "noisy", "bn"),
            unit="times",
            direction="within",
            test="tost",
            margin=1.25,
            pilot=pilot(0.054, 0.131),
            robustness=(
                Variant("target 70%", {"target": 0.70}),
                Variant("target 82%", {"target": 0.82}),
                Variant("margin 1.5", margin=1.5),
            ),
        ),
        *(
            Claim(
                id=f"noisy-bn-drift-{other}",
                sentence="With random shifts and scales after BN the distributions of "
                f"pre-activations drift more than with {LABELS[other]}",
                source=source,
                estimand=Estimand(
                    "drift", (("noisy/watched",), (f"{other}/watched",)), scale="ratio"
                ),
                unit="times",
                direction="greater",
                test="sign-flip",
                family="exploratory",  # whether the noise does what it is for
            )
            for other in ("bn", "none")
        ),
    )


NOISY = Experiment(
    name="noisy",
    title="Does batch normalization work because it steadies distributions?",
    question=(
        "If batch normalization helped because it keeps distributions steady, then random shifts "
        "and scales put right after it should undo the help. Do they?"
    ),
    literature=(
        "Ioffe & Szegedy (2015) explain batch normalization by steadier distributions (less "
        "internal covariate shift). Santurkar et al. (2018) add noise after it, so that "
        "distributions vary more than without any normalization, and find that it trains about as "
        "well as before."
    ),
    design=(
        "LeNet with sigmoids at the notes' settings. The noisy arm multiplies and shifts what "
        "batch normalization passes on: for every step and channel a mean shift of U(-0.5, 0.5) "
        "and a mean scale of U(1, 1.25) are drawn, and around these, within 0.1, a shift and a "
        "scale for every image. Whether distributions drift more for it is explored on the start "
        "of the same arms, watched as in the experiment on activations."
    ),
    limits=(
        "The noise is that of the paper, for a network with ReLUs and images of 32 x 32 in "
        "colour; for sigmoids its size may mean something else."
    ),
    arms=arms,
    claims=claims,
    targets=(0.70, LATE),
    exhibits=(
        Exhibit("learning-curves", "Validation accuracy by epoch.", {"arms": tuple(LABELS)}),
        Exhibit(
            "steps-to-target",
            "Optimizer steps until the validation accuracy first reaches a target.",
            {"arms": tuple(LABELS), "baseline": "bn"},
        ),
        Exhibit(
            "kaplan-meier",
            "Share of seeds whose validation accuracy has not reached a target yet, by step, with "
            "95% intervals (Kaplan-Meier).",
            {"arms": tuple(LABELS)},
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy where the shortest of the arms ends.",
            {"arms": tuple(LABELS), "baseline": "bn", "together": True},
        ),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", NOISY.name])  # type: ignore[has-type]
