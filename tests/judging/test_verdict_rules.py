"""Test, checks and censoring of a claim, against the same test one by one and cases by hand."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from bnstudy.config import canonical_json
from bnstudy.inference import Interval, holm
from bnstudy.judging import judge, verdict_rules
from bnstudy.judging.verdict_rules import (
    Check,
    examine,
    examine_many,
    undecided_reason,
)
from bnstudy.plan import Estimand
from tests.synthetic.examples import ACCURACY, NAN, ORDER, STEPS, claim
from tests.synthetic.studies import claims_plan as plan
from tests.synthetic.studies import tables

POINTS = {"estimand": ACCURACY, "unit": "points"}
EQUAL = claim(direction="within", test="tost", margin=1.25)
PAGE = claim(
    estimand=dataclasses.replace(ORDER, arms=(("none", "bn"),)),
    test="page",
    direction="greater",
    unit="rank correlation",
)
RULES = [
    claim(),
    claim(centre=1.5, test="t", direction="greater"),
    claim(test="sign"),
    claim(direction="within", test="tost", margin=1.5),
]


def verdict_of(rule, seeds=16, arms=("none", "bn"), **given):
    made = plan(rule, seeds=seeds, arms=arms)
    (verdict,) = judge(made, tables(made, **given), json.loads(canonical_json(made.canonical())))
    return verdict


# Test and checks ------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.test)
@pytest.mark.parametrize("power", [1, 3])  # cubes are skewed: the sign test joins
def test_simulated_samples_follow_the_rule_of_one(rule, power):
    rng = np.random.default_rng(0)
    samples = rng.normal(0.2, 0.5, (50, 9)) ** power
    p, side = examine_many(rule, samples, rng)
    ones = [examine(rule, sample) for sample in samples]
    assert np.allclose(p, [each.p for each in ones], rtol=1e-12)
    assert side.tolist() == [each.as_claimed for each in ones]


def test_simulated_orders_follow_the_rule_of_one():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(20, 7, 2)) + np.array([0.0, 0.6])
    p, side = examine_many(PAGE, samples, rng)
    ones = [examine(PAGE, sample) for sample in samples]
    assert np.allclose(p, [each.p for each in ones], rtol=1e-12)
    assert side.tolist() == [each.as_claimed for each in ones]


def test_each_test_has_a_check_with_other_assumptions():
    rng = np.random.default_rng(1)
    values = scipy.stats.norm.ppf((np.arange(12) + 0.5) / 12) + 0.3
    names = {rule.test: [each.test for each in examine(rule, values).checks] for rule in RULES}
    assert names == {
        "sign-flip": ["bootstrap-t"],
        "t": ["bootstrap-t"],
        "sign": [],
        "tost": ["bootstrap-t"],
    }
    (order,) = examine(PAGE, rng.normal(size=(8, 2)) + np.array([0.0, 1.0])).checks
    assert order.test == "sign flips of rank correlations"


def test_an_order_is_checked_by_reversing_seeds():
    # The two levels of a seed stand in the claimed order or not: both tests are binomial.
    table = np.array([[0.0, 1.0]] * 9 + [[1.0, 0.0]])
    examined = examine(PAGE, table)
    wanted = scipy.stats.binomtest(9, 10).pvalue
    assert examined.test_p == pytest.approx(wanted)
    assert examined.checks[0].p == pytest.approx(wanted)


def test_skewed_differences_need_the_sign_test_too():
    values = np.exp(np.random.default_rng(2).normal(0.0, 1.0, 16))
    values[0] = 9.0
    examined = examine(claim(direction="greater", test="t", **POINTS), values - 0.9)
    assert examined.skewness == pytest.approx(scipy.stats.skew(values))
    assert examined.skewness > 1
    bootstrap, signs = examined.checks
    above = int((values > 0.9).sum())
    assert signs.test == "sign"
    assert signs.p == pytest.approx(scipy.stats.binomtest(above, 16).pvalue)
    assert signs.as_claimed == (np.median(values) > 0.9)
    assert signs.floor == 2 / 2**16
    assert bootstrap.p != signs.p


def test_a_sign_test_of_equivalence_is_of_the_median_within_the_margin():
    values = np.array([0.01] * 9 + [-0.02] * 6 + [0.19])
    equal = claim(direction="within", test="tost", margin=0.1, **POINTS)
    signs = examine(equal, values).checks[-1]
    wanted = max(
        scipy.stats.binomtest(15, 16, alternative="greater").pvalue,  # 15 of 16 below 0.1
        scipy.stats.binomtest(16, 16, alternative="greater").pvalue,
    )
    assert (signs.test, signs.as_claimed) == ("sign", True)
    assert signs.p == pytest.approx(wanted)
    assert signs.floor == 1 / 2**16


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.7], [0.5] * 8])
def test_few_values_and_values_without_spread_have_no_skewness(values):
    assert examine(claim(**POINTS), np.array(values)).skewness == 0.0


EFFECT = Interval(0.2, 0.1, 0.3, 16)


def examined_by_hand(*checks, test_p=0.001):
    return verdict_rules.TestedEffect("sign-flip", EFFECT, test_p, True, 0.001, checks)


def test_the_p_of_a_claim_is_the_largest_and_1_if_the_sides_differ():
    agreed = examined_by_hand(Check("bootstrap-t", 0.02, True, 0.0004))
    assert (agreed.p, agreed.at_floor) == (0.02, False)
    assert examined_by_hand().p == 0.001
    assert examined_by_hand().at_floor
    assert examined_by_hand(Check("bootstrap-t", 0.0004, True, 0.0004)).at_floor
    both = (Check("bootstrap-t", 0.02, True, 0.0004), Check("sign", 0.04, False, 0.0001))
    assert (examined_by_hand(*both).p, examined_by_hand(*both).at_floor) == (1.0, False)


@pytest.mark.parametrize(
    ("test_p", "checks", "reason"),
    [
        (0.03, [Check("bootstrap-t", 0.03, True, 0.0)], "p is above 0.05 after Holm's correction"),
        (0.03, [], "p is above 0.05 after Holm's correction"),
        (
            0.01,
            [Check("bootstrap-t", 0.03, True, 0.0)],
            "depends on the test: sign-flip alone would decide, bootstrap-t does not",
        ),
        (
            0.01,
            [Check("bootstrap-t", 0.02, True, 0.0), Check("sign", 0.01, False, 0.0)],
            "depends on the test: sign-flip alone would decide, sign does not",
        ),
    ],
)
def test_an_undecided_claim_says_whether_its_test_alone_would_decide(test_p, checks, reason):
    examined = examined_by_hand(*checks, test_p=test_p)
    family = [0.6, examined.p]  # Holm doubles the smaller of two
    assert holm(np.array(family))[1] > 0.05
    assert undecided_reason(examined, family, 1) == reason


def test_a_word_that_sign_flips_alone_would_give_depends_on_the_test():
    # Fifteen seeds are up to 11 % faster; a population with this tail may have a mean of 1.
    bn = [180, 179, 184, 185, 181, 186, 187, 177, 180, 187, 180, 185, 239, 180, 189, 199]
    verdict = verdict_of(claim(), reached={"bn": bn, "none": [200] * 16})
    assert verdict.result.p == 592 / 2**16
    assert verdict.p_adjusted > 0.05
    assert verdict.outcome == "INCONCLUSIVE"
    assert verdict.reason == (
        "depends on the test: sign-flip alone would decide, bootstrap-t does not"
    )


# Errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [8, 16, 32])
@pytest.mark.parametrize("shape", ["heavy", "tied", "unequal"])
def test_a_family_of_twelve_nulls_errs_in_at_most_five_studies_of_a_hundred(shape, n):
    rng, studies = np.random.default_rng(n), 500
    draws = {
        "heavy": lambda size: rng.standard_t(2, size),
        "tied": lambda size: rng.integers(-2, 3, size).astype(float),
        "unequal": lambda size: rng.normal(size=size) * np.where(np.arange(n) < n // 4, 10.0, 1.0),
    }
    rule = claim(direction="greater", test="t", **POINTS)
    p, _ = examine_many(rule, draws[shape]((studies * 12, n)), rng)
    wrong = (12 * p.reshape(studies, 12).min(axis=1) <= 0.05).mean()  # Holm's first step
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)


@pytest.mark.parametrize("test", ["sign-flip", "t"])
def test_skewed_nulls_err_as_often_as_the_docstring_says(test):
    rng, studies = np.random.default_rng(4), 2_000
    samples = np.exp(rng.normal(size=(studies, 16))) - np.exp(0.5)
    p, side = examine_many(claim(direction="greater", test=test, **POINTS), samples, rng)
    assert (p <= 0.05).mean() == pytest.approx(0.072, abs=0.02)
    assert (p <= 0.05 / 12).mean() == pytest.approx(0.0132, abs=0.008)
    # Nearly all on the side of the median, where a typical seed is.
    assert ((p <= 0.05) & side).mean() < 0.005


# Censoring ------------------------------------------------------------------------------


def test_pairs_that_never_arrive_do_not_make_arms_equal():
    never = [NAN] * 7
    verdict = verdict_of(EQUAL, reached={"bn": [130] * 9 + never, "none": [100] * 9 + never})
    assert verdict.outcome == "INCONCLUSIVE"
    assert not verdict.result.as_claimed
    effect = verdict.result.effect
    assert effect.estimate == pytest.approx(1.3 ** (9 / 16) * 1.25 ** (7 / 16))
    assert effect.low < 1.25 < effect.high  # as equal pairs and as pairs at the margin
    # What the other seeds show in spite of them is a contradiction.
    slower = {"bn": [390] * 9 + never, "none": [100] * 9 + never}
    assert verdict_of(EQUAL, reached=slower).outcome == "REFUTED"
    faster = {"bn": [100] * 9 + never, "none": [390] * 9 + never}
    assert verdict_of(EQUAL, reached=faster).outcome == "REFUTED"


@pytest.mark.parametrize("seed", range(5))
def test_undetermined_pairs_count_at_the_worse_margin(seed):
    rng = np.random.default_rng(seed)
    values, both = rng.normal(0.02, 0.05, 14), np.arange(14) < 3
    margin = np.log(1.25)
    above, below = (np.where(both, end, values) for end in (margin, -margin))
    worst = max(
        scipy.stats.ttest_1samp(above, margin, alternative="less").pvalue,
        scipy.stats.ttest_1samp(below, -margin, alternative="greater").pvalue,
    )
    assert examine(EQUAL, values, both).test_p == pytest.approx(worst)
    assert examine(EQUAL, values, both).test_p > examine(EQUAL, values).test_p


def test_seeds_that_are_all_undetermined_say_nothing():
    examined = examine(EQUAL, np.zeros(10), np.ones(10, dtype=bool))
    assert (examined.p, examined.as_claimed) == (1.0, False)
    assert (examined.effect.low, examined.effect.high) == pytest.approx((1.0, 1.25))


def test_undetermined_pairs_leave_a_direction_as_it_is():
    values, both = np.random.default_rng(0).normal(-0.3, 0.2, 10), np.arange(10) < 2
    assert examine(claim(), values, both) == examine(claim(), values)


FAST, SLOW = [100 + seed for seed in range(16)], [250 + 2 * seed for seed in range(16)]
CUT = [*SLOW[:12], NAN, NAN, NAN, NAN]


@pytest.mark.parametrize(
    ("arms", "direction", "bound", "outcome"),
    [
        ((("bn",), ("none",)), "less", "at most", "SUPPORTED"),
        ((("none",), ("bn",)), "greater", "at least", "SUPPORTED"),
        ((("none",), ("bn",)), "less", "at least", "REFUTED"),
    ],
)
def test_an_effect_censored_on_one_side_is_a_bound(arms, direction, bound, outcome):
    rule = claim(estimand=dataclasses.replace(STEPS, arms=arms), direction=direction)
    verdict = verdict_of(rule, reached={"bn": FAST, "none": CUT})
    effect = verdict.result.effect
    assert (effect.bound, verdict.outcome) == (bound, outcome)
    assert (effect.high == np.inf) == (bound == "at least")
    assert (effect.low == 0.0) == (bound == "at most")
    uncut = verdict_of(rule, reached={"bn": FAST, "none": [*SLOW[:12], 400, 400, 400, 400]})
    assert uncut.result.effect.bound == ""
    assert uncut.result.effect.estimate == effect.estimate
    assert (uncut.result.effect.low == effect.low) == (bound == "at least")


def test_a_bound_decides_nothing_on_its_open_side():
    # BN is the slower arm and the cut one: it may be slower still, so 'at most twice' stays open.
    rule = claim(direction="less", centre=4.0)
    verdict = verdict_of(rule, reached={"bn": CUT, "none": FAST})
    assert verdict.outcome == "INCONCLUSIVE"
    assert verdict.reason == "with runs censored, the effect is only known to be at least this"
    assert verdict_of(rule, reached={"bn": SLOW, "none": FAST}).outcome == "SUPPORTED"


def test_a_bound_is_never_an_equivalence_but_can_refute_one():
    nearly = [*FAST[:15], NAN]
    verdict = verdict_of(EQUAL, reached={"bn": nearly, "none": [*FAST[:15], 395]})
    assert verdict.result.as_claimed
    assert verdict.outcome == "INCONCLUSIVE"
    assert verdict_of(EQUAL, reached={"bn": CUT, "none": FAST}).outcome == "REFUTED"


def test_pairs_cut_on_different_sides_give_no_bound():
    reached = {"bn": [NAN, *FAST[1:]], "none": [*SLOW[:15], NAN]}
    effect = verdict_of(claim(), reached=reached).result.effect
    assert effect.bound == ""
    assert np.isfinite([effect.low, effect.high]).all()


@pytest.mark.parametrize(
    ("cut", "bound"),
    [
        (("a",), "at most"),
        (("c",), "at least"),
        (("a", "c"), ""),
        (("b",), ""),  # the middle level has no weight in a slope
    ],
)
def test_the_bound_of_a_slope_follows_the_level_that_is_cut(cut, bound):
    slope = Estimand(
        "steps-to-target",
        (("a", "b", "c"),),
        {"target": 0.8, "epochs": 4},
        summary="slope",
        levels=(1.0, 2.0, 3.0),
    )
    rule = claim(estimand=slope, direction="greater", unit="steps", test="t")
    reached = {arm: [NAN, *FAST[1:]] if arm in cut else FAST for arm in "abc"}
    verdict = verdict_of(rule, arms=tuple("abc"), reached=reached)
    assert verdict.result.effect.bound == bound


@pytest.mark.parametrize(
    ("cut", "bound"),
    [("both", "at least"), ("bn", "at most"), ("dropout", "at most"), ("neither", "at least")],
)
def test_the_bound_of_a_contrast_follows_the_cell_that_is_cut(cut, bound):
    cells = ("both", "bn", "dropout", "neither")
    rule = claim(estimand=dataclasses.replace(STEPS, arms=tuple((name,) for name in cells)))
    reached = {name: [NAN, *FAST[1:]] if name == cut else FAST for name in cells}
    assert verdict_of(rule, arms=cells, reached=reached).result.effect.bound == bound


def test_a_rank_correlation_and_its_interval_stay_within_1():
    correlation = Estimand(
        "loss",
        (("bn",),),
        {"epochs": 4},
        summary="correlation",
        against="accuracy",
        against_options={"epochs": 4},
    )
    rule = claim(estimand=correlation, test="t", unit="rank correlation")
    shares = np.array([-1.4, -0.9, -1.2, -0.8, -1.3, -0.7])
    effect = examine(rule, shares).effect
    assert (effect.estimate, effect.low) == (-1.0, -1.0)
    assert scipy.stats.ttest_1samp(shares, 0.0).confidence_interval().high == pytest.approx(
        effect.high
    )
    assert examine(rule, np.array([0.5])).effect.high == 1.0
