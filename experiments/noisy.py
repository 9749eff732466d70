"""Does batch normalization still work when noise undoes the steadiness it brings?

Arms: ``none``, ``bn``, and ``noisy``: batch normalization followed by random shifts and
scales, new for every step, channel and image.  The same three once more for an epoch,
watched as in ``activations``: does the noise make distributions drift?

Cost: 25.5 M image-passes at the standard size, of which 17.6 M are shared with
``convergence`` and 1.8 M with ``activations``.

Expected: if Santurkar et al. are right, ``noisy`` trains about as fast as ``bn`` and far
faster than ``none``.

Command: ``bnstudy run noisy``

Source: Santurkar, Tsipras, Ilyas & Madry 2018, section 2.2.
"""

from dataclasses import replace

from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Profile, Variant

from . import activations
from .baseline import baseline_arm
from .common import SIGN_TEST, at_target, groups, notes_for_steps, pilot, steps_ratio

EPOCHS = 6  # both kinds of BN are at the last target by then
LATE = 0.86  # earlier targets are a few evaluations away: too coarse for a margin of 1.25
LABELS = {"none": "no BN", "bn": "BN", "noisy": "BN + noise"}
SOURCE = "Santurkar et al. 2018"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return no normalization, normalization, and normalization with noise after it."""
    base = notes_for_steps(profile)
    epochs = min(base.epochs, EPOCHS)
    trained = (
        baseline_arm(profile, "none", LABELS["none"]),
        baseline_arm(profile, "bn", LABELS["bn"]),
        Arm("noisy", base.replace(norm="noisy", epochs=epochs, test_every=epochs), LABELS["noisy"]),
    )
    # No exhibit shows the drift, only claims are about it.
    return trained + watched_arms(profile) if profile.judges else trained


def watched_arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the three arms watched like those of ``activations``, whose runs they share."""
    watched = {arm.name: arm for arm in activations.arms(profile)}
    noisy = watched["none"].config.replace(norm="noisy")
    watched["noisy"] = replace(watched["none"], config=noisy)
    return tuple(
        replace(watched[norm], name=f"{norm}/watched", label=f"{label}, watched")
        for norm, label in LABELS.items()
    )


CLAIMS = (
    Claim(
        id="noisy-bn-faster",
        sentence="BN with random shifts and scales after it still trains faster than no BN",
        source=SOURCE,
        estimand=steps_ratio("none", "noisy", 0.70, EPOCHS),
        direction="greater",
        pilot=pilot(2.564, 0.2662),
        robustness=(at_target(75), SIGN_TEST),
    ),
    Claim(
        id="noisy-bn-as-fast",
        sentence="BN with random shifts and scales after it trains about as fast as BN",
        source=SOURCE,
        estimand=steps_ratio("noisy", "bn", LATE, EPOCHS),
        direction="within",
        margin=1.25,
        pilot=pilot(0.054, 0.131),
        robustness=(at_target(70), at_target(82), Variant("margin 1.5", margin=1.5)),
    ),
    *(
        Claim(
            id=f"noisy-bn-drift-{other}",
            sentence="With random shifts and scales after BN the distributions of "
            f"pre-activations drift more than with {LABELS[other]}",
            source=SOURCE,
            estimand=Estimand(
                "drift",
                groups("noisy/watched", f"{other}/watched"),
                {"probe": activations.FIXED},
                scale="ratio",
            ),
            direction="greater",
            family="explored",  # checks that the noise does what it is meant to
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
        "of the same arms, watched as in the experiment on activations: the same images at every "
        "moment, with noise drawn for each moment."
    ),
    limits=(
        "The noise is that of the paper, for a network with ReLUs and images of 32 x 32 in "
        "colour; for sigmoids its size may mean something else."
    ),
    arms=arms,
    claims=CLAIMS,
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
