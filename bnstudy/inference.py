"""Intervals for paired seeds: pure functions on arrays.

A run that did not reach its target, or diverged, is censored at the horizon,
the same for all arms, so min(T, horizon) is fully observed and its mean (the
restricted mean) is a plain mean: no run is ever dropped.
"""

from dataclasses import dataclass

import numpy as np
import scipy.stats

from bnstudy.errors import ConfigError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate, low, high
        In the unit of the data.  With one value the interval is the whole
        line: one seed says nothing about the spread.
    n
        How many values it rests on.
    confidence
        In 0..1.
    """

    estimate: float
    low: float
    high: float
    n: int
    confidence: float = CONFIDENCE


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of some values with Student's t interval.

    The interval is mean -/+ t(n - 1) s / sqrt(n).  Under 20 seeds it keeps its
    coverage where bootstrap intervals do not.

    Parameters
    ----------
    values
        (n,), finite, n >= 1.
    confidence
        In 0..1.

    Returns
    -------
    Interval
        Of constant values a single point; of one value (-inf, inf).

    Raises
    ------
    ConfigError
        If there is no value, or one is not finite.
    """
    values = finite(values)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, -np.inf, np.inf, n, confidence)
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean, n, confidence)
    half = scipy.stats.t.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, confidence)


def difference_interval(
    values: np.ndarray, baseline: np.ndarray, confidence: float = CONFIDENCE
) -> Interval:
    """Return the mean paired difference ``values - baseline`` with its t interval.

    Parameters
    ----------
    values, baseline
        (n,) each, the same seeds in the same order.
    confidence
        In 0..1.

    Raises
    ------
    ConfigError
        If the lengths differ, or a value is not finite.
    """
    return mean_interval(_paired(values, baseline), confidence)


def ratio_interval(
    values: np.ndarray, baseline: np.ndarray, confidence: float = CONFIDENCE
) -> Interval:
    """Return the geometric mean of the paired ratios ``values / baseline`` with its interval.

    The t interval of the mean log ratio, taken back from the logarithm.

    Parameters
    ----------
    values, baseline
        (n,) each, positive, the same seeds in the same order.
    confidence
        In 0..1.

    Raises
    ------
    ConfigError
        If the lengths differ, or a value is not positive and finite.
    """
    if (np.asarray(values) <= 0).any() or (np.asarray(baseline) <= 0).any():
        raise ConfigError("a ratio needs positive values, got one of 0 or less")
    log = mean_interval(_paired(np.log(values), np.log(baseline)), confidence)
    estimate, low, high = (float(np.exp(value)) for value in (log.estimate, log.low, log.high))
    return Interval(estimate, low, high, log.n, confidence)


def restricted_steps(reached_at: np.ndarray, horizon: float) -> np.ndarray:
    """Return min(T, horizon) for each run, NaN standing for a target not reached.

    Parameters
    ----------
    reached_at
        (n,), the step at which each run reached the target, or NaN.
    horizon
        The last step that all arms were watched to, positive.

    Returns
    -------
    numpy.ndarray
        (n,), never above the horizon: a target reached later is censored too.

    Raises
    ------
    ConfigError
        If the horizon is not positive.
    """
    if not horizon > 0:
        raise ConfigError(f"a horizon must be a positive number of steps, got {horizon!r}")
    return np.minimum(np.nan_to_num(np.asarray(reached_at, dtype=float), nan=horizon), horizon)


def finite(values: np.ndarray) -> np.ndarray:
    """Return values as an array of floats, none of them missing.

    Raises
    ------
    ConfigError
        If there is none, or one is not finite: leaving it out would bias the rest.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ConfigError(
            f"an interval needs a row of finite values, got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} not finite: censor them, do not drop them"
        )
    return array


def _paired(values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    first, second = finite(values), finite(baseline)
    if len(first) != len(second):
        raise ConfigError(
            f"pairs need as many values on both sides, got {len(first)} and {len(second)}"
        )
    return first - second
