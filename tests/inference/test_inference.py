"""Statistics against scipy, statsmodels, cases worked by hand, and data without any spread."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from bnstudy import inference
from bnstudy.errors import ConfigError

SEEDS = range(5)


def draw(seed, n=10, effect=0.4):
    return np.random.default_rng(seed).normal(effect, 1.0, n)


def flip(values, **options):
    return inference.sign_flip_test(np.asarray(values), np.random.default_rng(0), **options)


TESTS = {
    "sign-flip": flip,
    "t": inference.t_test,
    "sign": inference.sign_test,
    "tost": lambda values: inference.equivalence_test(values, 0.7),
    "beyond-margin": lambda values: inference.beyond_margin(values, 0.1),
}
NULLS = {name: TESTS[name] for name in ("sign-flip", "t", "sign")}


# Sign flips -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_sign_flip_equals_scipys_exact_permutation_test(seed):
    values = draw(seed)
    wanted = scipy.stats.permutation_test(
        (values,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert flip(values).p == pytest.approx(wanted.pvalue, rel=1e-12)
    assert inference.sign_flip_p(values) == pytest.approx(wanted.pvalue, rel=1e-12)


def test_many_samples_at_once_equal_one_by_one():
    samples = np.random.default_rng(3).normal(0.3, 1, (4, 6, 8))
    one_by_one = np.array([[flip(row).p for row in block] for block in samples])
    assert np.allclose(inference.sign_flip_p(samples), one_by_one, rtol=1e-12)


def test_six_differences_of_one_sign_have_two_chances_in_64():
    assert flip([3, 1, 4, 1, 5, 9]).p == 2 / 64


def test_ties_count_as_differences_of_zero():
    # Signs of (2, 1, 0, 0): 16 patterns, |sum| >= 3 when the first two agree: 8 of them.
    assert flip([2, 1, 0, 0]).p == 8 / 16


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ends_of_the_interval_are_where_the_test_turns(seed):
    values = draw(seed)
    interval = flip(values).interval
    for end, outwards in ((interval.low, -1), (interval.high, 1)):
        assert flip(values, null=end - outwards * 1e-6).p > 0.05
        assert flip(values, null=end + outwards * 1e-6).p <= 0.05


def test_the_interval_covers_the_centre_as_often_as_it_says():
    # Exact for symmetric differences: 95 % up to the grain of 2/2^8 and the simulation's error.
    samples = np.random.default_rng(8).standard_t(3, (1500, 8))
    ends = [flip(row).interval for row in samples]
    covered = np.mean([end.low <= 0 <= end.high for end in ends])
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 1500) + 2 / 2**8


def test_beyond_enumeration_the_drawn_p_is_near_the_exact_one_and_counts_the_data_itself():
    values = draw(4, n=21, effect=0.5)
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=11)))
    sums = np.add.outer(signs @ values[:11], signs[:1024, 1:] @ values[11:]).ravel()
    exact = (np.abs(sums) >= abs(values.sum()) - 1e-9).mean()
    drawn = flip(values, resamples=20_000)
    assert abs(drawn.p - exact) < 4 * np.sqrt(exact / 20_000)
    assert flip(np.arange(1.0, 31.0), resamples=999).p == 1 / 1000
    assert drawn.interval.low == pytest.approx(inference.t_test(values).interval.low, abs=0.1)


def test_many_drawn_samples_count_the_data_itself_too():
    samples = np.stack([np.arange(1.0, 31.0), np.resize([1.0, -1.0], 30)])
    p = inference.sign_flip_p(samples, rng=np.random.default_rng(0), resamples=999)
    assert p.tolist() == [1 / 1000, 1.0]
    with pytest.raises(ConfigError) as refusal:
        inference.sign_flip_p(samples)
    assert str(refusal.value) == "only 1 to 20 pairs can be enumerated, got 30: give an rng"


def test_enumeration_draws_nothing():
    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    inference.sign_flip_test(draw(0, n=20), rng)
    assert rng.bit_generator.state == before


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


# Families -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_holm_equals_statsmodels(seed):
    p = np.random.default_rng(seed).beta(0.3, 1, 12).round(3)  # rounded: with ties
    p[0] = 1.0
    assert np.allclose(inference.holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_holm_by_hand_and_in_any_order():
    p = np.array([0.04, 0.01, 0.03, 1.0])
    assert inference.holm(p) == pytest.approx([0.09, 0.04, 0.09, 1.0])
    assert inference.holm(p[::-1]) == pytest.approx(inference.holm(p)[::-1])
    assert inference.holm(np.array([])).size == 0


def test_a_claim_that_could_not_be_tested_makes_the_family_larger():
    assert inference.holm(np.array([0.03, 1.0]))[0] == pytest.approx(0.06)


@pytest.mark.parametrize("p", [[np.nan], [1.5], [-0.1]])
def test_holm_refuses_what_is_no_p(p):
    with pytest.raises(ConfigError, match=r"a family needs p values in 0\.\.1"):
        inference.holm(np.array(p))


def test_the_whole_family_errs_in_at_most_five_studies_of_a_hundred():
    # 2,000 studies of 10 claims each, all null; 12 seeds, sign flips.
    rng = np.random.default_rng(20)
    p = inference.sign_flip_p(rng.normal(0, 1, (2000, 10, 12)))
    any_false = np.mean([(inference.holm(row) <= 0.05).any() for row in p])
    assert any_false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


# One number a seed ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_slopes_equal_linregress(seed):
    levels = np.log2([4, 8, 64, 1024])
    table = np.random.default_rng(seed).normal(size=(7, 4))
    wanted = [scipy.stats.linregress(levels, row).slope for row in table]
    assert np.allclose(inference.slopes(table, levels), wanted)


def test_a_slope_is_that_of_the_law():
    sizes = np.array([4.0, 16.0, 256.0])
    noise = np.log(3.0 * sizes**-0.5) + np.array([[0.0], [1.0]])
    assert inference.slopes(noise, np.log(sizes)) == pytest.approx([-0.5, -0.5])


def test_values_all_alike_have_no_slope_and_no_contrast_but_for_rounding():
    rows = np.full((6, 4), np.log(0.1)) + np.array([0.0, 1.0, 0.3, 7.1, 2e5, -3e-7])[:, None]
    assert inference.slopes(rows, np.log([1.0, 2.0, 4.0, 8.0])).tolist() == [0.0] * 6
    cells = [np.full(6, value) for value in (0.9, 0.8, 0.8, 0.7)]
    assert ((cells[0] - cells[1]) - (cells[2] - cells[3]) != 0).all()
    assert inference.interaction(*cells).tolist() == [0.0] * 6


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([1.0, 2.0], "a slope needs one value per level, got 3 for 2"),
        ([2.0, 2.0, 2.0], "a slope needs two different levels, got [2.0, 2.0, 2.0]"),
    ],
)
def test_levels_without_a_slope_are_refused(levels, message):
    with pytest.raises(ConfigError) as refusal:
        inference.slopes(np.ones((2, 3)), np.array(levels))
    assert str(refusal.value) == message


@pytest.mark.parametrize("knee", [1.0, 2.35, 4.0])
def test_a_knee_is_where_two_lines_meet(knee):
    levels = np.arange(6.0)
    table = np.array([-1.0, 0.3])[:, None] * levels + 2.0 * np.maximum(levels - knee, 0)
    noise = np.random.default_rng(0).normal(0, 1e-4, table.shape)
    assert inference.knees(table + noise, levels) == pytest.approx([knee] * 2, abs=0.02)


def test_a_straight_line_has_its_knee_in_the_middle():
    rows = np.array([[4.0, 3.0, 2.0, 1.0, 0.0], [0.3] * 5, [0.0] * 5])
    assert inference.knees(rows, np.arange(5.0)) == pytest.approx([2.0] * 3)


@pytest.mark.parametrize("levels", [[1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 3.0], [4.0, 3.0, 2.0, 1.0]])
def test_a_knee_needs_four_increasing_levels(levels):
    with pytest.raises(ConfigError, match="a knee needs values at four increasing levels or more"):
        inference.knees(np.ones((2, len(levels))), np.array(levels))


def test_a_span_is_in_decades_and_nothing_where_at_most_one_level_works():
    works = np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1.0]])
    assert inference.spans(works, np.array([0.01, 0.1, 1.0, 10.0])) == pytest.approx([2, 0, 0, 3])
    with pytest.raises(ConfigError, match="a range needs one value per level, got 4 for 2"):
        inference.spans(works, np.array([1.0, 2.0]))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_contrast_squared_is_the_f_of_the_interaction(seed):
    cells = np.random.default_rng(seed).normal(size=(2, 2, 9))
    rows = [
        {"seed": unit, "bn": bn, "dropout": dropout, "y": cells[bn, dropout, unit]}
        for bn, dropout, unit in itertools.product(range(2), range(2), range(9))
    ]
    anova = AnovaRM(pd.DataFrame(rows), "y", "seed", within=["bn", "dropout"]).fit().anova_table
    contrast = inference.interaction(cells[1, 1], cells[1, 0], cells[0, 1], cells[0, 0])
    t = scipy.stats.ttest_1samp(contrast, 0.0).statistic
    assert t**2 == pytest.approx(anova.loc["bn:dropout", "F Value"])
    p = inference.t_test(contrast).p
    assert p == pytest.approx(anova.loc["bn:dropout", "Pr > F"], rel=1e-8)


def test_a_ratio_of_deviations_is_that_of_the_data_and_has_a_floor():
    table = np.random.default_rng(0).normal(size=(6, 5))
    ratio = inference.log_deviations(3 * table, 1e-4) - inference.log_deviations(table, 1e-4)
    assert ratio == pytest.approx(np.full(6, np.log(3)))
    assert inference.log_deviations(np.full((2, 5), 0.9), 1e-4) == pytest.approx(np.log(1e-4))
    with pytest.raises(ConfigError, match="at least two values per seed"):
        inference.log_deviations(np.ones((3, 1)), 1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_rank_correlations_equal_scipys(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(6, 5)).round(1), rng.normal(size=(6, 5)).round(1)
    wanted = [scipy.stats.spearmanr(*pair).statistic for pair in zip(first, second, strict=True)]
    assert inference.rank_correlations(first, second) == pytest.approx(wanted)
    assert inference.rank_correlations(first, np.exp(first)) == pytest.approx(np.ones(6))
    assert inference.rank_correlations(first, np.ones((6, 5))).tolist() == [0.0] * 6


def test_shares_in_a_rank_correlation_are_those_of_leaving_a_seed_out():
    rng = np.random.default_rng(1)
    first = rng.normal(size=12)
    second = first + rng.normal(size=12)
    shares = inference.rank_correlation_shares(first, second)
    r = scipy.stats.spearmanr(first, second).statistic
    for seed in range(12):
        rest = np.delete(first, seed), np.delete(second, seed)
        assert shares[seed] == pytest.approx(12 * r - 11 * scipy.stats.spearmanr(*rest).statistic)
    assert inference.rank_correlation_shares(first, first) == pytest.approx(np.ones(12))


def test_the_interval_of_a_rank_correlation_covers_it_nearly_as_often_as_stated():
    # of a bivariate normal distribution: Spearman's rho is 6/pi asin(r/2)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(800, 16))
    y = 0.6 * x + 0.8 * rng.normal(size=(800, 16))
    rho = 6 / np.pi * np.arcsin(0.3)
    pairs = zip(x, y, strict=True)
    ends = [inference.mean_interval(inference.rank_correlation_shares(*pair)) for pair in pairs]
    covered = np.mean([end.low <= rho <= end.high for end in ends])
    assert covered == pytest.approx(0.91, abs=0.03)
    assert np.mean([end.estimate for end in ends]) == pytest.approx(rho, abs=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: inference.rank_correlations(np.ones((2, 3)), np.ones((2, 4))),
            "a correlation needs pairs of values, got (2, 3) and (2, 4)",
        ),
        (
            lambda: inference.rank_correlation_shares(np.arange(3.0), np.arange(3.0)),
            "a correlation over seeds needs 4 of them, got 3",
        ),
    ],
)
def test_what_has_no_correlation_is_refused(call, message):
    with pytest.raises(ConfigError) as refusal:
        call()
    assert str(refusal.value) == message


# Order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_page_equals_scipy_both_ways(seed):
    table = np.random.default_rng(seed).normal(size=(6, 4)) + 0.3 * np.arange(4)
    up = scipy.stats.page_trend_test(table, method="exact").pvalue
    down = scipy.stats.page_trend_test(table[:, ::-1], method="exact").pvalue
    got = inference.page_test(table)
    assert got.p == pytest.approx(min(1, 2 * min(up, down)), rel=1e-10)
    assert (got.interval.estimate > 0) == (up < down)
    rho = np.mean([scipy.stats.spearmanr(row, np.arange(4)).statistic for row in table])
    assert got.interval.estimate == pytest.approx(rho)


@pytest.mark.parametrize("seed", SEEDS)
def test_reversing_the_order_flips_pages_sign_and_relabelling_seeds_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    table = (rng.normal(size=(7, 4)) + 0.4 * np.arange(4)).round(1)  # with ties
    there, back = inference.page_test(table), inference.page_test(table[:, ::-1])
    assert back.p == pytest.approx(there.p, rel=1e-12)
    assert back.interval.estimate == pytest.approx(-there.interval.estimate)
    shuffled = inference.page_test(rng.permutation(table))
    assert shuffled.p == pytest.approx(there.p, rel=1e-12)
    assert shuffled.interval.low == pytest.approx(there.interval.low)


def test_page_knows_the_order_from_its_reverse():
    table = np.arange(5.0) + np.random.default_rng(0).normal(0, 0.1, (4, 5))
    assert inference.page_test(table).interval.estimate == pytest.approx(1.0)
    assert inference.page_test(table[:, ::-1]).interval.estimate == pytest.approx(-1.0)
    assert inference.page_test(table).p == pytest.approx(2 * 120.0**-4)


def test_page_is_exact_with_ties():
    table = np.array([[1.0, 1.0, 2.0], [1.0, 2.0, 2.0]])
    ranks = scipy.stats.rankdata(table, axis=1)
    sums = [
        np.dot(first, [1, 2, 3]) + np.dot(second, [1, 2, 3])
        for first in itertools.permutations(ranks[0])
        for second in itertools.permutations(ranks[1])
    ]
    wanted = np.mean(np.array(sums) >= (ranks @ [1, 2, 3]).sum() - 1e-9)
    assert inference.page_test(table).p == pytest.approx(min(1, 2 * wanted))


def test_page_of_ties_alone_says_nothing():
    result = inference.page_test(np.full((5, 4), 0.8))
    assert (result.p, result.interval.estimate) == (1.0, 0.0)


@pytest.mark.parametrize("levels", [1, 13])
def test_page_refuses_too_few_and_too_many_levels(levels):
    with pytest.raises(ConfigError) as refusal:
        inference.page_test(np.ones((3, levels)))
    assert str(refusal.value) == f"an order needs 2 to 12 levels, got {levels}"


# Censoring ------------------------------------------------------------------------------


def test_restricted_mean_by_hand():
    reached = np.array([100.0, 250.0, np.nan, 900.0])  # the last after the horizon
    assert inference.restricted_steps(reached, 400).tolist() == [100, 250, 400, 400]
    assert inference.restricted_mean(reached, 400).estimate == (100 + 250 + 400 + 400) / 4


def test_restricted_mean_is_the_area_under_the_survival_curve():
    reached = np.array([40.0, 40.0, 90.0, np.nan, 160.0, np.nan])
    curve = inference.survival(reached, 200)
    area = (np.diff([*curve.steps[curve.steps < 200], 200]) * curve.share[curve.steps < 200]).sum()
    assert area == pytest.approx(inference.restricted_mean(reached, 200).estimate)


def test_survival_by_hand():
    curve = inference.survival(np.array([10.0, 20.0, 20.0, np.nan, 80.0]), 50)
    assert curve.steps.tolist() == [0, 10, 20, 50]
    assert curve.share == pytest.approx([1, 0.8, 0.4, 0.4])


def test_the_band_of_the_survival_curve_is_scipys():
    reached = np.array([10.0, 20.0, 20.0, 35.0, 41.0, np.nan, np.nan])
    curve = inference.survival(reached, 50)
    data = scipy.stats.CensoredData(uncensored=reached[:5], right=[50.0, 50.0])
    band = scipy.stats.ecdf(data).sf.confidence_interval(0.95, method="log-log")
    assert curve.low[1:] == pytest.approx(band.low.probabilities)
    assert curve.high[1:] == pytest.approx(band.high.probabilities)


@pytest.mark.parametrize("reached", [[np.nan] * 4, [5.0] * 4, [np.nan], [50.0, 50.0]])
def test_survival_of_all_or_none_is_defined(reached):
    curve = inference.survival(np.array(reached), 50)
    for values in (curve.share, curve.low, curve.high):
        assert np.isfinite(values).all()
    assert (curve.low <= curve.share).all()
    assert (curve.share <= curve.high).all()


def test_dropping_censored_pairs_would_change_the_answer():
    # The slow arm fails to reach the target in the seeds where it is slowest.
    fast = np.array([100, 120, 110, 130, 105, 125, 115, 95, 102, 118.0])
    slow = np.array([105, 118, 112, 128, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan])
    kept = inference.restricted_steps(slow, 400) - fast
    dropped = (slow - fast)[~np.isnan(slow)]
    assert flip(kept).p < 0.05 < flip(dropped).p
    with pytest.raises(ConfigError, match="censor them, do not drop them"):
        flip(slow - fast)


@pytest.mark.parametrize("horizon", [0, -5, np.nan])
def test_a_horizon_must_be_positive(horizon):
    with pytest.raises(ConfigError) as refusal:
        inference.restricted_steps(np.array([1.0]), horizon)
    assert str(refusal.value) == f"a horizon must be a positive number of steps, got {horizon!r}"


# Power ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "seeds"), [(1, 6), (3, 7), (5, 8), (10, 9), (20, 10)])
def test_seeds_that_reach_alpha_in_a_family(family, seeds):
    reaches = lambda n: inference.smallest_p(n) <= 0.05 / family  # noqa: E731
    assert inference.seeds_needed(reaches) == seeds
    assert inference.smallest_p(seeds) == flip(np.arange(1.0, seeds + 1)).p


@pytest.mark.parametrize(("n", "effect", "alpha"), [(34, 0.5, 0.05), (10, 1.0, 0.01), (3, 2, 0.1)])
def test_power_of_t_equals_statsmodels(n, effect, alpha):
    wanted = TTestPower().power(effect, n, alpha)
    assert inference.power_of_t(n, 2 * effect, 2.0, alpha) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("margin", "seeds"), [(0.5, 36), (0.75, 17), (1.0, 11), (1.5, 6), (2.0, 4)]
)
def test_seeds_for_equivalence_are_those_of_the_tables(margin, seeds):
    reaches = lambda n: inference.power_of_equivalence(n, margin, 1.0, 0.05) >= 0.8  # noqa: E731
    assert inference.seeds_needed(reaches) == seeds


@pytest.mark.parametrize(("n", "margin", "effect"), [(16, 0.8, 0.0), (8, 1.2, 0.3), (16, 0.4, 0)])
def test_power_of_equivalence_is_what_simulation_finds(n, margin, effect):
    values = np.random.default_rng(6).normal(effect, 1.0, (20_000, n))
    error = values.std(axis=1, ddof=1) / np.sqrt(n)
    room = margin - scipy.stats.t.isf(0.05, n - 1) * error
    found = (np.abs(values.mean(axis=1)) < room).mean()
    power = inference.power_of_equivalence(n, margin, 1.0, 0.05, effect)
    assert power == pytest.approx(found, abs=4 * np.sqrt(0.25 / 20_000))


def test_power_of_sign_flips_is_near_that_of_t():
    rng = np.random.default_rng(7)
    power = inference.power_of_sign_flip(12, 1.0, 1.0, 0.05, rng)
    assert power == pytest.approx(inference.power_of_t(12, 1.0, 1.0, 0.05), abs=0.05)


def test_power_without_spread_or_with_one_seed_is_defined():
    assert inference.power_of_t(1, 1.0, 1.0, 0.05) == 0.0
    assert inference.power_of_equivalence(1, 1.0, 1.0, 0.05) == 0.0
    assert inference.power_of_t(16, 1.0, 0.0, 0.05) == 1.0
    assert inference.power_of_t(16, 0.0, 0.0, 0.05) == 0.0
    assert inference.power_of_equivalence(16, 1.0, 0.0, 0.05) == 1.0
    assert inference.power_of_equivalence(16, 1e-9, 1.0, 0.05) == pytest.approx(0.0)
    assert inference.seeds_needed(lambda n: False) is None


@pytest.mark.parametrize("seeds", [0, -1])
def test_power_needs_seeds(seeds):
    with pytest.raises(ConfigError, match="a test needs at least one seed"):
        inference.smallest_p(seeds)


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


@pytest.mark.parametrize("seed", SEEDS)
def test_skewness_equals_scipys(seed):
    samples = np.random.default_rng(seed).exponential(2.0, (3, 4, 9))
    assert inference.skewness(samples) == pytest.approx(scipy.stats.skew(samples, axis=-1))
    assert inference.skewness(1e200 * samples) == pytest.approx(scipy.stats.skew(samples, axis=-1))


@pytest.mark.parametrize("values", [[1.0], [1.0, 5.0], [0.1] * 7, [0.0] * 3])
def test_too_few_values_and_values_without_spread_have_no_skewness(values):
    assert inference.skewness(np.array(values)) == 0.0
