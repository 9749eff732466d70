"""Holm's correction for testing several claims at once."""

import numpy as np

from bnstudy.errors import ConfigError


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values adjusted over their family by Holm's step-down method.

    The i-th smallest of m becomes max over j <= i of (m - j + 1) p_(j), at
    most 1 (Holm 1979).  Rejecting where the adjusted p is at most alpha keeps
    the probability of any false rejection at most alpha, however the tests depend on
    each other.

    Parameters
    ----------
    p
        (m,), each in 0..1: the whole family, 1 for a test that could not be made.

    Returns
    -------
    numpy.ndarray
        (m,), in the order given.

    Raises
    ------
    ConfigError
        If a p is missing or not in 0..1.
    """
    array = np.asarray(p, dtype=float)
    if array.ndim != 1 or not ((array >= 0) & (array <= 1)).all():
        raise ConfigError(f"a family needs p values in 0..1, got {array.tolist()}")
    order = np.argsort(array, kind="stable")
    scaled = array[order] * np.arange(len(array), 0, -1)
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted
