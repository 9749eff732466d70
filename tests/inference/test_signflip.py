"""Sign flips against scipy, and the interval that they imply."""

import itertools

import numpy as np
import pytest
import scipy.stats

from bnstudy import inference
from bnstudy.errors import ConfigError
from tests.inference.samples import SEEDS, draw, flip


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
