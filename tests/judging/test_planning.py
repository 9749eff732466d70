"""Seeds that claims need, and error and power over thousands of simulated studies."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from bnstudy.errors import ConfigError, StoreError
from bnstudy.inference import (
    mean_interval,
    power_of_equivalence,
    power_of_t,
    restricted_steps,
    sign_flip_p,
)
from bnstudy.judging import (
    Calibration,
    FamilyError,
    calibrate,
    require_decidable,
    shortfalls,
    store_calibration,
    stored_calibration,
)
from bnstudy.plan import Pilot, Variant
from tests.synthetic.examples import ACCURACY, ORDER, STEPS, accuracy_claim, claim
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
    (found,) = calibrate(plan(*family(censored), seeds=12), rng(), STUDIES).families
    assert found.size == len(found.claims) == 5
    assert found.error <= BOUND
    assert found.standard_error == pytest.approx(np.sqrt(found.error * (1 - found.error) / STUDIES))


def checked(power, n):
    """Bounds of the power of a test with its checks, on normal differences.

    The bootstrap follows Student's t there; samples that look skewed can lose all their power.
    """
    skewed = np.abs(scipy.stats.skew(rng().normal(size=(20_000, n)), axis=1)) > 1
    error = 3 * np.sqrt(0.25 / STUDIES)
    return power - skewed.mean() - error, power + error


def test_one_equivalence_at_its_margin_errs_as_often_as_its_level_says():
    # The least favourable null: the test is exact there, so neither much below nor above.
    wide = accuracy_claim(margin=5.0, pilot=Pilot(0.0, 1.0, SEEDS))
    (found,) = calibrate(plan(wide, seeds=16), rng(), STUDIES).families
    assert abs(found.error - 0.05) < 3 * np.sqrt(0.05 * 0.95 / STUDIES)


def test_planted_effects_are_found_at_the_stated_power():
    claims = (
        piloted("t", 1.1, test="t", direction="greater", estimand=ACCURACY),
        piloted("flip", -0.9, estimand=dataclasses.replace(ACCURACY)),
    )
    for each in claims:
        found = calibrate(plan(each, seeds=12), rng(), STUDIES)
        low, high = checked(power_of_t(12, each.pilot.effect, 1.0, 0.05), 12)
        assert low < found.power[each.id] < high


def test_equivalence_is_found_at_the_power_that_the_plan_promises():
    equal = accuracy_claim(pilot=Pilot(0.0, 0.012, SEEDS))
    found = calibrate(plan(equal, seeds=14), rng(), STUDIES)
    stated = power_of_equivalence(14, 0.01, 0.012, 0.05)
    assert 0.6 < stated < 0.9
    low, high = checked(stated, 14)
    assert low < found.power["same"] < high


def test_an_effect_against_the_claim_is_never_power():
    wrong = piloted("flip", 2.0)
    found = calibrate(plan(wrong, seeds=12), rng(), 200)
    assert found.power["flip"] == 0.0


def test_more_claims_in_the_family_cost_power():
    alone = calibrate(plan(piloted("flip", -0.9), seeds=12), rng(), 500)
    others = [claim(f"other-{number}") for number in range(20)]
    among = calibrate(plan(piloted("flip", -0.9), *others, seeds=12), rng(), 500)
    (found,) = among.families
    assert (found.size, found.claims) == (21, ("flip",))
    assert among.power["flip"] < alone.power["flip"] - 0.2


def test_each_family_has_an_error_and_its_own_correction():
    claims = (
        piloted("flip", -0.9),
        piloted("second", -0.9, family="secondary"),
        *(claim(f"other-{number}", family="secondary") for number in range(20)),
        piloted("look", -0.9, family="explored"),
    )
    found = calibrate(plan(*claims, seeds=12), rng(), 500)
    first, second = found.families
    assert (first.family, first.claims, first.size) == ("primary", ("flip",), 1)
    assert (second.family, second.claims, second.size) == ("secondary", ("second",), 21)
    assert set(found.power) == {"flip", "second"}
    assert found.power["second"] < found.power["flip"] - 0.2
    assert second.error < first.error <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_a_family_needs_the_seeds_of_its_own_claims():
    second = [claim(f"second-{number}", family="secondary") for number in range(40)]
    (alone,) = shortfalls(plan(claim(), seeds=5))
    many = shortfalls(plan(claim(), *second, seeds=5))
    assert many[0] == alone
    assert {each.seeds for each in many[1:]} == {11}  # 2 / 2^n is at most 0.05 / 40
    assert shortfalls(plan(claim(), *second, seeds=11)) == ()


def test_seeds_beyond_enumeration_are_calibrated_too():
    found = calibrate(plan(piloted("flip", -0.6), seeds=32), rng(), 500)
    assert found.families[0].error <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)
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


def test_a_plan_that_can_decide_its_claims_is_not_refused():
    require_decidable(plan(claim(), accuracy_claim()))
    assert shortfalls(plan()) == ()


def test_a_plan_says_how_many_seeds_it_would_take():
    few = plan(
        claim(),
        accuracy_claim(pilot=Pilot(0, 0.01, (1000, 1001))),
        accuracy_claim("no-pilot", pilot=None),
        seeds=5,
    )
    with pytest.raises(ConfigError) as refusal:
        require_decidable(few)
    assert str(refusal.value) == (
        "a plan must be able to decide its claims, but 5 seeds cannot decide "
        "speed (even its smallest possible p is not significant after Holm's correction: "
        "takes 7 seeds); "
        "same (its test of equivalence has too little power at the pilot's spread: "
        "takes 15 seeds); "
        "no-pilot (a test of equivalence needs a pilot's spread, got none: "
        "no number of seeds is enough): "
        "plan more seeds, fewer claims or wider margins"
    )


def test_the_seeds_it_names_are_enough():
    claims = (claim(), accuracy_claim(pilot=Pilot(0, 0.01, (1000, 1001))))
    needed = max(each.seeds for each in shortfalls(plan(*claims, seeds=3)))
    assert shortfalls(plan(*claims, seeds=needed)) == ()
    assert shortfalls(plan(*claims, seeds=needed - 1)) != ()


def test_a_plan_is_refused_for_what_no_measure_reads():
    wrong = dataclasses.replace(STEPS, options={"epochs": 8})
    for made in (claim(estimand=wrong), claim(robustness=(Variant("x", options={"tarjet": 0.7}),))):
        with pytest.raises(ConfigError, match="measure 'steps-to-target' does not take the opt"):
            shortfalls(plan(made))


def test_explored_claims_need_no_power():
    assert shortfalls(plan(claim(family="explored"), seeds=2)) == ()


CALIBRATION = Calibration(
    2000, (FamilyError("primary", ("speed",), 2, 0.021, 0.003),), {"speed": 0.87}
)


def stored(folder, plan, /, **changes):
    """Store a calibration, change fields of its file, and read it."""
    store_calibration(folder, plan, CALIBRATION)
    path = folder / "calibration.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")
    return stored_calibration(folder, plan)


def test_a_stored_calibration_comes_back(tmp_path):
    assert stored_calibration(tmp_path, plan(claim())) is None
    assert stored(tmp_path, plan(claim())) == CALIBRATION


def test_a_calibration_of_another_plan_does_not_count(tmp_path):
    assert stored(tmp_path, plan(claim()), plan="ab") is None


def test_an_edited_calibration_is_one_line(tmp_path):
    with pytest.raises(StoreError, match=r"calibration\.json was cut or edited: write it again"):
        stored(tmp_path, plan(claim()), another=1)
