"""Does dropout before batch normalization shift the variance that testing meets?

Arms: dropout of 0.1, 0.3, 0.5 and 0.7, directly before the normalization layers that
follow hidden linear layers (``before``), or once after the last normalization layer
(``after``), there of 0.5 only below the full size.

Cost: 6.2 M image-passes at the standard size (2 arms x 16 seeds x 110,000, and 3 arms of
other rates x 16 seeds x 55,000).

Expected: before normalization the variance in testing is smaller by the factor
v / ((c^2 + v) / p - c^2), after it nothing shifts.

Command: ``bnstudy run variance-shift``

Source: Li, Chen, Hu & Yang 2019.
"""

from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Premise, Profile, Variant

from .common import T_TEST, accuracy, groups, notes, pilot

EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 10}
RATES = (0.1, 0.3, 0.5, 0.7)
PLACEMENTS = {
    "before": ("before-norm", "before BN"),
    "after": ("after-last-norm", "after the last BN"),
}
BATCHES = {"tiny": 4, "quick": 5, "standard": 20, "full": 200}
FIRST, LAST = "norm3", "norm4"  # the layers that dropout can stand directly before
MAIN = 0.5
BEFORE, AFTER = f"before/p={MAIN}", f"after/p={MAIN}"
SLOPE_MARGIN, SHIFT_MARGIN = 0.1, 0.05
CONTROL_MARGIN = 0.01  # of accuracy: the point that other claims of equivalence allow
# on pilot seeds: mean, standard deviation
SLOPE_PILOT = (0.9938, 0.003705)
SHIFT_PILOT = (0.00559, 0.00273)
SOURCE = "Li et al. 2019"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return every rate of dropout in both placements."""
    return tuple(
        dropout_arm(profile, name, rate)
        for name in PLACEMENTS
        for rate in (RATES if name == "before" or profile.name == "full" else (MAIN,))
    )


def dropout_arm(profile: Profile, name: str, rate: float) -> Arm:
    """Return BN with dropout of one rate in one placement."""
    placement, label = PLACEMENTS[name]
    epochs = EPOCHS[profile.name] if rate == MAIN else 1
    config = notes(profile, test_every=epochs).replace(
        epochs=epochs, norm="bn", dropout=rate, dropout_placement=placement
    )
    probes = {"variance-shift": {"epochs": [epochs], "batches": BATCHES[profile.name]}}
    return Arm(f"{name}/p={rate}", config, f"{rate} {label}", probes=probes)


def shift(arm: str, stat: str) -> Estimand:
    """Return a statistic of the shift of variance in the first layer after dropout."""
    return Estimand("probe", groups(arm), {"probe": "variance-shift", "stat": stat, "layer": FIRST})


NEXT_LAYER = Variant("in the next layer", {"layer": LAST})
PREDICTED = tuple(
    Claim(
        id=f"variance-shift-{round(100 * rate)}",
        sentence=f"Dropout of {rate} before BN shifts the variance that BN meets in testing "
        "by the predicted factor",
        source=SOURCE,
        estimand=shift(f"before/p={rate}", "slope"),
        unit="of the predicted logarithm",
        direction="within",
        centre=1.0,
        margin=SLOPE_MARGIN,
        pilot=pilot(*SLOPE_PILOT),
        robustness=(NEXT_LAYER,),
        # one rate is judged: every further claim makes the whole plan harder to decide
        family="primary" if rate == MAIN else "explored",
    )
    for rate in RATES
)
NONE_AFTER = Claim(
    id="variance-shift-none-after",
    sentence=f"Dropout of {MAIN} after the last BN shifts no variance that BN meets",
    source=SOURCE,
    estimand=shift(AFTER, "observed"),
    unit="of the logarithm of variance",
    direction="within",
    margin=SHIFT_MARGIN,
    pilot=pilot(*SHIFT_PILOT),
    robustness=(NEXT_LAYER,),
)


def recomputed(arm: str, epochs: int) -> Estimand:
    """Return what recomputed statistics gain over the running averages of the same weights."""
    return Estimand(
        "accuracy",
        groups(arm, arm),
        {"epochs": epochs, "statistics": "population"},
        {"statistics": "running"},
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Return the predicted shift, none after the last BN, its cost and its cure."""
    epochs = EPOCHS[profile.name]
    return (
        *PREDICTED,
        NONE_AFTER,
        Claim(
            id="variance-shift-placement",
            sentence=f"With running averages, dropout of {MAIN} after the last BN gives higher "
            "test accuracy than before BN",
            source=SOURCE,
            estimand=accuracy(AFTER, BEFORE, epochs=epochs, statistics="running"),
            direction="greater",
            robustness=(
                T_TEST,
                Variant("with population statistics", {"statistics": "population"}),
            ),
        ),
        Claim(
            id="variance-shift-rescue",
            sentence=f"With dropout of {MAIN} before BN, statistics recomputed in evaluation "
            "mode give higher test accuracy than running averages",
            source=SOURCE,
            estimand=recomputed(BEFORE, epochs),
            direction="greater",
            robustness=(T_TEST,),
            # After the last BN dropout shifts nothing.  A gain there too is that of averages
            # which lag behind the weights, not a rescue from a shift.
            premises=(
                Premise(
                    "no-effect-there",
                    options={"margin": CONTROL_MARGIN},
                    estimand=recomputed(AFTER, epochs),
                ),
            ),
        ),
    )


VARIANCE_SHIFT = Experiment(
    name="variance-shift",
    title="Does dropout before batch normalization mislead it?",
    question=(
        "Dropout makes units vary more in training than in testing. Does a batch normalization "
        "layer after it therefore meet another variance in testing, as the formula says, and "
        "does the placement of dropout matter?"
    ),
    literature=(
        "Li et al. (2019) derive the shift of variance, hold it responsible for the poor results "
        "of dropout together with batch normalization, and recommend dropout after the last "
        "normalization layer only; recomputed statistics repair part of the damage."
    ),
    design=(
        "LeNet with batch normalization at the notes' settings and dropout of four rates, right "
        "before the normalization layers of the hidden linear layers, or of 0.5 after the last. "
        "At the end the variance of every layer's input is taken over training images twice: in "
        "random batches with dropout, and in evaluation mode. The prediction uses mean and "
        "variance of what dropout was given in training."
    ),
    limits=(
        "The formula is of one dropout layer and one normalization layer. The first such layer is "
        "the one judged; in the next one the shift of the first adds to its own. Running averages "
        "that lag behind the weights shift variances too, in both placements."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "variance-shift",
            "Logarithm of the variance in testing over that in training, mean of a layer's "
            "channels: observed against predicted, one point per seed. On the dashed line the two "
            "are equal; after the last BN nothing is predicted.",
            {
                "layers": (FIRST, LAST),
                "arms": (*(f"before/p={rate}" for rate in RATES), AFTER),
            },
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy at the end, population statistics, with the main rate of dropout.",
            {
                "arms": (BEFORE, AFTER),
                "baseline": AFTER,
            },
        ),
        Exhibit(
            "evaluation-statistics",
            "Test accuracy of the same weights by running averages and by population statistics.",
            {"arms": (BEFORE, AFTER)},
        ),
    ),
)
