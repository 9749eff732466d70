"""Restricted means and survival curves by hand and against scipy."""

import numpy as np
import pytest
import scipy.stats

from bnstudy import inference
from bnstudy.errors import ConfigError
from tests.inference.samples import flip


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
