"""Page's test that levels of a treatment come in a given order."""

from functools import lru_cache

import numpy as np
import scipy.stats

from bnstudy.errors import ConfigError
from bnstudy.inference.intervals import CONFIDENCE, Interval, finite_rows
from bnstudy.inference.location import SMALLEST, Result

MOST_LEVELS = 12  # 2^12 subsets of ranks; the exact distribution takes 1 s


def page_test(values: np.ndarray, confidence: float = CONFIDENCE) -> Result:
    """Test whether values increase from the first column to the last, two-sided.

    Page 1963: values are ranked within each seed, and L = sum_j j R_j, with R_j
    the sum of the ranks in column j, is compared to its distribution when
    ranks stand in any order within a seed.  That distribution is exact here,
    with ties too.

    Parameters
    ----------
    values
        (n, k), one row per seed, columns in the predicted order, 2 <= k <=
        :data:`MOST_LEVELS`.
    confidence
        Of the interval, in 0..1.

    Returns
    -------
    Result
        p is twice the smaller tail.  The estimate is the mean of
        :func:`order_correlations`, in -1..1, which is L on another scale.  Its
        interval adds the distance from 0 that is not rejected, so that it
        excludes 0 exactly when p is at most 1 - ``confidence``; it is -1..1
        where no order could be rejected.

    Raises
    ------
    ConfigError
        If a value is not finite, or there are too few or too many columns.
    """
    ranks = _doubled_ranks(values)
    n, levels = ranks.shape
    probability, lowest = np.ones(1), 0
    for row in ranks:
        of_row, lowest_of_row = _row_distribution(tuple(sorted(row.tolist())))
        probability, lowest = np.convolve(probability, of_row), lowest + lowest_of_row
    # Reversing every order mirrors the distribution, so one tail stands for both.
    centre = (len(probability) - 1) / 2
    p = np.minimum(1.0, 2.0 * np.cumsum(probability[::-1])[::-1])  # of each L above the centre
    distance = int((ranks @ np.arange(1, levels + 1)).sum()) - lowest - centre
    largest = n * levels * (levels**2 - 1) / 6  # distance of n untied seeds in full order
    interval = Interval(distance / largest, -1.0, 1.0, n, confidence)
    rejected = np.flatnonzero(p <= (1.0 - confidence) * (1.0 + 1e-9))  # rounding loses no order
    if len(rejected):
        half = (rejected[0] - 1 - centre) / largest
        ends = (interval.estimate - half, interval.estimate + half)
        interval = Interval(interval.estimate, *ends, n, confidence).clipped(-1.0, 1.0)
    found = float(p[int(centre + abs(distance))]) if distance else 1.0
    return Result("page", interval, max(found, SMALLEST), max(float(p[-1]), SMALLEST))


def order_correlations(values: np.ndarray) -> np.ndarray:
    """Return how far the values of each seed stand in the order of the columns.

    Parameters
    ----------
    values
        (n, k), as in :func:`page_test`.

    Returns
    -------
    numpy.ndarray
        (n,), in -1..1: without ties Spearman's correlation with the order of
        the columns.  Tied values pull it towards 0, and give 0 where all are.

    Raises
    ------
    ConfigError
        If a value is not finite, or there are too few or too many columns.
    """
    ranks = _doubled_ranks(values)
    levels = ranks.shape[1]
    centred = np.arange(1, levels + 1) - (levels + 1) / 2
    return np.asarray(ranks @ centred / (levels * (levels**2 - 1) / 6))


def _doubled_ranks(values: np.ndarray) -> np.ndarray:
    """Return twice the ranks within each seed, whole numbers with ties too, (n, k)."""
    table = finite_rows(values)
    levels = table.shape[1]
    if not 2 <= levels <= MOST_LEVELS:
        raise ConfigError(f"an order needs 2 to {MOST_LEVELS} levels, got {levels}")
    return np.rint(2 * scipy.stats.rankdata(table, axis=1)).astype(int)


@lru_cache(maxsize=256)
def _row_distribution(ranks: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Return the probability of each sum_j j r_j over all orders, and the smallest such sum.

    Columns are filled from the first to the last; all that matters of those
    filled already is which ranks they used (a bit mask) and the sum so far.
    """
    levels = len(ranks)
    top = sum(column * rank for column, rank in enumerate(ranks, start=1))  # ranks ascend
    orders = np.zeros((1 << levels, top + 1))
    orders[0, 0] = 1.0
    for mask in range(1 << levels):
        column = mask.bit_count() + 1
        for bit in range(levels):
            if not mask >> bit & 1:
                gain = column * ranks[bit]
                orders[mask | 1 << bit, gain:] += orders[mask, : top + 1 - gain]
    counts = orders[-1]
    lowest = int(np.flatnonzero(counts)[0])
    return counts[lowest:] / counts.sum(), lowest
