"""The studentized bootstrap against resamples drawn one by one, all resamples, and Student's t."""

import itertools

import numpy as np
import pytest
import scipy.stats

from bnstudy.inference import (
    bootstrap_tails,
    bootstrap_weights,
    equivalence_p,
    t_tails,
    two_sided_p,
)


def weights(n, resamples=999, seed=0):
    return bootstrap_weights(n, np.random.default_rng(seed), resamples)


def tails_one_by_one(values, bound, drawn):
    """Tails from each resample written out; every error is at least 1 / sqrt(n) of the sample's."""
    n, error = len(values), scipy.stats.sem(values)
    t = (values.mean() - bound) / error
    resampled = []
    for counts in drawn:
        resample = np.repeat(values, counts.astype(int))
        error_of_it = max(resample.std(ddof=1) / np.sqrt(n), error / np.sqrt(n))
        resampled.append((resample.mean() - values.mean()) / error_of_it)
    resampled = np.array(resampled)
    above = (1 + (resampled >= t).sum()) / (1 + len(drawn))
    return above, (1 + (resampled <= t).sum()) / (1 + len(drawn))


@pytest.mark.parametrize("bound", [0.0, -0.7, 1.2])
def test_many_samples_at_once_equal_resamples_drawn_one_by_one(bound):
    drawn = weights(9, 299)
    samples = np.random.default_rng(1).exponential(1.0, (2, 3, 9)) - 0.6
    above, below = bootstrap_tails(samples, bound, drawn)
    for index in np.ndindex(2, 3):
        wanted = tails_one_by_one(samples[index], bound, drawn)
        assert (above[index], below[index]) == pytest.approx(wanted)


def test_drawn_resamples_agree_with_all_of_them():
    values = np.array([0.3, 1.1, 0.4, 2.9])
    counts = [np.bincount(chosen, minlength=4) for chosen in itertools.product(range(4), repeat=4)]
    exact = tails_one_by_one(values, 0.5, np.array(counts))
    drawn = bootstrap_tails(values, 0.5, weights(4, 40_000))
    assert drawn == pytest.approx(exact, abs=0.01)


def test_it_is_students_t_where_there_are_many_normal_values():
    values = np.random.default_rng(2).normal(0.1, 1.0, 300)
    drawn = bootstrap_tails(values, 0.0, weights(300, 20_000))
    assert drawn == pytest.approx([float(tail) for tail in t_tails(values, 0.0)], abs=0.01)


def test_it_follows_the_skewness_that_students_t_ignores():
    # Known figures: a two-sided t test at 5 % errs in 14 % of such samples, this one in 8 %.
    samples = np.exp(np.random.default_rng(3).normal(size=(3_000, 16))) - np.exp(0.5)
    drawn = weights(16, 1_999)
    error = (two_sided_p(samples, 0.0, lambda x, b: bootstrap_tails(x, b, drawn)) <= 0.05).mean()
    of_t = (scipy.stats.ttest_1samp(samples, 0.0, axis=1).pvalue <= 0.05).mean()
    assert error == pytest.approx(0.084, abs=0.02)
    assert of_t == pytest.approx(0.14, abs=0.02)


def test_swapping_the_arms_swaps_the_tails():
    values, drawn = np.random.default_rng(4).normal(0.5, 1.0, 12), weights(12)
    above, below = bootstrap_tails(values, 0.2, drawn)
    assert bootstrap_tails(-values, -0.2, drawn) == (below, above)


def test_p_is_never_zero_and_its_floor_is_one_resample():
    values = 10.0 + np.random.default_rng(5).normal(size=16)
    above, below = bootstrap_tails(values, 0.0, weights(16, 999))
    assert (above, below) == (1 / 1000, 1.0)


@pytest.mark.parametrize("n", [1, 2, 5, 16])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e-300, 1e9])
def test_values_without_spread_are_as_likely_as_their_signs(value, n):
    above, below = bootstrap_tails(np.full(n, value), 0.0, weights(n))
    smallest = 0.5**n if n > 1 else 1.0
    assert above == (smallest if value > 0 else 1.0)
    assert below == (smallest if value < 0 else 1.0)


def test_most_seeds_tied_far_from_the_bound_can_be_decided():
    # Over a third of the resamples have no spread, and a t* that would be infinite.
    values = np.array([-1.1] * 15 + [-1.0])
    assert bootstrap_tails(values, 0.0, weights(16))[1] == 1 / 1000


def test_equivalence_by_bootstrap_is_near_that_by_t():
    values = np.random.default_rng(6).normal(0.1, 1.0, 200)
    drawn = weights(200, 20_000)
    p = equivalence_p(values, 0.25, 0.0, lambda x, b: bootstrap_tails(x, b, drawn))
    assert p == pytest.approx(float(equivalence_p(values, 0.25)), abs=0.01)


def test_a_draw_is_that_of_its_generator_and_has_as_many_seeds_as_the_sample():
    assert (weights(7, seed=1) == weights(7, seed=1)).all()
    assert (weights(7, seed=1) != weights(7, seed=2)).any()
    assert weights(7).sum(axis=1).tolist() == [7.0] * 999
