"""Tests of where paired values lie: Student's t, two one-sided t tests, the sign test.

Each test is made of one-sided p (:data:`Tails`), which take many samples at
once, for simulations: two-sided, of equivalence, or beyond a margin.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.stats

from bnstudy.errors import ConfigError
from bnstudy.inference.intervals import (
    CONFIDENCE,
    ROUNDING,
    Interval,
    distances,
    finite,
    mean_interval,
    standard_error,
    varies,
)

SMALLEST = sys.float_info.min  # a p that underflows is this, not 0

Tails: TypeAlias = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]
"""From samples (..., n) and a bound, the p of two hypotheses, (...) each: that the centre is
at most the bound, and that it is at least the bound.  A small p speaks for the other side."""


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
    floor
        The smallest p that the test can give on so many values: a p at its
        floor only says that it is not larger.  0 where there is none.
    """

    test: str
    interval: Interval
    p: float
    floor: float = 0.0


def t_tails(values: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the one-sided p of Student's t against a bound, see :data:`Tails`."""
    array = np.asarray(values, dtype=float)
    return _t_upper(array, bound), _t_upper(-array, -bound)


def sign_tails(values: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the one-sided binomial p of signs about a bound, see :data:`Tails`.

    Exact for the median, whatever the distribution; a value at the bound speaks
    for neither side.
    """
    off = distances(values, bound)
    n = off.shape[-1]
    fewest = [n - (off > 0).sum(axis=-1), n - (off < 0).sum(axis=-1)]
    above, below = (np.maximum(scipy.stats.binom.cdf(k, n, 0.5), SMALLEST) for k in fewest)
    return np.asarray(above), np.asarray(below)


def no_spread_p(values: np.ndarray, bound: float) -> np.ndarray:
    """Return the one-sided p of samples without spread: that of n equal signs, or 1.

    Parameters
    ----------
    values
        (..., n) -> (...).
    bound
        The hypothesis is a mean of at most this.
    """
    array = np.asarray(values, dtype=float)
    equal_signs = max(0.5 ** array.shape[-1], SMALLEST)
    return np.where(distances(array.mean(axis=-1), bound) > 0, equal_signs, 1.0)


def two_sided_p(values: np.ndarray, null: float, tails: Tails = t_tails) -> np.ndarray:
    """Return twice the smaller one-sided p against ``null``, (..., n) -> (...), at most 1.

    Parameters
    ----------
    values
        (..., n), samples along the last axis.
    null
        The centre under the hypothesis.
    tails
        The one-sided tests.
    """
    return np.minimum(1.0, 2.0 * np.minimum(*tails(values, null)))


def equivalence_p(
    values: np.ndarray, margin: float, centre: float = 0.0, tails: Tails = t_tails
) -> np.ndarray:
    """Return the p of :func:`equivalence_test` for samples along the last axis.

    Parameters
    ----------
    values, margin, centre
        As there, but (..., n) -> (...).
    tails
        The one-sided tests.

    Raises
    ------
    ConfigError
        If the margin is not positive.
    """
    _check_margin(margin)
    not_above, _ = tails(values, centre - margin)
    _, not_below = tails(values, centre + margin)
    return np.maximum(not_above, not_below)


def beyond_margin_p(
    values: np.ndarray, margin: float, centre: float = 0.0, tails: Tails = t_tails
) -> np.ndarray:
    """Return the p of :func:`beyond_margin` for samples along the last axis.

    Parameters
    ----------
    values, margin, centre, tails
        As in :func:`equivalence_p`.

    Raises
    ------
    ConfigError
        If the margin is not positive.
    """
    _check_margin(margin)
    not_above, _ = tails(values, centre + margin)
    _, not_below = tails(values, centre - margin)
    return np.minimum(1.0, 2.0 * np.minimum(not_above, not_below))


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
    p = float(two_sided_p(array, null))
    return Result("t", _t_interval(array, confidence), p, _t_floor(array, 2.0))


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
    return Result("tost", _t_interval(array, 1.0 - 2.0 * alpha), p, _t_floor(array, 1.0))


def beyond_margin(
    values: np.ndarray, margin: float, centre: float = 0.0, alpha: float = 0.05
) -> Result:
    """Test whether the mean lies outside ``centre`` -/+ ``margin``.

    The opposite of :func:`equivalence_test`: the hypothesis that the mean lies
    within the margins is rejected by twice the smaller of two one-sided p.

    Parameters
    ----------
    values, margin, centre
        As there.
    alpha
        Of the test; the interval has confidence 1 - alpha, so that it lies
        outside the margins exactly when p < alpha.

    Raises
    ------
    ConfigError
        If there is no value, one is not finite, or the margin is not positive.
    """
    array = finite(values)
    p = float(beyond_margin_p(array, margin, centre))
    return Result("beyond-margin", _t_interval(array, 1.0 - alpha), p, _t_floor(array, 2.0))


def sign_test(values: np.ndarray, null: float = 0.0, confidence: float = CONFIDENCE) -> Result:
    """Test whether the median of values is ``null``, two-sided, by their signs alone.

    Parameters
    ----------
    values
        (n,), finite.  Those equal to ``null`` count for the side with fewer
        values, since a distribution with an atom at its median may put every
        other value on one side (Conover 1999, section 3.2).
    null
        The median under the hypothesis.
    confidence
        Of the interval, in 0..1.

    Returns
    -------
    Result
        The binomial p; the median, with the interval between the order
        statistics that the binomial distribution allows, the whole line where
        there are too few.  It holds every ``null`` that is not rejected.

    Raises
    ------
    ConfigError
        If there is no value, or one is not finite.
    """
    array = np.sort(finite(values))
    n, median = len(array), float(np.median(array))
    # A value that differs from null by rounding is a tie in p, so it is one in the interval.
    ends = np.where(distances(array, null) == 0, null, array)
    rank = int(scipy.stats.binom.ppf((1.0 - confidence) / 2.0, n, 0.5))
    low, high = (float(ends[rank - 1]), float(ends[n - rank])) if rank else (-np.inf, np.inf)
    p = float(two_sided_p(array, null, sign_tails))
    floor = max(0.5 ** (n - 1), SMALLEST)
    return Result("sign", Interval(median, low, high, n, confidence), p, floor)


def _t_upper(values: np.ndarray, bound: float) -> np.ndarray:
    """Return the one-sided p of t against a mean of ``bound`` or less, (..., n) -> (...)."""
    n, mean = values.shape[-1], values.mean(axis=-1)
    if n == 1:
        return np.ones_like(mean)
    spread = varies(values)
    t = (mean - bound) / np.where(spread, standard_error(values), 1.0)
    p = np.maximum(scipy.stats.t.sf(t, n - 1), SMALLEST)
    return np.where(spread, p, no_spread_p(values, bound))


def _t_interval(values: np.ndarray, confidence: float) -> Interval:
    """Return the t interval, the whole line where values without spread are too few to reject."""
    n, interval = len(values), mean_interval(values, confidence)
    if varies(values) or 0.5 ** (n - 1) <= 1.0 - confidence + ROUNDING:
        return interval
    return Interval(interval.estimate, -np.inf, np.inf, n, confidence)


def _t_floor(values: np.ndarray, sides: float) -> float:
    """Return the smallest p: none for values with a spread, else that of n equal signs."""
    if len(values) == 1:
        return 1.0
    return 0.0 if varies(values) else max(sides * 0.5 ** len(values), SMALLEST)


def _check_margin(margin: float) -> None:
    if not 0 < margin < np.inf:
        raise ConfigError(f"a margin of equivalence must be positive and finite, got {margin!r}")
