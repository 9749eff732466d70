"""One number per seed against scipy, statsmodels and cases worked by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from statsmodels.stats.anova import AnovaRM

from bnstudy import inference
from bnstudy.errors import ConfigError
from tests.inference.samples import SEEDS


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


@pytest.mark.parametrize("seed", SEEDS)
def test_skewness_equals_scipys(seed):
    samples = np.random.default_rng(seed).exponential(2.0, (3, 4, 9))
    assert inference.skewness(samples) == pytest.approx(scipy.stats.skew(samples, axis=-1))
    assert inference.skewness(1e200 * samples) == pytest.approx(scipy.stats.skew(samples, axis=-1))


@pytest.mark.parametrize("values", [[1.0], [1.0, 5.0], [0.1] * 7, [0.0] * 3])
def test_too_few_values_and_values_without_spread_have_no_skewness(values):
    assert inference.skewness(np.array(values)) == 0.0
