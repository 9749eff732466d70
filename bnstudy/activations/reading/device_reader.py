"""A tensor on an accelerator, read by torch where it is: one kernel for all values.

Numbers are 0-d float64 tensors that stay on the device, so that nothing waits for it.
Moments are taken about the mean and moved by what is left of it (shifted data; Chan,
Golub & LeVeque 1983).
"""

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.reading.reader import ImageSums, computed_once


class DeviceReader:
    """The :class:`~bnstudy.activations.reading.reader.Reader` of one tensor on any device.

    Parameters
    ----------
    wide
        Of float32 or float64, with at least one value.
    flat
        All its values, (n,).
    """

    images: ImageSums | None = None  # a BN layer computes them where it needs them
    images_at_hand: ImageSums | None = None

    def __init__(self, wide: Tensor, flat: Tensor) -> None:
        self.wide, self.flat, self.count = wide, flat, flat.numel()

    @computed_once
    def _centre(self) -> Tensor:
        return self.flat.mean()

    @computed_once
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance."""
        c = self.flat - self._centre
        d, square = c.sum().double() / self.count, c.square_().sum().double() / self.count
        return self._centre.double() + d, square - d * d

    @computed_once
    def higher(self) -> tuple[Tensor, Tensor]:
        """Third and fourth moment of (x - mean) / std; NaN where std is 0."""
        mean, variance = self.moments
        variance = torch.where(variance > 0, variance, torch.nan)
        c = (self.flat - mean.to(self.flat.dtype)).mul_(variance.rsqrt().to(self.flat.dtype))
        squares = c * c
        third = c.mul_(squares).sum().double() / self.count
        return third, squares.square_().sum().double() / self.count

    @computed_once
    def extremes(self) -> tuple[Tensor, Tensor]:
        """Least and greatest value; NaN if any value is."""
        low, high = torch.aminmax(self.flat)
        return low.double(), high.double()

    @property
    def absolute_mean(self) -> Tensor:
        """Mean of absolute values."""
        return self.flat.abs().sum().double() / self.count

    @property
    def zeros(self) -> Tensor:
        """Share of values that are 0."""
        return (self.flat == 0).sum().double() / self.count

    def above(self, limit: float) -> Tensor:
        """Return the share of values greater than a limit."""
        return (self.flat > limit).sum().double() / self.count

    def outside(self, low: float, high: float) -> Tensor:
        """Return the share of values below ``low`` or above ``high``."""
        return self._far(self.flat, low, high).sum().double() / self.count

    @staticmethod
    def _far(x: Tensor, low: float, high: float) -> Tensor:
        return (x < low) | (x > high)

    @property
    def _axes(self) -> tuple[int, ...]:
        axes = range(self.wide.dim())
        return tuple(axis for axis in axes if axis != 1) if len(axes) > 1 else tuple(axes)

    def channel_outside(self, low: float, high: float) -> Tensor:
        """Return each channel's share of values below ``low`` or above ``high``, (C,)."""
        counts = self._far(self.wide, low, high).sum(self._axes).reshape(-1)
        return counts.double() / (self.count // counts.numel())

    @computed_once
    def channel_mean(self) -> Tensor:
        """Mean of each channel, (C,), in float64."""
        return self.wide.mean(self._axes).reshape(-1).double()

    @computed_once
    def channel_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel, (C,) each, in float64."""
        shape = (1, -1, *[1] * (self.wide.dim() - 2)) if self.wide.dim() > 1 else (-1,)
        centre = self.wide.mean(self._axes).reshape(-1)
        c = self.wide - centre.view(shape)
        each = self.count // centre.numel()
        d = c.sum(self._axes).reshape(-1).double() / each
        square = c.square_().sum(self._axes).reshape(-1).double() / each
        return centre.double() + d, (square - d * d).clamp_min(0.0)

    @property
    def spread(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean variance within channels, variance of their means, mean of their squares."""
        means, variances = self.channel_moments
        return variances.mean(), means.var(correction=0), (means * means).mean()

    @property
    def channel_maximum(self) -> Tensor:
        """Greatest value of each channel, (C,)."""
        return self.wide.amax(self._axes).reshape(-1)

    def sampled(self, size: int) -> np.ndarray | None:
        """Return None: no sample is taken before it is asked for."""
        return None

    def keep(self) -> bool:
        """Return False: kernels are queued while the tensor is there."""
        return False

    def let_go(self) -> None:
        """Do nothing: nothing was kept."""
