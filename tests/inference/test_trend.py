"""Page's test against scipy, and with ties against all orders."""

import itertools

import numpy as np
import pytest
import scipy.stats

from bnstudy import inference
from bnstudy.errors import ConfigError
from tests.inference.samples import SEEDS


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
