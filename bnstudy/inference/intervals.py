"""Estimates with Student's t intervals, and the checks that all statistics share."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.stats

from bnstudy.errors import ConfigError

CONFIDENCE = 0.95
ROUNDING = 1e-12  # relative: what is smaller is float noise, not data


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate, low, high
        In the unit of the data.  With one value the interval is the whole
        line: one seed says nothing about the spread.
    n
        Number of values that it rests on.
    confidence
        In 0..1.
    bound
        ``at least`` or ``at most`` where the values are bounds on one side, so
        that the other end is infinite; else empty.
    """

    estimate: float
    low: float
    high: float
    n: int
    confidence: float = CONFIDENCE
    bound: str = ""

    def clipped(self, low: float, high: float) -> "Interval":
        """Return the interval within the range that its quantity can have."""
        estimate, *ends = np.clip([self.estimate, self.low, self.high], low, high).tolist()
        return replace(self, estimate=estimate, low=ends[0], high=ends[1])

    def as_bound(self, bound: str) -> "Interval":
        """Return the interval with its end on the open side at infinity.

        Parameters
        ----------
        bound
            ``at least``, ``at most``, or empty for no change.  The other end
            stays, and so covers at least as often as before.
        """
        low = -np.inf if bound == "at most" else self.low
        high = np.inf if bound == "at least" else self.high
        return replace(self, low=low, high=high, bound=bound)


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
    if not varies(values):
        return Interval(mean, mean, mean, n, confidence)
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1) * standard_error(values))
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
    return mean_interval(paired_differences(values, baseline), confidence)


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
    log = mean_interval(paired_differences(np.log(values), np.log(baseline)), confidence)
    estimate, low, high = (float(np.exp(value)) for value in (log.estimate, log.low, log.high))
    return Interval(estimate, low, high, log.n, confidence)


def paired_differences(values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Return ``values - baseline``, exactly 0 where they differ by rounding only.

    Parameters
    ----------
    values, baseline
        (n,) each, the same seeds in the same order.

    Returns
    -------
    numpy.ndarray
        (n,).  A tie that rounding hides (0.1 + 0.2 against 0.3) would count as
        a difference, and move a test on signs or ranks.

    Raises
    ------
    ConfigError
        If the lengths differ, or a value is not finite.
    """
    first, second = finite(values), finite(baseline)
    if len(first) != len(second):
        raise ConfigError(
            f"pairs need as many values on both sides, got {len(first)} and {len(second)}"
        )
    return distances(first, second)


def distances(values: np.ndarray, origin: np.ndarray | float) -> np.ndarray:
    """Return ``values - origin``, exactly 0 where they differ by rounding only."""
    first, second = np.asarray(values, dtype=float), np.asarray(origin, dtype=float)
    difference = first - second
    noise = ROUNDING * np.maximum(np.abs(first), np.abs(second))
    return np.where(np.abs(difference) <= noise, 0.0, difference)


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
            "an interval needs a one-dimensional array of finite values, got shape "
            f"{array.shape} with {int((~np.isfinite(array)).sum())} not finite: "
            "censor them, do not drop them"
        )
    return array


def finite_rows(values: np.ndarray) -> np.ndarray:
    """Return a table of floats, one row per seed, none of them missing.

    Raises
    ------
    ConfigError
        If it has no row or no column, or a value is not finite.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ConfigError(
            f"seeds by levels must be a table of finite values, got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} not finite: censor them, do not drop them"
        )
    return array


def varies(values: np.ndarray) -> np.ndarray:
    """Return whether each sample (..., n) has a spread above rounding, (...)."""
    return np.ptp(values, axis=-1) > ROUNDING * np.abs(values).max(axis=-1)


def standard_error(values: np.ndarray) -> np.ndarray:
    """Return s / sqrt(n) of samples along the last axis, n >= 2, (..., n) -> (...).

    Positive where the values vary: they are scaled first, so that no square
    leaves the range of floats.
    """
    scale = np.abs(values).max(axis=-1)
    scaled = values / np.where(scale > 0, scale, 1.0)[..., None]
    error = scale * scaled.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])
    return np.maximum(error, np.finfo(float).smallest_subnormal)
