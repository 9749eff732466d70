"""A tensor on a CPU, read by numpy in float64: correct and readable, not fast.

It reads float64 tensors, and all others where there is no C++ compiler.  Every sum is of
float64 copies, and every variance is taken about the mean, so no digit is lost.
"""

import math

import numpy as np
from torch import Tensor

from bnstudy.activations.reading.reader import ImageSums, computed_once


class PlainReader:
    """The :class:`~bnstudy.activations.reading.reader.Reader` of one tensor on a CPU.

    Parameters
    ----------
    wide
        Of float32 or float64, with at least one value.
    """

    images_at_hand: ImageSums | None = None  # all take a pass of their own

    def __init__(self, wide: Tensor) -> None:
        # a vector is one channel: (n,) -> (n, 1, 1); else (N, C, ...) -> (N, C, positions)
        array = wide.numpy(force=True)  # also of tensors that are negated or have no memory
        rows, channels = (len(array), array.shape[1]) if array.ndim > 1 else (array.size, 1)
        self._has_positions = array.ndim > 2
        self._values = array.reshape(rows, channels, -1)

    @computed_once
    def _wide(self) -> np.ndarray:
        return self._values.astype(np.float64)

    @computed_once
    def _centred(self) -> np.ndarray:
        # infinities leave no distance from the mean: NaN is what should come of them
        with np.errstate(invalid="ignore"):
            return self._wide - self._wide.mean()

    @computed_once
    def moments(self) -> tuple[float, float]:
        """Mean and biased variance of all values."""
        c = self._centred
        return float(self._wide.mean()), float((c * c).mean())

    @computed_once
    def higher(self) -> tuple[float, float]:
        """Third and fourth moment of (x - mean) / std; NaN where std is 0."""
        variance = self.moments[1]
        if not variance > 0.0:
            return math.nan, math.nan
        z = self._centred / math.sqrt(variance)
        squares = z * z
        return float((z * squares).mean()), float((squares * squares).mean())

    @property
    def extremes(self) -> tuple[float, float]:
        """Least and greatest value; NaN if any value is."""
        return float(self._values.min()), float(self._values.max())

    @property
    def absolute_mean(self) -> float:
        """Mean of absolute values."""
        return float(np.abs(self._wide).mean())

    @property
    def zeros(self) -> float:
        """Share of values that are 0."""
        return float((self._values == 0.0).mean())

    # limits are compared in the tensor's own type, as by the other readers

    def above(self, limit: float) -> float:
        """Return the share of values greater than a limit."""
        return float((self._values > limit).mean())

    def outside(self, low: float, high: float) -> float:
        """Return the share of values below ``low`` or above ``high``."""
        return float(self._is_outside(low, high).mean())

    def channel_outside(self, low: float, high: float) -> np.ndarray:
        """Return each channel's share of values below ``low`` or above ``high``, (C,)."""
        return np.asarray(self._is_outside(low, high).mean((0, 2)))

    def _is_outside(self, low: float, high: float) -> np.ndarray:
        return np.asarray((self._values < low) | (self._values > high))

    @computed_once
    def channel_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased variance of each channel, (C,) each, in float64."""
        mean = self._wide.mean((0, 2))  # (N, C, positions) -> (C,)
        with np.errstate(invalid="ignore"):
            c = self._wide - mean[:, None]
        return mean, (c * c).mean((0, 2))

    @property
    def channel_maximum(self) -> np.ndarray:
        """Greatest value of each channel, (C,)."""
        return np.asarray(self._values.max((0, 2)))

    @property
    def spread(self) -> tuple[float, float, float]:
        """Mean variance within channels, variance of their means, mean of their squares."""
        means, variances = self.channel_moments
        if not math.isfinite(self.moments[0]):
            return math.nan, math.nan, math.nan
        return float(variances.mean()), float(means.var()), float((means * means).mean())

    @property
    def images(self) -> ImageSums | None:
        """Sums and sums of squares of each image's channels, (N, C) each; None of vectors."""
        if not self._has_positions:
            return None
        return self._wide.sum(2), (self._wide * self._wide).sum(2)

    def sampled(self, size: int) -> np.ndarray | None:
        """Return None: no sample is taken before it is asked for."""
        return None

    def keep(self) -> bool:
        """Return False: numbers are found while the tensor is there."""
        return False

    def let_go(self) -> None:
        """Do nothing: nothing was kept."""
