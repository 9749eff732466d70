"""A tensor as the statistics see it: detached, wide enough, shared parts computed once.

Half precisions are widened to float32 before anything is squared.  How the sums are taken
is the business of :mod:`~bnstudy.activations.scanned` and
:class:`~bnstudy.activations.rows.Rows` on a CPU and of
:class:`~bnstudy.activations.whole.Whole` elsewhere.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.lazy import Lazy
from bnstudy.activations.rows import Rows, stride
from bnstudy.activations.scanned import Scanned, rows_of
from bnstudy.activations.whole import Whole

Number = float | Tensor
Numbers = Number | Sequence[Number] | np.ndarray
Images = tuple[np.ndarray, np.ndarray]


def root(a: Number) -> Number:
    """Return the square root of a, of at least 0 but for rounding."""
    if isinstance(a, Tensor):
        return a.clamp_min(0.0).sqrt()
    return a if a != a else math.sqrt(max(a, 0.0))


class View:
    """One tensor and what several statistics need of it.

    Parameters
    ----------
    tensor
        Of any float dtype and shape, with at least one value.
    wanted
        Labels that will be asked for: some are found while a piece of the tensor is near
        for its moments.
    limits
        Between which the share of values will be asked for, if any.
    samples
        Sizes of the samples that will be asked for.

    Attributes
    ----------
    tensor
        The tensor, detached.
    count
        How many values it has.
    on_host
        Whether numbers are Python floats here: reading one does not wait for a device.
    """

    def __init__(
        self,
        tensor: Tensor,
        wanted: Collection[str] = (),
        limits: tuple[float, float] | None = None,
        samples: tuple[int, ...] = (),
    ) -> None:
        self.tensor = tensor.detach()
        self.count = tensor.numel()
        self.on_host = tensor.is_cpu
        self._announced = wanted, limits, samples
        self._gathered: dict[int, np.ndarray] = {}

    @Lazy
    def wide(self) -> Tensor:
        """The tensor in float32, or in float64 if it is so."""
        wide = self.tensor if self.tensor.dtype == torch.float64 else self.tensor.float()
        return wide.resolve_neg()  # memory as it reads

    @Lazy
    def flat(self) -> Tensor:
        """All values in the order of memory, (count,); a view of ``wide`` where it is dense."""
        x = self.wide
        if x.is_contiguous():
            return x.view(-1)
        if x.dim() in (4, 5):
            last = x.movedim(1, -1)
            if last.is_contiguous():
                return last.view(-1)
        return x.reshape(-1).contiguous()  # an expanded tensor is flat without being in a row

    @Lazy
    def sums(self) -> Rows | Whole:
        """What is found by going through all values."""
        if self.on_host:
            return rows_of(self.wide, self.flat, *self._announced)
        return Whole(self.wide, self.flat)

    def number(self, value: Any) -> Number:
        """Return one number, of a tensor or an array, as a float on a CPU, else in float64."""
        return float(value) if self.on_host else value.double()

    @property
    def mean(self) -> Number:
        """Mean of all values."""
        return self.sums.moments[0]

    @property
    def variance(self) -> Number:
        """Biased variance."""
        return self.sums.moments[1]

    @property
    def deviation(self) -> Number:
        """Biased standard deviation."""
        return root(self.variance)

    @property
    def rms(self) -> Number:
        """Root mean square."""
        return root(self.variance + self.mean * self.mean)

    @property
    def known_finite(self) -> bool:
        """Whether all values are known to be finite without waiting for a device."""
        return self.on_host and math.isfinite(self.mean)

    def sample(self, size: int) -> Tensor:
        """Return at most ``size`` values, evenly spaced in memory, the same places every time.

        The stride has no factor in common with the count, so that it does not
        visit one column of pixels, or one channel, only.
        """
        return self.flat[:: stride(self.count, size)]

    def sample_on_host(self, size: int) -> np.ndarray:
        """Return a copy of :meth:`sample` of a tensor on a CPU, made once for all who ask."""
        if size not in self._gathered:
            near = cast(Rows, self.sums).sampled(size)
            self._gathered[size] = self.sample(size).numpy().copy() if near is None else near
        return self._gathered[size]

    def keep(self, samples: Iterable[int]) -> bool:
        """Find all that statistics may ask for later; return whether that is possible."""
        if not (self.on_host and isinstance(self.sums, Scanned) and self.sums.keep()):
            return False
        for size in samples:
            self.sample_on_host(size)
        return True

    def let_go(self) -> None:
        """Forget the tensor, after :meth:`keep`."""
        cast(Scanned, self.sums).let_go()
        del self.tensor, self.wide, self.flat

    def rows(self, samples: int, channels: int) -> Tensor:
        """Return a matrix of samples by channels for a covariance, (<= samples, <= channels).

        The positions of a feature map are samples of its channels.  Rows and
        columns are evenly spaced.
        """
        x = self.wide if self.tensor.dim() > 1 else self.wide.reshape(-1, 1)
        columns = x[:, :: -(-x.shape[1] // channels)]
        if x.dim() == 2:
            return columns[:: stride(len(x), samples)]
        image, place = _places(len(x), math.prod(x.shape[2:]), samples, x.device)
        return columns.flatten(2)[image, :, place]


@lru_cache(maxsize=256)
def _places(images: int, each: int, samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return image and position of evenly spaced places of feature maps."""
    with torch.inference_mode(False):
        chosen = torch.arange(0, images * each, stride(images * each, samples), device=device)
        return chosen // each, chosen % each
