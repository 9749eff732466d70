"""Does dropout before batch normalization shift the variance that testing meets?

Arms: dropout of 0.1, 0.3, 0.5 and 0.7, right before the normalization layers that
follow hidden linear layers (``before``), or of 0.5, and at the full size of all, once
behind the last one (``after``).

Cost: 6.2 M image-passes at the standard size (2 arms x 16 seeds x 110,000, and 3 arms of
other rates x 16 seeds x 55,000).

Expected: before normalization the variance in testing is smaller by the factor
v / ((c^2 + v) / p - c^2), behind it nothing shifts.

Run it: ``python -m experiments.variance_shift`` or ``bnstudy run variance-shift``.

Source: Li, Chen, Hu & Yang 2019.
"""

from bnstudy.plan.claim import Claim, Estimand, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments.common import notes, pilot, registers

EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 10}
RATES = (0.1, 0.3, 0.5, 0.7)
PLACES = {"before": ("before-norm", "before BN"), "after": ("after-last-norm", "after the last BN")}
BATCHES = {"tiny": 4, "quick": 5, "standard": 20, "full": 200}
FIRST, LAST = "norm3", "norm4"  # those that dropout can stand right before
MAIN = 0.5
SLOPE_MARGIN, SHIFT_MARGIN = 0.1, 0.05
# on pilot seeds: mean, standard deviation
SLOPE_EFFECT, SLOPE_SPREAD = 0.9938, 0.003705
SHIFT_EFFECT, SHIFT_SPREAD = 0.00559, 0.00273


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return every rate of dropout at both places."""
    made = []
    for place, (placement, words) in PLACES.items():
        for rate in RATES if place == "before" or profile.name == "full" else (MAIN,):
            epochs = EPOCHS[profile.name] if rate == MAIN else 1
            config = notes(profile, test_every=epochs).replace(
                epochs=epochs, norm="bn", dropout=rate, dropout_placement=placement
            )
            look = {"variance-shift": {"epochs": [epochs], "batches": BATCHES[profile.name]}}
            made.append(Arm(f"{place}/p={rate:g}", config, f"{rate:g} {words}", probes=look))
    return tuple(made)


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register the predicted shift, none behind the last BN, its cost and its cure."""
    if not registers(profile):
        return ()
    source, epochs = "Li et al. 2019", EPOCHS[profile.name]
    before, after = ((f"{place}/p={MAIN:g}",) for place in PLACES)
    observed = {"probe": "variance-shift", "stat": "observed", "layer": FIRST}
    made = [
        Claim(
            id=f"variance-shift-{round(100 * rate)}",
            sentence=f"Dropout of {rate:g} before BN shifts the variance that BN meets in testing "
            "by the predicted factor",
            source=source,
            estimand=Estimand(
                "probe",
                ((f"before/p={rate:g}",),),
                {"probe": "variance-shift", "stat": "slope", "layer": FIRST},
            ),
            unit="of the predicted logarithm",
            direction="within",
            test="tost",
            centre=1.0,
            margin=SLOPE_MARGIN,
            pilot=pilot(SLOPE_EFFECT, SLOPE_SPREAD),
            robustness=(Variant("in the next layer", {"layer": LAST}),),
            # one rate is judged: every claim more makes all of the plan harder to decide
            family="confirmatory" if rate == MAIN else "exploratory",
        )
        for rate in RATES
    ]
    return (
        *made,
        Claim(
            id="variance-shift-none-after",
            sentence=f"Dropout of {MAIN:g} behind the last BN shifts no variance that BN meets",
            source=source,
            estimand=Estimand("probe", (after,), observed),
            unit="of the logarithm of variance",
            direction="within",
            test="tost",
            margin=SHIFT_MARGIN,
            pilot=pilot(SHIFT_EFFECT, SHIFT_SPREAD),
            robustness=(Variant("in the next layer", {"layer": LAST}),),
        ),
        Claim(
            id="variance-shift-placement",
            sentence=f"With running averages, dropout of {MAIN:g} behind the last BN gives higher "
            "test accuracy than before BN",
            source=source,
            estimand=Estimand(
                "accuracy", (after, before), {"epochs": epochs, "statistics": "running"}
            ),
            unit="points",
            direction="greater",
            test="sign-flip",
            robustness=(
                Variant("t test", test="t"),
                Variant("with population statistics", {"statistics": "population"}),
            ),
        ),
        Claim(
            id="variance-shift-rescue",
            sentence=f"With dropout of {MAIN:g} before BN, statistics computed anew in evaluation "
            "mode give higher test accuracy than running averages",
            source=source,
            estimand=Estimand(
                "accuracy",
                (before, before),
                {"epochs": epochs, "statistics": "population"},
                {"statistics": "running"},
            ),
            unit="points",
            direction="greater",
            test="sign-flip",
            robustness=(Variant("t test", test="t"),),
        ),
    )


VARIANCE_SHIFT = Experiment(
    name="variance-shift",
    title="Does dropout before batch normalization mislead it?",
    question=(
        "Dropout makes units vary more in training than in testing. Does a batch normalization "
        "layer behind it therefore meet another variance in testing, as the formula says, and "
        "does the place of dropout matter?"
    ),
    literature=(
        "Li et al. (2019) derive the shift of variance, hold it responsible for the poor results "
        "of dropout together with batch normalization, and recommend dropout behind the last "
        "normalization layer only; recomputed statistics repair part of the damage."
    ),
    design=(
        "LeNet with batch normalization at the notes' settings and dropout of four rates, right "
        "before the normalization layers of the hidden linear layers, or of 0.5 behind the last. "
        "At the end the variance of every layer's input is taken over training images twice: in "
        "random batches with dropout, and in evaluation mode. The prediction uses mean and "
        "variance of what dropout was given in training."
    ),
    limits=(
        "The formula is of one dropout layer and one normalization layer. The first such layer is "
        "the one judged; in the next one the shift of the first adds to its own. Running averages "
        "that lag behind the weights shift variances too, in both places."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "variance-shift",
            "Logarithm of the variance in testing over that in training, mean of a layer's "
            "channels: observed against predicted, a point a seed. On the dashed line the two "
            "are equal; behind the last BN nothing is predicted.",
            {
                "layers": (FIRST, LAST),
                "arms": (*(f"before/p={rate:g}" for rate in RATES), f"after/p={MAIN:g}"),
            },
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end, population statistics, with the main rate of dropout.",
            {
                "arms": (f"before/p={MAIN:g}", f"after/p={MAIN:g}"),
                "baseline": f"after/p={MAIN:g}",
            },
        ),
        Exhibit(
            "evaluation-statistics",
            "Test accuracy of the same weights by running averages and by population statistics.",
            {"arms": (f"before/p={MAIN:g}", f"after/p={MAIN:g}")},
        ),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", VARIANCE_SHIFT.name])  # type: ignore[has-type]
