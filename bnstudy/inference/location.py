"""Tests of where paired values lie: Student's t, two one-sided t tests, the sign test.

The ``..._p`` functions take many samples at once, for simulations, and are what
the tests of one sample use.
"""

import sys
from dataclasses import dataclass

import numpy as np
import scipy.stats

from bnstudy.errors import ConfigError
from bnstudy.inference.intervals import (
    CONFIDENCE,
    Interval,
    distances,
    finite,
    mean_interval,
    standard_error,
    varies,
)

SMALLEST = sys.float_info.min  # a p that underflows is this, not 0


@dataclass(frozen=True)
class Result:
    """The result of a test.

    Attributes
    ----------
    test
        Its name.
    interval
        The estimate with its interval, in the unit of the values.
    p
        In (0, 1], never 0.
    """

    test: str
    interval: Interval
    p: float


def t_test(values: np.ndarray, null: float = 0.0, confidence: float = CONFIDENCE) -> Result:
    """Test whether the mean of values is ``null``: Student's one-sample t test, two-sided.

    Parameters
    ----------
    values
        (n,), finite: one difference per seed.
    null
        The mean under the hypothesis, in the unit of the values.
    confidence
        Of the interval, in 0..1.

    Returns
    -------
    Result
        One seed gives p = 1.  Values without spread leave t undefined; their p
        is the smallest that n signs can give, 2 / 2^n, or 1 at ``null`` itself.

    Raises
    ------
    ConfigError
        If there is no value, or one is not finite.
    """
    array = finite(values)
    return Result("t", mean_interval(array, confidence), float(t_p(array, null)))


def t_p(values: np.ndarray, null: float = 0.0) -> np.ndarray:
    """Return the p of :func:`t_test` for samples along the last axis, (..., n) -> (...)."""
    upper, lower = _upper_p(values, null), _upper_p(-np.asarray(values), -null)
    return np.minimum(1.0, 2.0 * np.minimum(upper, lower))


def equivalence_test(
    values: np.ndarray, margin: float, centre: float = 0.0, alpha: float = 0.05
) -> Result:
    """Test whether the mean lies within ``centre`` -/+ ``margin``: two one-sided t tests (TOST).

    Schuirmann 1987: the hypothesis that the mean lies at a margin or beyond is
    rejected when both one-sided tests reject, so p is the larger of the two.

    Parameters
    ----------
    values
        (n,), finite: one difference per seed.
    margin
        Positive, in the unit of the values.
    centre
        The middle of the margins: 0, or a predicted exponent.
    alpha
        Of each one-sided test; the interval has confidence 1 - 2 alpha, so
        that it lies within the margins exactly when p < alpha.

    Returns
    -------
    Result
        One seed gives p = 1; without spread, the p of each one-sided test is
        that of n signs, 1 / 2^n or 1.

    Raises
    ------
    ConfigError
        If there is no value, one is not finite, or the margin is not positive.
    """
    array = finite(values)
    p = float(equivalence_p(array, margin, centre))
    return Result("tost", mean_interval(array, 1.0 - 2.0 * alpha), p)


def equivalence_p(values: np.ndarray, margin: float, centre: float = 0.0) -> np.ndarray:
    """Return the p of :func:`equivalence_test` for samples along the last axis.

    Raises
    ------
    ConfigError
        If the margin is not positive.
    """
    _check_margin(margin)
    above = _upper_p(values, centre - margin)
    return np.maximum(above, _upper_p(-np.asarray(values), -(centre + margin)))


def beyond_margin(
    values: np.ndarray, margin: float, centre: float = 0.0, alpha: float = 0.05
) -> Result:
    """Test whether the mean lies outside ``centre`` -/+ ``margin``.

    The opposite of :func:`equivalence_test`: the hypothesis that the mean lies
    within the margins is rejected by twice the smaller of two one-sided p.

    Parameters
    ----------
    values, margin, centre, alpha
        As there.

    Raises
    ------
    ConfigError
        If there is no value, one is not finite, or the margin is not positive.
    """
    array = finite(values)
    p = float(beyond_margin_p(array, margin, centre))
    return Result("beyond-margin", mean_interval(array, 1.0 - 2.0 * alpha), p)


def beyond_margin_p(values: np.ndarray, margin: float, centre: float = 0.0) -> np.ndarray:
    """Return the p of :func:`beyond_margin` for samples along the last axis.

    Raises
    ------
    ConfigError
        If the margin is not positive.
    """
    _check_margin(margin)
    above = _upper_p(values, centre + margin)
    below = _upper_p(-np.asarray(values), -(centre - margin))
    return np.minimum(1.0, 2.0 * np.minimum(above, below))


def sign_test(values: np.ndarray, null: float = 0.0, confidence: float = CONFIDENCE) -> Result:
    """Test whether the median of values is ``null``, two-sided, by their signs alone.

    Parameters
    ----------
    values
        (n,), finite; those equal to ``null`` have no sign and do not vote.
    null
        The median under the hypothesis.
    confidence
        Of the interval, in 0..1.

    Returns
    -------
    Result
        The binomial p; the median, with the interval between the order
        statistics that the binomial distribution allows, the whole line where
        there are too few.

    Raises
    ------
    ConfigError
        If there is no value, or one is not finite.
    """
    array = np.sort(finite(values))
    n, median = len(array), float(np.median(array))
    rank = int(scipy.stats.binom.ppf((1.0 - confidence) / 2.0, n, 0.5))
    low, high = (float(array[rank - 1]), float(array[n - rank])) if rank else (-np.inf, np.inf)
    return Result("sign", Interval(median, low, high, n, confidence), float(sign_p(array, null)))


def sign_p(values: np.ndarray, null: float = 0.0) -> np.ndarray:
    """Return the p of :func:`sign_test` for samples along the last axis, (..., n) -> (...)."""
    off = distances(values, null)
    above, below = (off > 0).sum(axis=-1), (off < 0).sum(axis=-1)
    tail = scipy.stats.binom.cdf(np.minimum(above, below), above + below, 0.5)
    return np.clip(2.0 * np.asarray(tail), SMALLEST, 1.0)


def _upper_p(values: np.ndarray, bound: float) -> np.ndarray:
    """Return the one-sided p of t against a mean of ``bound`` or less, (..., n) -> (...)."""
    array = np.asarray(values, dtype=float)
    n, mean = array.shape[-1], array.mean(axis=-1)
    if n == 1:
        return np.ones_like(mean)
    spread = varies(array)
    t = (mean - bound) / np.where(spread, standard_error(array), 1.0)
    p = np.maximum(scipy.stats.t.sf(t, n - 1), SMALLEST)
    constant = np.where(distances(mean, bound) > 0, max(0.5**n, SMALLEST), 1.0)
    return np.where(spread, p, constant)


def _check_margin(margin: float) -> None:
    if not 0 < margin < np.inf:
        raise ConfigError(f"a margin of equivalence must be positive and finite, got {margin!r}")
