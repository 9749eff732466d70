"""How often the machinery errs and finds, over thousands of simulated studies with fixed seeds."""

import dataclasses

import numpy as np
import pytest

from bnstudy.errors import ConfigError
from bnstudy.inference import (
    mean_interval,
    power_of_equivalence,
    power_of_t,
    restricted_steps,
    sign_flip_p,
)
from bnstudy.judging import calibrate
from bnstudy.judging.calibration import Calibration
from bnstudy.plan.claim import Pilot
from tests.synthetic.examples import ACCURACY, ORDER, accuracy_claim, claim
from tests.synthetic.studies import claims_plan as plan

STUDIES = 2_000
BOUND = 0.05 + 3 * np.sqrt(0.05 * 0.95 / STUDIES)
SEEDS = (1000, 1001, 1002)


def rng():
    return np.random.default_rng(11)


def piloted(id, effect, spread=1.0, censored=0.0, **changes):
    return claim(id, pilot=Pilot(effect, spread, SEEDS, censored), **changes)


def family(censored=0.0):
    """Claims of every test, with effects of one deviation."""
    difference = {"estimand": ACCURACY, "unit": "points"}
    return (
        piloted("flip", -1.0, censored=censored),
        piloted("signs", -1.0, censored=censored, test="sign"),
        piloted("t", 1.0, test="t", direction="greater", **difference),
        piloted("same", 0.0, 1.0, test="tost", direction="within", margin=1.2, **difference),
        piloted(
            "order",
            2.0,
            test="page",
            direction="greater",
            estimand=dataclasses.replace(ORDER, arms=(("none", "bn"),)),
            unit="rank correlation",
        ),
    )


@pytest.mark.parametrize("censored", [0.0, 0.4, 0.9])
def test_null_studies_decide_anything_wrongly_in_at_most_five_of_a_hundred(censored):
    found = calibrate(plan(*family(censored), seeds=12), rng(), STUDIES)
    assert found.family == len(found.claims) == 5
    assert found.family_wise_error <= BOUND
    assert found.standard_error == pytest.approx(
        np.sqrt(found.family_wise_error * (1 - found.family_wise_error) / STUDIES)
    )


def test_one_equivalence_at_its_margin_errs_as_often_as_its_level_says():
    # The least favourable null: the test is exact there, so neither much below nor above.
    wide = accuracy_claim(margin=5.0, pilot=Pilot(0.0, 1.0, SEEDS))
    found = calibrate(plan(wide, seeds=16), rng(), STUDIES)
    assert abs(found.family_wise_error - 0.05) < 3 * np.sqrt(0.05 * 0.95 / STUDIES)


def test_planted_effects_are_found_at_the_stated_power():
    claims = (
        piloted("t", 1.1, test="t", direction="greater", estimand=ACCURACY),
        piloted("flip", -0.9, estimand=dataclasses.replace(ACCURACY)),
    )
    for each in claims:
        found = calibrate(plan(each, seeds=12), rng(), STUDIES)
        stated = power_of_t(12, each.pilot.effect, 1.0, 0.05)
        assert found.power[each.id] == pytest.approx(stated, abs=0.035)


def test_equivalence_is_found_at_the_power_that_the_plan_promises():
    equal = accuracy_claim(pilot=Pilot(0.0, 0.012, SEEDS))
    found = calibrate(plan(equal, seeds=14), rng(), STUDIES)
    stated = power_of_equivalence(14, 0.01, 0.012, 0.05)
    assert 0.6 < stated < 0.9
    assert found.power["same"] == pytest.approx(stated, abs=3 * np.sqrt(0.25 / STUDIES))


def test_an_effect_against_the_claim_is_never_power():
    wrong = piloted("flip", 2.0)
    found = calibrate(plan(wrong, seeds=12), rng(), 200)
    assert found.power["flip"] == 0.0


def test_more_claims_in_the_family_cost_power():
    alone = calibrate(plan(piloted("flip", -0.9), seeds=12), rng(), 500)
    others = [claim(f"other-{number}") for number in range(20)]
    among = calibrate(plan(piloted("flip", -0.9), *others, seeds=12), rng(), 500)
    assert among.family == 21
    assert among.claims == ("flip",)
    assert among.power["flip"] < alone.power["flip"] - 0.2


def test_seeds_beyond_enumeration_are_calibrated_too():
    found = calibrate(plan(piloted("flip", -0.6), seeds=32), rng(), 500)
    assert found.family_wise_error <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)
    assert found.power["flip"] == pytest.approx(power_of_t(32, 0.6, 1.0, 0.05), abs=0.06)


def test_the_same_generator_gives_the_same_calibration():
    made = plan(*family(0.3), seeds=8)
    assert calibrate(made, rng(), 100) == calibrate(made, rng(), 100)
    assert isinstance(calibrate(made, rng(), 1), Calibration)


@pytest.mark.parametrize(
    ("made", "studies", "message"),
    [
        (plan(claim()), 100, "got 100 studies of 0 such claims"),
        (plan(piloted("flip", 1.0)), 0, "got 0 studies of 1 such claims"),
    ],
)
def test_a_calibration_needs_a_pilot_and_studies(made, studies, message):
    with pytest.raises(ConfigError) as refusal:
        calibrate(made, rng(), studies)
    assert str(refusal.value) == f"a calibration needs studies and claims with a pilot, {message}"


def test_dropping_censored_pairs_loses_the_effect_that_keeping_them_finds():
    # The slow arm needs 1.3 times the steps; the horizon censors much of it.
    draws = rng()
    level = draws.normal(0, 0.35, (1_000, 1))
    fast = np.exp(level + draws.normal(np.log(100), 0.25, (1_000, 16)))
    slow = np.exp(level + draws.normal(np.log(130), 0.25, (1_000, 16)))
    horizon = 130.0
    cut = [restricted_steps(np.where(arm <= horizon, arm, np.nan), horizon) for arm in (fast, slow)]
    kept = np.log(cut[0]) - np.log(cut[1])
    power = (sign_flip_p(kept) <= 0.05).mean()
    whole = (fast <= horizon) & (slow <= horizon)
    pairs = [np.log(f[both] / s[both]) for f, s, both in zip(fast, slow, whole, strict=True)]
    dropped = np.mean([len(pair) > 0 and sign_flip_p(pair) <= 0.05 for pair in pairs])
    assert power > dropped + 0.3


@pytest.mark.parametrize("n", [5, 12, 16])
def test_intervals_cover_as_often_as_they_say(n):
    samples = rng().normal(0.3, 1.0, (4_000, n))
    ends = [mean_interval(sample) for sample in samples]
    covered = np.mean([end.low <= 0.3 <= end.high for end in ends])
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 4_000)
