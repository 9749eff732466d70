"""One number a seed from several: slopes, interactions, log standard deviations."""

import numpy as np

from bnstudy.errors import ConfigError
from bnstudy.inference.intervals import finite, finite_rows


def slopes(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return each seed's least-squares slope over the levels.

    With the same levels for every seed, testing these slopes loses nothing
    against a mixed model, and cannot fail to converge.

    Parameters
    ----------
    values
        (n, k), a row a seed.
    levels
        (k,), at least two different ones; logarithms for an exponent.

    Returns
    -------
    numpy.ndarray
        (n,), in units of the values per unit of the levels.

    Raises
    ------
    ConfigError
        If the shapes do not fit, a value is not finite, or all levels are one.
    """
    table, x = finite_rows(values), finite(levels)
    if table.shape[1] != len(x):
        raise ConfigError(f"a slope needs a value a level, got {table.shape[1]} for {len(x)}")
    if np.ptp(x) == 0:
        raise ConfigError(f"a slope needs two different levels, got {x.tolist()}")
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return np.asarray(table @ weights)


def interaction(
    both: np.ndarray, first: np.ndarray, second: np.ndarray, neither: np.ndarray
) -> np.ndarray:
    """Return each seed's 2x2 contrast, (both - first) - (second - neither).

    Its one-sample t, squared, is the F of the interaction in an analysis of
    variance with repeated measures.

    Parameters
    ----------
    both, first, second, neither
        (n,) each: with both treatments, one alone, the other alone, none.

    Returns
    -------
    numpy.ndarray
        (n,).

    Raises
    ------
    ConfigError
        If the lengths differ, or a value is not finite.
    """
    cells = [finite(cell) for cell in (both, first, second, neither)]
    if len({len(cell) for cell in cells}) > 1:
        raise ConfigError(
            f"a contrast needs as many values in each cell, got {[len(cell) for cell in cells]}"
        )
    return (cells[0] - cells[1]) - (cells[2] - cells[3])


def log_deviations(values: np.ndarray, resolution: float) -> np.ndarray:
    """Return the log of each seed's standard deviation over its columns.

    Differences between two arms are log ratios of standard deviations.

    Parameters
    ----------
    values
        (n, k), a row a seed, k >= 2.
    resolution
        The step in which values are counted (1 / images for an accuracy),
        positive.  A smaller deviation counts as this: constant values are
        known to be constant only up to it.

    Returns
    -------
    numpy.ndarray
        (n,), natural logarithms.

    Raises
    ------
    ConfigError
        If a value is not finite, there is one column, or the resolution is not positive.
    """
    table = finite_rows(values)
    if table.shape[1] < 2:
        raise ConfigError("a standard deviation needs at least two values a seed, got 1")
    if not 0 < resolution < np.inf:
        raise ConfigError(f"a resolution must be positive, got {resolution!r}")
    return np.log(np.maximum(table.std(axis=1, ddof=1), resolution))
