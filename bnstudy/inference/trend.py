"""Page's test that levels of a treatment come in a given order."""

from functools import lru_cache

import numpy as np
import scipy.stats

from bnstudy.errors import ConfigError
from bnstudy.inference.intervals import CONFIDENCE, finite_rows, mean_interval
from bnstudy.inference.location import SMALLEST, Result
from bnstudy.inference.summaries import correlations

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
        p is twice the smaller tail.  The estimate is the mean over seeds of
        the rank correlation with the predicted order, in -1..1, which grows
        with L; 0 for a seed whose values are all tied.

    Raises
    ------
    ConfigError
        If a value is not finite, or there are too few or too many columns.
    """
    table = finite_rows(values)
    levels = table.shape[1]
    if not 2 <= levels <= MOST_LEVELS:
        raise ConfigError(f"an order needs 2 to {MOST_LEVELS} levels, got {levels}")
    doubled = np.rint(2 * scipy.stats.rankdata(table, axis=1)).astype(int)  # ties: half ranks
    observed = int((doubled @ np.arange(1, levels + 1)).sum())
    distribution, lowest = np.ones(1), 0
    for row in doubled:
        chances, least = _row_distribution(tuple(sorted(row.tolist())))
        distribution, lowest = np.convolve(distribution, chances), lowest + least
    place = observed - lowest
    tail = min(distribution[place:].sum(), distribution[: place + 1].sum())
    order = np.broadcast_to(np.arange(1.0, levels + 1), table.shape)
    interval = mean_interval(correlations(doubled, order), confidence)
    return Result("page", interval, float(np.clip(2.0 * tail, SMALLEST, 1.0)))


@lru_cache(maxsize=256)
def _row_distribution(ranks: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Return the chances of each value of sum_j j r_j over all orders, and its least value.

    Columns are filled from the first to the last; what matters of the past is
    which ranks are used (a bit mask) and the sum so far.
    """
    levels = len(ranks)
    top = sum(place * rank for place, rank in enumerate(ranks, start=1))  # ranks ascend
    ways = np.zeros((1 << levels, top + 1))
    ways[0, 0] = 1.0
    for mask in range(1 << levels):
        column = mask.bit_count() + 1
        for bit in range(levels):
            if not mask >> bit & 1:
                gain = column * ranks[bit]
                ways[mask | 1 << bit, gain:] += ways[mask, : top + 1 - gain]
    counts = ways[-1]
    least = int(np.flatnonzero(counts)[0])
    return counts[least:] / counts.sum(), least
