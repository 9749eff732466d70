"""The protocol of a tensor's readers, and the tools that they share."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np
from torch import Tensor

Number = float | Tensor
Array = np.ndarray | Tensor
ImageSums = tuple[np.ndarray, np.ndarray]
Value = TypeVar("Value")


class Reader(Protocol):
    """The sums of one tensor.

    A reader on a CPU gives Python floats and numpy arrays.  The one for accelerators gives
    0-d and 1-d tensors that stay where they are, so that nothing waits for the device.
    Channels are axis 1; the values of a vector belong to one channel.
    """

    @property
    def moments(self) -> tuple[Number, Number]:
        """Mean and biased variance of all values."""

    @property
    def higher(self) -> tuple[Number, Number]:
        """Third and fourth moment of (x - mean) / std; NaN where std is 0."""

    @property
    def extremes(self) -> tuple[Number, Number]:
        """Least and greatest value; NaN if any value is."""

    @property
    def absolute_mean(self) -> Number:
        """Mean of absolute values."""

    @property
    def zeros(self) -> Number:
        """Share of values that are 0."""

    def above(self, limit: float) -> Number:
        """Return the share of values greater than a limit."""

    def outside(self, low: float, high: float) -> Number:
        """Return the share of values below ``low`` or above ``high``."""

    def channel_outside(self, low: float, high: float) -> Array:
        """Return each channel's share of values below ``low`` or above ``high``, (C,)."""

    @property
    def channel_moments(self) -> tuple[Array, Array]:
        """Mean and biased variance of each channel, (C,) each, in float64."""

    @property
    def channel_maximum(self) -> Array:
        """Greatest value of each channel, (C,)."""

    @property
    def spread(self) -> tuple[Number, Number, Number]:
        """Mean variance within channels, variance of their means, mean of their squares."""

    @property
    def images(self) -> ImageSums | None:
        """Sums and sums of squares of each image's channels, (N, C) each, or None."""

    @property
    def images_at_hand(self) -> ImageSums | None:
        """As ``images`` where they cost nothing more, else None."""

    def sampled(self, size: int) -> np.ndarray | None:
        """Return a sample of a size that was announced, if the first pass took it."""

    def keep(self) -> bool:
        """Find all that was announced; return whether nothing else of it needs the tensor."""

    def let_go(self) -> None:
        """Forget the tensor, after :meth:`keep`."""


class computed_once(Generic[Value]):
    """As ``functools.cached_property``, but without the lock that it takes before Python 3.12.

    A watched layer asks for several such attributes, once each, on every step, where
    each lock costs about a microsecond.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute, self._name = compute, compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> "computed_once[Value]": ...
    @overload
    def __get__(self, owner: object, kind: type) -> Value: ...
    def __get__(self, owner: object | None, kind: type) -> "computed_once[Value] | Value":
        """Compute the value and put it where it will be found instead of this."""
        if owner is None:
            return self
        value = owner.__dict__[self._name] = self._compute(owner)
        return value


@lru_cache(maxsize=256)
def stride(count: int, size: int) -> int:
    """Return the least step for at most ``size`` of ``count`` positions, prime to the count.

    A step with a common factor would visit one column of pixels, or one channel, only.

    Examples
    --------
    >>> stride(12, 4), stride(10, 20)
    (5, 1)
    """
    step = -(-count // size)
    while math.gcd(step, count) > 1:
        step += 1
    return step
