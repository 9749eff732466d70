"""Tests of means, medians and margins against scipy and statsmodels, and rules for every test."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_paired

from bnstudy import inference
from bnstudy.errors import ConfigError
from tests.inference.samples import NULLS, SEEDS, TESTS, draw, flip

# Means, medians, margins ----------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_t_equals_scipy(seed):
    values = draw(seed)
    wanted = scipy.stats.ttest_1samp(values, 0.2)
    got = inference.t_test(values, null=0.2)
    assert got.p == pytest.approx(wanted.pvalue, rel=1e-10)
    interval = wanted.confidence_interval(0.95)
    assert (got.interval.low, got.interval.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("seed", SEEDS)
def test_equivalence_equals_statsmodels(seed):
    values, baseline = draw(seed, effect=0.1), draw(seed + 100, effect=0.0)
    wanted, *_ = ttost_paired(values, baseline, -0.5, 1.1)
    got = inference.equivalence_test(values - baseline, 0.8, centre=0.3)
    assert got.p == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("seed", range(20))
def test_equivalence_is_found_exactly_when_the_interval_lies_within_the_margin(seed):
    values = draw(seed, n=16, effect=0.2)
    result = inference.equivalence_test(values, 0.6)
    inside = result.interval.low > -0.6 and result.interval.high < 0.6
    assert result.interval.confidence == pytest.approx(0.9)
    assert (result.p < 0.05) == inside


@pytest.mark.parametrize("seed", SEEDS)
def test_beyond_the_margin_is_t_against_the_nearer_margin(seed):
    values = draw(seed, effect=1.0)
    wanted = scipy.stats.ttest_1samp(values, 0.3, alternative="greater").pvalue
    assert inference.beyond_margin(values, 0.3).p == pytest.approx(min(1, 2 * wanted), rel=1e-10)


@pytest.mark.parametrize("margin", [0.0, -1.0, np.inf, np.nan])
def test_a_margin_must_be_positive(margin):
    for test in (inference.equivalence_test, inference.beyond_margin):
        with pytest.raises(ConfigError) as refusal:
            test(draw(0), margin)
        assert str(refusal.value) == (
            f"a margin of equivalence must be positive and finite, got {margin!r}"
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_sign_test_equals_scipys_quantile_test(seed):
    values = draw(seed, n=12)
    wanted = scipy.stats.quantile_test(values, q=0.0, p=0.5)
    got = inference.sign_test(values)
    assert got.p == pytest.approx(wanted.pvalue, rel=1e-10)
    interval = wanted.confidence_interval(0.95)
    assert (got.interval.low, got.interval.high) == (interval.low, interval.high)


# What every test must do ----------------------------------------------------------------


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_swapping_the_arms_flips_the_sign_and_keeps_p(name, seed):
    values = draw(seed)
    there, back = TESTS[name](values), TESTS[name](-values)
    assert back.p == pytest.approx(there.p, rel=1e-12)
    assert back.interval.estimate == pytest.approx(-there.interval.estimate)
    assert back.interval.low == pytest.approx(-there.interval.high)
    assert back.interval.high == pytest.approx(-there.interval.low)


@pytest.mark.parametrize("name", TESTS)
def test_relabelling_the_seeds_changes_nothing(name):
    values = draw(2)
    shuffled = np.random.default_rng(9).permutation(values)
    there, back = TESTS[name](values), TESTS[name](shuffled)
    assert back.p == pytest.approx(there.p, rel=1e-12)
    assert back.interval.low == pytest.approx(there.interval.low)


@pytest.mark.parametrize("name", NULLS)
def test_a_change_of_unit_changes_nothing(name):
    values = draw(1)
    assert NULLS[name](1000 * values).p == pytest.approx(NULLS[name](values).p, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 16, 24])
@pytest.mark.parametrize("value", [0.0, 0.1, 7.0, -1e-300, 1e9])
@pytest.mark.parametrize("name", TESTS)
def test_constant_differences_have_a_defined_answer(name, value, n):
    result = TESTS[name](np.full(n, value))
    assert 0 < result.p <= 1
    assert result.interval.estimate == pytest.approx(value)
    assert result.interval.low <= result.interval.estimate <= result.interval.high
    if n == 1:
        assert (result.p, result.interval.low, result.interval.high) == (1.0, -np.inf, np.inf)
    if value == 0.0 and name in NULLS:
        assert result.p == 1.0


def test_values_without_spread_are_as_likely_as_their_signs():
    assert inference.t_test(np.full(6, 2.0)).p == 2 / 2**6
    assert inference.equivalence_test(np.zeros(6), 1.0).p == 1 / 2**6
    assert inference.equivalence_test(np.full(6, 1.0), 1.0).p == 1.0
    assert inference.beyond_margin(np.full(6, 2.0), 1.0).p == 2 / 2**6


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
@pytest.mark.parametrize("name", NULLS)
def test_no_scale_leaves_the_range_of_floats(name, scale):
    values = np.array([1.0, 2.0, -0.5, 3.0, 1.5, 2.5, 1.25])
    assert NULLS[name](scale * values).p == pytest.approx(NULLS[name](values).p, rel=1e-3)


def test_p_never_underflows_to_zero():
    values = 1.0 + 1e-6 * np.random.default_rng(0).normal(size=200)
    assert inference.t_test(values).p > 0
    assert inference.equivalence_test(values - 1, 1.0).p > 0
    assert inference.page_test(np.tile(np.arange(9.0), (200, 1))).p > 0
    many = np.ones(2_000)
    assert inference.t_test(many).p > 0
    assert inference.sign_test(many).p > 0
    assert inference.equivalence_test(many, 2.0).p > 0
    assert flip(many, resamples=99).p == 1 / 100


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf, 1.0], [[1.0, 2.0]]])
def test_nothing_and_missing_values_are_refused(name, values):
    with pytest.raises(ConfigError, match="censor them, do not drop them"):
        TESTS[name](np.array(values))


def test_rounding_does_not_break_a_tie():
    difference = inference.paired_differences(np.array([0.1 + 0.2, 5.0]), np.array([0.3, 4.0]))
    assert difference.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", NULLS)
def test_rounding_is_no_distance_from_the_centre(name):
    values, null = np.full(8, np.log(125) - np.log(100)), np.log(1.25)
    assert values[0] != null
    tests = {"sign-flip": flip, "t": inference.t_test, "sign": inference.sign_test}
    assert tests[name](values, null=null).p == 1.0
    assert inference.sign_flip_p(values, null) == 1.0


def test_a_difference_at_the_margin_is_neither_within_nor_beyond():
    values = np.full(8, 0.86 - 0.85)
    assert values[0] > 0.01
    assert inference.equivalence_test(values, 0.01).p == 1.0
    assert inference.beyond_margin(values, 0.01).p == 1.0


# Intervals and p ------------------------------------------------------------------------


TIED = st.lists(st.integers(-3, 4), min_size=1, max_size=14)
UNITS = st.sampled_from([1.0, 0.1, 1e-3])  # 0.1 times 3 is not 0.3: ties that rounding hides


def excludes(interval, null):
    slack = 1e-9 * abs(null)
    return not interval.low - slack <= null <= interval.high + slack


@pytest.mark.parametrize("name", ["sign-flip", "t", "sign"])
@given(numbers=TIED, null=st.integers(-3, 4), unit=UNITS)
def test_the_interval_leaves_out_exactly_what_p_rejects(name, numbers, null, unit):
    tests = {"sign-flip": flip, "t": inference.t_test, "sign": inference.sign_test}
    result = tests[name](unit * np.array(numbers, dtype=float), null=unit * null)
    assert excludes(result.interval, unit * null) == (result.p <= 0.05)
    assert result.floor <= result.p


@given(numbers=TIED, margin=st.sampled_from([0.5, 1.0, 2.0]))
def test_intervals_of_both_tests_of_a_margin_agree_with_their_p(numbers, margin):
    values = np.array(numbers, dtype=float)
    equal = inference.equivalence_test(values, margin)
    beyond = inference.beyond_margin(values, margin)
    inside = -margin < equal.interval.low and equal.interval.high < margin
    outside = beyond.interval.low > margin or beyond.interval.high < -margin
    assert inside == (equal.p < 0.05)
    assert outside == (beyond.p < 0.05)


@given(
    st.integers(2, 5).flatmap(
        lambda levels: st.lists(
            st.lists(st.integers(0, 3), min_size=levels, max_size=levels), min_size=1, max_size=7
        )
    )
)
def test_pages_interval_leaves_out_0_exactly_when_p_rejects(rows):
    result = inference.page_test(np.array(rows, dtype=float))
    interval = result.interval
    assert (interval.low > 0 or interval.high < 0) == (result.p <= 0.05 * (1 + 1e-9))
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    assert result.floor <= result.p
    assert interval.estimate == pytest.approx(inference.order_correlations(np.array(rows)).mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_drawn_interval_agrees_with_its_p_too(seed):
    values = draw(seed, n=24, effect=0.4)
    for null in np.linspace(-0.2, 1.0, 41):
        result = flip(values, null=null, resamples=999)
        assert excludes(result.interval, null) == (result.p <= 0.05)


def test_ties_at_the_median_speak_for_neither_side():
    # Conover's quantile test, as scipy has it, with its interval.
    values = np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8.0])
    wanted = scipy.stats.quantile_test(values, q=0.0, p=0.5)
    got = inference.sign_test(values)
    assert got.p == pytest.approx(wanted.pvalue)
    assert (got.interval.low, got.interval.high) == tuple(wanted.confidence_interval(0.95))


def test_two_seeds_in_full_order_do_not_exclude_0():
    result = inference.page_test(np.tile(np.arange(3.0), (2, 1)))
    assert result.p == pytest.approx(2 / 36)
    assert (result.interval.low, result.interval.high) == (-1.0, 1.0)


def test_the_smallest_p_is_known():
    ordered = np.arange(1.0, 9.0)
    assert flip(ordered).floor == flip(ordered).p == 2 / 2**8
    assert inference.sign_test(ordered).floor == inference.sign_test(ordered).p == 2 / 2**8
    assert flip(np.arange(1.0, 31.0), resamples=999).floor == 1 / 1000
    page = inference.page_test(np.tile(np.arange(4.0), (3, 1)))
    assert page.floor == page.p == pytest.approx(2 / 24**3)
    assert inference.t_test(ordered).floor == 0.0
    assert inference.t_test(np.ones(6)).floor == inference.t_test(np.ones(6)).p == 2 / 2**6
