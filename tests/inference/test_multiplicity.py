"""Holm's correction against statsmodels, by hand, and by the error of a family."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from bnstudy import inference
from bnstudy.errors import ConfigError
from tests.inference.samples import SEEDS


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
