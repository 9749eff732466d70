"""A tensor as the statistics see it: detached, wide enough, shared parts computed once.

Numerics.  Half precisions are widened to float32 before anything is squared.
Moments are taken about a centre near the mean and moved to the mean
afterwards, so that no digits cancel (shifted data; Chan, Golub & LeVeque
1983).  Pieces are summed in the tensor's width, and their sums in float64.

Speed.  On a CPU the pieces fit the second-level cache and intermediate values
go to scratch memory that is made once: fresh memory of the size of a feature
map costs more in page faults than the arithmetic (6.3 against 1 ms a step for
mean and standard deviation of all layers of LeNet at batch 256).  Sums become
Python floats at once, which are 10 times faster to reckon with than 0-d
tensors.  On another device the whole tensor is one piece, and sums stay there
as 0-d float64 tensors: nothing waits for them.
"""

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

PIECE = 1 << 17
Number = float | Tensor
Numbers = Number | Sequence[Number]
_scratch = threading.local()


def scratch(like: Tensor, name: str) -> Tensor:
    """Return memory for one piece, (len(like),), whose content is anything.

    On a CPU it is the same memory each time for a name and type.
    """
    if like.device.type != "cpu" or like.numel() > PIECE:
        return torch.empty_like(like)
    held = vars(_scratch)
    key = f"{name} {like.dtype}"
    if key not in held:
        with torch.inference_mode(False):
            held[key] = torch.empty(PIECE, dtype=like.dtype)
    return held[key][: like.numel()]


def quotient(a: Number, b: Number) -> Number:
    """Return a / b, and NaN where b is 0."""
    if isinstance(b, float):
        return a / b if b else math.nan
    return torch.where(b == 0, math.nan, a / b)


def root(a: Number) -> Number:
    """Return the square root of a, of at least 0 but for rounding."""
    return math.sqrt(a) if isinstance(a, float) and a >= 0 else _root(a)


def _root(a: Number) -> Number:
    if isinstance(a, float):
        return a if a != a else 0.0
    return a.clamp_min(0.0).sqrt()


class View:
    """One tensor and what several statistics need of it.

    Parameters
    ----------
    tensor
        Of any float dtype and shape, with at least one value.
    wanted
        Labels that will be asked for: those of ``min``, ``skew``, ``kurtosis``,
        ``abs_mean`` and ``zeros`` are found while a piece is in the cache for
        its moments.

    Attributes
    ----------
    tensor
        The tensor, detached.
    count
        How many values it has.
    """

    def __init__(self, tensor: Tensor, wanted: Collection[str] = ()) -> None:
        self.tensor = tensor.detach()
        self.count = tensor.numel()
        self._wanted = wanted

    @cached_property
    def wide(self) -> Tensor:
        """The tensor in float32, or in float64 if it is so."""
        return self.tensor if self.tensor.dtype == torch.float64 else self.tensor.float()

    @cached_property
    def flat(self) -> Tensor:
        """All values in the order of memory, (count,); a view of ``wide`` where it is dense."""
        x = self.wide
        if x.is_contiguous():
            return x.view(-1)
        if x.dim() in (4, 5):
            last = x.movedim(1, -1)
            if last.is_contiguous():
                return last.view(-1)
        return x.reshape(-1)

    @cached_property
    def on_host(self) -> bool:
        """Whether numbers are Python floats here: reading one does not wait for a device."""
        return self.tensor.device.type == "cpu"

    def number(self, value: Tensor) -> Number:
        """Return a 0-d tensor as a number: a float on a CPU, else in float64."""
        return float(value) if self.on_host else value.double()

    def pieces(self) -> Iterator[Tensor]:
        """Yield all values piece by piece, (<= PIECE,) on a CPU, all at once elsewhere."""
        if self.on_host and self.count > PIECE:
            return iter(self.flat.split(PIECE))
        return iter((self.flat,))

    def total(self, of_piece: Callable[[Tensor], Tensor]) -> Number:
        """Return the sum over pieces of a number computed from each."""
        parts = [self.number(of_piece(piece)) for piece in self.pieces()]
        return parts[0] if len(parts) == 1 else sum(parts)

    @cached_property
    def _sums(self) -> dict[str, Number]:
        """Means of powers of c = x - centre, and what else is wanted, in one way through."""
        sums = self._about(next(self.pieces()).mean())
        d, square = sums["c"], sums["cc"]
        # The first piece may be unlike the rest; then once more about the mean.
        if self.on_host and self.count > PIECE and d * d > 16.0 * (square - d * d):
            mean = sums["centre"] + d
            sums = self._about(torch.tensor(mean, dtype=self.flat.dtype))
        return sums

    def _about(self, centre: Tensor) -> dict[str, Number]:
        sums: dict[str, list[Number]] = defaultdict(list)
        ends: list[Tensor] = []
        higher = not {"skew", "kurtosis"}.isdisjoint(self._wanted)
        for piece in self.pieces():
            c = torch.sub(piece, centre, out=scratch(piece, "centred"))
            sums["c"].append(self.number(c.sum()))
            # sum() adds pairwise where dot() adds in a row, and loses four digits in 2^17
            squares = torch.mul(c, c, out=scratch(piece, "squares"))
            sums["cc"].append(self.number(squares.sum()))
            if higher:
                sums["ccc"].append(self.number(c.mul_(squares).sum()))
                sums["cccc"].append(self.number(squares.square_().sum()))
            if "min" in self._wanted:
                ends += torch.aminmax(piece)
            if "abs_mean" in self._wanted:
                sums["abs"].append(self.number(torch.abs(piece, out=c).sum()))
            if "zeros" in self._wanted:
                sums["zeros"].append(self.number(c.copy_(piece).eq_(0.0).sum()))
        if ends:
            self.extremes = self._extremes(ends)
        return {"centre": self.number(centre)} | {
            name: sum(parts) / self.count for name, parts in sums.items()
        }

    @cached_property
    def mean(self) -> Number:
        """Mean of all values."""
        return self._sums["centre"] + self._sums["c"]

    @cached_property
    def variance(self) -> Number:
        """Biased variance."""
        return self._sums["cc"] - self._sums["c"] ** 2

    @cached_property
    def deviation(self) -> Number:
        """Biased standard deviation."""
        return root(self.variance)

    @cached_property
    def rms(self) -> Number:
        """Root mean square."""
        return root(self.variance + self.mean * self.mean)

    def _sum(self, name: str, label: str) -> Number:
        if name not in self._sums:  # was not announced: once more
            self._wanted = {*self._wanted, label}
            self._sums = self._about(torch.as_tensor(self._sums["centre"]).to(self.flat))
        return self._sums[name]

    @property
    def third(self) -> Number:
        """Third central moment."""
        d, cube = self._sums["c"], self._sum("ccc", "skew")
        return cube - 3 * d * self._sums["cc"] + 2 * d**3

    @property
    def fourth(self) -> Number:
        """Fourth central moment."""
        d, fourth = self._sums["c"], self._sum("cccc", "skew")
        return fourth - 4 * d * self._sums["ccc"] + 6 * d**2 * self._sums["cc"] - 3 * d**4

    @property
    def absolute_mean(self) -> Number:
        """Mean of absolute values."""
        return self._sum("abs", "abs_mean")

    @property
    def zeros(self) -> Number:
        """Share of values that are 0."""
        return self._sum("zeros", "zeros")

    @cached_property
    def extremes(self) -> tuple[Number, Number]:
        """Least and greatest value; NaN if any value is."""
        return self._extremes(list(torch.aminmax(self.flat)))

    def _extremes(self, ends: list[Tensor]) -> tuple[Number, Number]:
        if len(ends) > 2:
            ends = list(torch.aminmax(torch.stack(ends)))
        return self.number(ends[0]), self.number(ends[1])

    @cached_property
    def known_finite(self) -> bool:
        """Whether all values are known to be finite without waiting for a device."""
        return isinstance(self.mean, float) and math.isfinite(self.mean)

    def share(self, test: str, limit: Number, middle: float | None = None) -> Number:
        """Return the share of values for which a comparison holds.

        Comparing in place, as floats, takes half the time of making a mask.

        Parameters
        ----------
        test
            ``gt``, ``lt``, ``eq``, ....
        limit
            To compare with.
        middle
            If given, |x - middle| is compared instead of x.
        """

        def count(x: Tensor) -> Tensor:
            c = torch.sub(x, middle or 0.0, out=scratch(x, "centred"))
            c = c if middle is None else c.abs_()
            return getattr(c, test + "_")(limit).sum()

        return self.total(count) / self.count

    def sample(self, size: int) -> Tensor:
        """Return at most ``size`` values, evenly spaced in memory, the same places every time.

        The stride has no factor in common with the count, so that it does not
        visit one column of pixels, or one channel, only.
        """
        return self.flat[:: _stride(self.count, size)]

    def ordered(self, size: int) -> Sequence[Number]:
        """Return :meth:`sample` in order, NaN last; numpy sorts 10 times faster than torch."""
        values = self.sample(size)
        if self.on_host:
            return np.sort(values.numpy())  # type: ignore[return-value]
        return values.sort().values  # type: ignore[return-value]

    @property
    def _other_axes(self) -> tuple[int, ...]:
        axes = range(self.tensor.dim())
        return tuple(axis for axis in axes if axis != 1) if len(axes) > 1 else tuple(axes)

    def over_channels(self, values: Tensor) -> Tensor:
        """Shape one value a channel, (C,), to broadcast over the tensor."""
        if self.tensor.dim() < 2:
            return values
        return values.reshape(1, -1, *[1] * (self.tensor.dim() - 2))

    @cached_property
    def channel_mean(self) -> Tensor:
        """Mean of each channel, axis 1, over all other axes, (C,); of a vector, (1,)."""
        return self.wide.mean(self._other_axes).reshape(-1)

    @cached_property
    def channel_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel, axis 1, over all other axes, (C,) each.

        Of a vector, (1,).  In float64.
        """
        parts = list(self._images())
        axes = self._other_axes
        centre = parts[0].mean(axes).reshape(-1)
        ones, squares = [], []
        for part in parts:
            c = torch.sub(part, self.over_channels(centre), out=self._scratch(part))
            ones.append(c.sum(axes).reshape(-1).double())
            squares.append(c.square_().sum(axes).reshape(-1).double())
        values = self.count // centre.numel()
        d = torch.stack(ones).sum(0) / values
        square = torch.stack(squares).sum(0) / values
        return centre + d, (square - d * d).clamp_min(0.0)

    def _images(self) -> Iterator[Tensor]:
        """Yield the tensor some images at a time, (n, C, ...)."""
        x = self.wide
        if not self.on_host or x.dim() < 2 or x.numel() <= PIECE or x.numel() // len(x) > PIECE:
            return iter((x,))
        return iter(x.split(PIECE // (x.numel() // len(x))))

    def _scratch(self, part: Tensor) -> Tensor:
        if not part.is_contiguous() or not self.on_host or part.numel() > PIECE:
            return torch.empty_like(part)
        return scratch(part.view(-1), "centred").view(part.shape)

    def channel_share(self, limit: float, middle: float) -> Tensor:
        """Return each channel's share of values with |x - middle| > limit, (C,)."""
        counts = [
            torch.sub(part, middle, out=self._scratch(part)).abs_().gt_(limit).sum(self._other_axes)
            for part in self._images()
        ]
        total = sum(counts).reshape(-1)  # type: ignore[union-attr]
        return total / (self.count // total.numel())

    @cached_property
    def channel_maximum(self) -> Tensor:
        """Greatest value of each channel, (C,)."""
        return self.wide.amax(self._other_axes).reshape(-1)

    def rows(self, samples: int, channels: int) -> Tensor:
        """Return a matrix of samples by channels for a covariance, (<= samples, <= channels).

        The positions of a feature map are samples of its channels.  Rows and
        columns are evenly spaced.
        """
        x = self.wide if self.tensor.dim() > 1 else self.wide.reshape(-1, 1)
        columns = x[:, :: -(-x.shape[1] // channels)]
        if x.dim() == 2:
            return columns[:: _stride(len(x), samples)]
        number = x.shape[0] * math.prod(x.shape[2:])
        chosen = torch.arange(0, number, _stride(number, samples), device=x.device)
        image, place = chosen // (number // len(x)), chosen % (number // len(x))
        return columns.flatten(2)[image, :, place]


def _stride(count: int, size: int) -> int:
    stride = -(-count // size)
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride
