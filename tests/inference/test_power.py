"""Power and numbers of seeds against statsmodels, published tables and simulation."""

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.power import TTestPower

from bnstudy import inference
from bnstudy.errors import ConfigError
from tests.inference.samples import flip


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
