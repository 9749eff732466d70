"""The exact paired sign-flip test, and the interval that it implies.

If two arms are exchangeable within a seed, each difference is as likely to have
the other sign.  Flipping the signs of a subset A turns the sum S of the
differences into S - 2 sum_A d, so everything follows from the sums over the
2^n subsets: p counts those with |S - 2 sum_A d| >= |S|; and theta is not
rejected from below as soon as enough subsets have a mean of at most theta, so
the interval's ends are order statistics of the subset means (Hartigan 1969,
Using subsample values as typical values, JASA 64).
"""

import numpy as np

from bnstudy.errors import ConfigError
from bnstudy.inference.intervals import CONFIDENCE, ROUNDING, Interval, distances, finite, varies
from bnstudy.inference.location import Result

ENUMERATED = 20  # pairs: 2^20 subsets take 0.1 s, and twice that for each pair more
CHUNK = 2**22  # subset sums held at once


def sign_flip_test(
    values: np.ndarray,
    rng: np.random.Generator,
    null: float = 0.0,
    confidence: float = CONFIDENCE,
    resamples: int = 99_999,
) -> Result:
    """Test whether values are symmetric about ``null``, two-sided, by flipping their signs.

    Parameters
    ----------
    values
        (n,), finite: one difference per seed.
    rng
        Draws the subsets where there are too many to enumerate; not touched up
        to :data:`ENUMERATED` seeds.
    null
        The centre under the hypothesis, in the unit of the values.
    confidence
        Of the interval, in 0..1.
    resamples
        Number of subsets drawn beyond :data:`ENUMERATED` seeds.

    Returns
    -------
    Result
        p is hits / 2^n, the subset without a flip among the hits; drawn, it is
        (1 + hits) / (1 + resamples).  The interval holds every centre that the
        test does not reject; it is the whole line where no p is small enough.

    Raises
    ------
    ConfigError
        If there is no value, or one is not finite.
    """
    array = finite(values)
    off = distances(array, null)
    sums, sizes = _subsets(off, rng, resamples)
    total = float(off.sum())
    tolerance = ROUNDING * float(np.abs(off).sum())
    p = float((np.abs(total - 2.0 * sums) >= abs(total) - tolerance).mean())
    # What p takes for a tie with null must be one in the interval too.
    sums = np.where(np.abs(sums) <= tolerance, 0.0, sums)
    return Result("sign-flip", _inverted(array, null, sums, sizes, confidence), p, 2 / len(sums))


def sign_flip_p(
    values: np.ndarray,
    null: float = 0.0,
    rng: np.random.Generator | None = None,
    resamples: int = 9_999,
) -> np.ndarray:
    """Return the two-sided p of many samples at once, for simulations.

    Parameters
    ----------
    values
        (..., n): samples along the last axis.
    null
        The centre under the hypothesis.
    rng, resamples
        Beyond :data:`ENUMERATED` values, what draws the patterns of signs, the
        same for all samples, and how many.

    Returns
    -------
    numpy.ndarray
        (...), equal to :func:`sign_flip_test` of each sample where enumerated.

    Raises
    ------
    ConfigError
        If n is 0, or too large to enumerate and there is no ``rng``.
    """
    array = distances(values, null)
    n = array.shape[-1]
    rows = array.reshape(-1, n)
    if 1 <= n <= ENUMERATED:
        size = max(1, CHUNK >> (n - 1))
        parts = [_hits(rows[start : start + size]) for start in range(0, len(rows), size)]
    elif n and rng is not None:
        signs = np.where(rng.random((n, resamples)) < 0.5, 1.0, -1.0)
        size = max(1, CHUNK // resamples)
        parts = [_drawn(rows[start : start + size], signs) for start in range(0, len(rows), size)]
    else:
        raise ConfigError(f"only 1 to {ENUMERATED} pairs can be enumerated, got {n}: give an rng")
    return np.concatenate(parts or [np.empty(0)]).reshape(array.shape[:-1])


def _drawn(rows: np.ndarray, signs: np.ndarray) -> np.ndarray:
    hits = (np.abs(rows @ signs) >= _bounds(rows)[:, None]).sum(axis=1)
    return (1 + hits) / (1 + signs.shape[1])


def _bounds(rows: np.ndarray) -> np.ndarray:
    """Return what a sum must reach to be as extreme, less rounding, (r, n) -> (r,)."""
    return np.abs(rows.sum(axis=1)) - ROUNDING * np.abs(rows).sum(axis=1)


def _hits(rows: np.ndarray) -> np.ndarray:
    """Return the share of sign patterns that are as extreme, (r, n) -> (r,).

    A pattern and its opposite are equally extreme, so the last sign is kept.
    """
    flipped = rows[:, -1:]
    for column in rows.T[:-1, :, None]:
        flipped = np.concatenate([flipped + column, flipped - column], axis=1)  # (r, 2^i)
    return np.asarray((np.abs(flipped) >= _bounds(rows)[:, None]).mean(axis=1))


def _subsets(
    array: np.ndarray, rng: np.random.Generator, resamples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum and size of every subset, or of drawn ones; the empty one comes first."""
    n = len(array)
    if n <= ENUMERATED:
        sums, sizes = np.zeros(1), np.zeros(1)
        for value in array:
            sums = np.concatenate([sums, sums + value])
            sizes = np.concatenate([sizes, sizes + 1])
        return sums, sizes
    chosen = rng.random((resamples, n)) < 0.5
    sums, sizes = (
        np.concatenate([[0.0], chosen @ array]),
        np.concatenate([[0.0], chosen.sum(axis=1)]),
    )
    # With each subset its complement, which leaves p as it is: then both tails have one size,
    # as they have when all subsets are there, and the interval agrees with p.
    return np.concatenate([sums, array.sum() - sums]), np.concatenate([sizes, n - sizes])


def _inverted(
    array: np.ndarray, null: float, sums: np.ndarray, sizes: np.ndarray, confidence: float
) -> Interval:
    """Return the centres that are not rejected; ``sums`` are those of ``array - null``."""
    mean, n = float(array.mean()), len(array)
    # A centre is rejected from below when at most this many subsets, the empty one among them,
    # have a mean of at most the centre: twice their share is the p.  Rounding must not lose one.
    rank = int(np.floor((1.0 - confidence) * len(sums) / 2.0 + 1e-9))
    means = sums / np.maximum(sizes, 1.0)
    low = float(np.partition(np.where(sizes > 0, means, -np.inf), rank)[rank])
    high = float(np.partition(np.where(sizes > 0, means, np.inf), -1 - rank)[-1 - rank])
    if np.isfinite(low) and not varies(array):
        return Interval(mean, mean, mean, n, confidence)
    return Interval(mean, low + null, high + null, n, confidence)
