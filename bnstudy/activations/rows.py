"""A tensor on a CPU as short rows, and everything that is read off it in one way through.

A training step leaves feature maps in a far cache or in memory, and fetching one costs
more than adding it up.  So what is wanted of a piece is read off while the piece is near,
by kernels that write nothing of its size: row sums, row norms, extremes, and comparisons
of which a byte a value is kept.  Where a value must be written it goes to scratch memory
that is made once: fresh memory costs more in page faults than the arithmetic.  Sums
become Python floats at once, 10 times faster to reckon with than 0-d tensors.

Numerics.  A row is short enough to lose no digits in the tensor's width; rows are added
up in float64.  The variance is mean(x^2) - mean(x)^2 unless that cancels, and then taken
about the mean, less what is left of that (shifted data; Chan, Golub & LeVeque 1983).
Values whose squares leave the range of float32 are widened.
"""

import math
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.lazy import Lazy
from bnstudy.activations.whole import Whole

FAR = 1 << 22  # values read in one go: more would come from memory each time
PIECE = 1 << 18  # values written in one go: with the scratch memory they fit a near cache
HALF = PIECE // 2  # the same where two are written
SMALL = 1 << 14
DOTS = 128  # rows of at least so many values are squared quicker by dot products
NEAR_ZERO = 0.25
NARROW, WIDE = 32, 2048
SQUARES = (1e-28, 1e34)
_scratch = threading.local()


@lru_cache(maxsize=1024)
def divisor(size: int) -> int:
    """Return the greatest divisor in NARROW..WIDE, or 0 if there is none."""
    return next((w for w in range(min(size, WIDE), NARROW - 1, -1) if size % w == 0), 0)


@lru_cache(maxsize=1024)
def layout(shape: tuple[int, ...], by_image: bool) -> tuple[int, int]:
    """Return the width of rows that are parts of one image's channel, or 0, and that of rows."""
    count = math.prod(shape)
    width = divisor(math.prod(shape[2:])) if by_image and len(shape) > 2 else 0
    return width, width or divisor(count) or min(count, WIDE // 2)


@lru_cache(maxsize=256)
def stride(count: int, size: int) -> int:
    """Return the least step for at most ``size`` of ``count`` places, prime to the count."""
    step = -(-count // size)
    while math.gcd(step, count) > 1:
        step += 1
    return step


class Needs(NamedTuple):
    """What is wanted besides the moments."""

    ends: bool
    absolute: bool
    zeros: bool
    stuck: bool
    higher: bool
    active: bool


@lru_cache(maxsize=256)
def needs(wanted: tuple[str, ...]) -> Needs:
    """Return what some labels need."""
    ends = "min" in wanted or "max" in wanted
    return Needs(
        ends=ends,
        absolute="abs_mean" in wanted,
        zeros="zeros" in wanted,
        stuck="stuck" in wanted,
        higher="skew" in wanted or "kurtosis" in wanted,
        active="active" in wanted,
    )


def scratch(like: Tensor, name: str) -> Tensor:
    """Return memory for at most PIECE values, whose content is anything; the same each time."""
    held = vars(_scratch)
    key = f"{name} {like.dtype}"
    if key not in held:
        with torch.inference_mode(False):
            held[key] = torch.empty(PIECE, dtype=like.dtype)
    return held[key][: like.numel()].view(like.shape)


def _mask(piece: np.ndarray) -> np.ndarray:
    held = vars(_scratch)
    if "mask" not in held:
        held["mask"] = np.empty(PIECE, dtype=bool)
    return held["mask"][: piece.size].reshape(piece.shape)


class First(NamedTuple):
    """What one way through gives: sums of rows, (k,) in float64, and of the whole."""

    ones: np.ndarray
    squares: np.ndarray
    low: float
    high: float
    absolute: float
    zeros: int


class Rows:
    """The statistics of one tensor on a CPU; numbers are floats.

    Parameters
    ----------
    wide
        Of float32 or float64, with at least one value.
    flat
        All its values in the order of memory, (n,), contiguous.
    wanted
        Labels that will be asked for, so that they are found on the way.
    """

    # A row's norm and sum are good to about 1e-7, and so is the variance to 32 times that.
    cancels = 32.0

    def __init__(self, wide: Tensor, flat: Tensor, wanted: Collection[str] = ()) -> None:
        self.wide, self.flat, self.count = wide, flat, flat.numel()
        self._needs = needs(tuple(wanted))
        self._by_image, self._width = layout(wide.shape, wide.is_contiguous())

    def pieces(self, size: int = FAR) -> Iterable[Tensor]:
        """Return the rows, (k, w), in pieces of at most so many values."""
        whole = self.count // self._width * self._width
        flat = self.flat if whole == self.count else self.flat[:whole]
        parts: Sequence[Tensor] = (flat.view(-1, self._width),)
        if whole > size:
            parts = parts[0].split(max(1, size // self._width))
        return parts if whole == self.count else (*parts, self.flat[whole:].view(1, -1))

    @Lazy
    def _first(self) -> First:
        if self.count <= SMALL and not self._by_image:
            return self._small()
        ones, squares, lows, highs = [], [], [], []
        absolute, zeros = 0.0, 0
        wants_ends, wants_absolute, wants_zeros, *_ = self._needs
        for piece in self.pieces():
            ones.append(piece.sum(1).numpy())
            squares.append(_squared(piece))
            low = high = math.nan
            if wants_ends:
                ends = torch.aminmax(piece)
                low, high = ends.min.item(), ends.max.item()
            lows.append(low)
            highs.append(high)
            if wants_absolute:
                absolute += float(ones[-1].sum()) if low >= 0.0 else self._absolute(piece)
            if wants_zeros and not (low > 0.0 or high < 0.0):
                zeros += self._zeros(piece)
        if len(lows) > 1:
            low, high = float(np.min(lows)), float(np.max(highs))
        return First(_joined(ones), _joined(squares), low, high, absolute, zeros)

    def _small(self) -> First:
        """Go through few values: widening them costs less than calling torch does."""
        x = self.flat.numpy()
        wide = x.astype(np.float64)
        needs = self._needs
        low, high = (x.min().item(), x.max().item()) if needs.ends else (math.nan, math.nan)
        return First(
            np.add.reduce(wide, keepdims=True),
            np.array([np.einsum("i,i->", wide, wide)]),  # dot() would start threads of its own
            low,
            high,
            np.abs(wide).sum().item() if needs.absolute else 0.0,
            x.size - int(np.count_nonzero(x)) if needs.zeros else 0,
        )

    @staticmethod
    def _absolute(piece: Tensor) -> float:
        parts = piece.view(-1).split(PIECE)
        return sum(torch.abs(x, out=scratch(x, "centred")).sum().item() for x in parts)

    @staticmethod
    def _zeros(piece: Tensor) -> int:
        return sum(
            int(np.count_nonzero(np.equal(x, 0.0, out=_mask(x))))
            for x in (part.numpy() for part in piece.view(-1).split(PIECE))
        )

    def _total(self, of_piece: Callable[[Tensor], float]) -> float:
        return sum(map(of_piece, self.flat.split(PIECE)))

    @Lazy
    def moments(self) -> tuple[float, float]:
        """Mean and biased variance."""
        one, two = self._sums()
        mean, square = one / self.count, two / self.count
        variance = square - mean * mean
        if not math.isfinite(mean):
            return mean, math.nan
        if not self._in_range(square):
            return self._widened.moments if square or self.extremes != (0.0, 0.0) else (0.0, 0.0)
        if variance * self.cancels >= square:
            return mean, variance
        centre = self._near(mean)
        one, two = self._sums_about(centre)
        rest = one / self.count
        return centre + rest, max(two / self.count - rest * rest, 0.0)

    def _sums(self) -> tuple[float, float]:
        """Return the sums of all values and of their squares."""
        return self._first.ones.sum().item(), self._first.squares.sum().item()

    def _sums_about(self, centre: float) -> tuple[float, float]:
        """Return the same of the distances from a centre."""
        ones, squares = 0.0, 0.0
        for piece in self.pieces(PIECE):
            c = torch.sub(piece, centre, out=scratch(piece, "centred"))
            ones += float(c.sum(1).double().sum())
            squares += float(np.add.reduce(_squared(c)))
        return ones, squares

    def _near(self, mean: float) -> float:
        """Return the nearest number that the tensor's width holds."""
        return mean if self.flat.dtype == torch.float64 else float(np.float32(mean))

    @Lazy
    def _widened(self) -> "Rows":
        flat = self.flat.double()
        return Rows(flat, flat)

    @Lazy
    def higher(self) -> tuple[float, float]:
        """Third and fourth moment of (x - mean) / std; NaN where std is 0."""
        mean, variance = self.moments
        if not variance > 0.0:
            return math.nan, math.nan
        deviation = math.sqrt(variance)
        if self.count <= SMALL:
            return self._higher_of_few(mean, deviation)
        # About 0 where the mean is as good as that: nothing need be taken off.
        centre = 0.0 if abs(mean) < NEAR_ZERO * deviation else self._near(mean)
        # Fourth powers of such deviations would leave float32.
        inverse = 1.0 if 1e-6 < deviation < 1e6 else 1.0 / deviation
        cubes, fourths = 0.0, 0.0
        with np.errstate(over="ignore"):
            for piece in self.pieces(HALF):
                x = piece.numpy()
                if centre or inverse != 1.0:
                    c = scratch(piece, "centred").numpy()
                    x = np.subtract(x, x.dtype.type(centre), out=c)
                if inverse != 1.0:
                    x *= x.dtype.type(inverse)
                squares = np.multiply(x, x, out=scratch(piece, "squares").numpy())
                cubes += float(np.add.reduce(np.vecdot(x, squares), dtype=np.float64))
                fourths += float(np.add.reduce(np.vecdot(squares, squares), dtype=np.float64))
        scale = deviation * inverse
        third, fourth = cubes / self.count / scale**3, fourths / self.count / scale**4
        return self._moved((mean - centre) / deviation, third, fourth)

    @staticmethod
    def _moved(d: float, third: float, fourth: float) -> tuple[float, float]:
        """Return moments about the mean from those about a point ``d`` deviations below it."""
        return (
            third - 3 * d * (1 + d * d) + 2 * d**3,
            fourth - 4 * d * third + 6 * d**2 * (1 + d * d) - 3 * d**4,
        )

    def _higher_of_few(self, mean: float, deviation: float) -> tuple[float, float]:
        c = (self.flat.numpy() - np.float64(mean)) / deviation
        squares = c * c
        third, fourth = np.einsum("i,i->", c, squares), np.einsum("i,i->", squares, squares)
        return float(third) / self.count, float(fourth) / self.count

    def sampled(self, size: int) -> np.ndarray | None:
        """Return a sample of a size that was announced, if it was taken on the way."""
        return None

    @property
    def extremes(self) -> tuple[float, float]:
        """Least and greatest value; NaN if any value is."""
        if self._needs.ends:
            first = self._first
            return first.low, first.high
        low, high = torch.aminmax(self.flat)
        return float(low), float(high)

    @Lazy
    def absolute_mean(self) -> float:
        """Mean of absolute values."""
        return (
            self._first.absolute if self._needs.absolute else self._total(self._absolute)
        ) / self.count

    @Lazy
    def zeros(self) -> float:
        """Share of values that are 0."""
        return (self._first.zeros if self._needs.zeros else self._total(self._zeros)) / self.count

    def above(self, limit: float) -> float:
        """Return the share of values greater than a limit."""

        def count(piece: Tensor) -> float:
            x = piece.numpy()
            return float(np.count_nonzero(np.greater(x, limit, out=_mask(x))))

        return self._total(count) / self.count

    def outside(self, low: float, high: float) -> float:
        """Return the share of values below ``low`` or above ``high``."""
        if self._needs.stuck:  # both are shares of the same values
            return float(self.channel_outside(low, high).mean())
        if self._needs.ends and self._first.low >= low and self._first.high <= high:
            return 0.0

        def count(piece: Tensor) -> float:
            x = piece.numpy()
            mask = _mask(x)
            below = np.count_nonzero(np.less(x, low, out=mask))
            return float(below + np.count_nonzero(np.greater(x, high, out=mask)))

        return self._total(count) / self.count

    def channel_outside(self, low: float, high: float) -> np.ndarray:
        """Return each channel's share of values below ``low`` or above ``high``, (C,)."""
        key = f"outside {low} {high}"
        if key not in vars(self):
            vars(self)[key] = self._channel_outside(low, high)
        return vars(self)[key]

    def _channel_outside(self, low: float, high: float) -> np.ndarray:
        if not self._by_image:
            return self._whole.channel_outside(low, high).numpy()
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        counts = [
            torch.sub(p, middle, out=scratch(p, "centred")).abs_().gt_(half).sum(1).numpy()
            for p in self.pieces(PIECE)
        ]
        return self._of_images(_joined(counts)).sum(0) / self._each

    # -- channels: axis 1; of a vector, all values are one

    @Lazy
    def _whole(self) -> Whole:
        return Whole(self.wide, self.flat)

    @property
    def _each(self) -> int:
        """Values of a channel."""
        return self.count // (self.wide.shape[1] if self.wide.dim() > 1 else 1)

    def _of_images(self, rows: np.ndarray) -> np.ndarray:
        images, channels = self.wide.shape[:2]
        if rows.size == images * channels:
            return rows.reshape(images, channels)
        return rows.reshape(images, channels, -1).sum(2)

    @Lazy
    def _image_sums(self) -> tuple[np.ndarray, np.ndarray]:
        return self._of_images(self._first.ones), self._of_images(self._first.squares)

    @property
    def images_at_hand(self) -> tuple[np.ndarray, np.ndarray] | None:
        """As ``images`` where they cost nothing more, else None."""
        return self._image_sums if self._by_image else None

    @Lazy
    def images(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Sums and sums of squares of each image's channels, (N, C) each; None without places."""
        if self._by_image:
            return self._image_sums
        if self.wide.dim() < 3:
            return None
        axes = tuple(range(2, self.wide.dim()))
        norms = torch.linalg.vector_norm(self.wide, dim=axes).double().numpy()
        return self.wide.sum(axes).double().numpy(), norms * norms

    @Lazy
    def channel_mean(self) -> np.ndarray:
        """Mean of each channel, (C,), in float64."""
        if self._by_image:
            return self._image_sums[0].sum(0) / self._each
        return self._whole.channel_mean.numpy()

    @Lazy
    def channel_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased variance of each channel, (C,) each, in float64."""
        if self._by_image:
            square = self._image_sums[1].sum(0) / self._each
            variance = square - self.channel_mean**2
            if (variance * self.cancels >= square).all() and self._in_range(square):
                return self.channel_mean, variance
        mean, variance = self._whole.channel_moments
        return mean.numpy(), variance.numpy()

    def _in_range(self, square: np.ndarray | float) -> bool:
        low, high = SQUARES
        inside = np.logical_and(square > low, square < high)
        return self.flat.dtype == torch.float64 or bool(np.all(inside))

    @property
    def spread(self) -> tuple[float, float, float]:
        """Mean variance within channels, variance of their means, mean of their squares.

        By the law of total variance, within = all - between, unless that cancels.
        """
        if not math.isfinite(self.moments[0]):
            return math.nan, math.nan, math.nan
        means = self.channel_mean
        between = _spread(means)
        within = self.moments[1] - between
        if not within > 1e-2 * between:
            means, variances = self.channel_moments
            between, within = _spread(means), float(variances.mean())
        return within, between, float(np.einsum("c,c->", means, means)) / means.size

    @property
    def channel_maximum(self) -> np.ndarray:
        """Greatest value of each channel, (C,)."""
        if self._by_image:
            rows = np.concatenate([piece.amax(1).numpy() for piece in self.pieces()])
            return rows.reshape(*self.wide.shape[:2], -1).max((0, 2))
        return self._whole.channel_maximum.numpy()


def _spread(values: np.ndarray) -> float:
    c = values - np.add.reduce(values) / values.size
    return float(np.einsum("c,c->", c, c)) / c.size


def _squared(rows: Tensor) -> np.ndarray:
    """Return the sum of squares of each row, (k, w) -> (k,), in float64."""
    if rows.shape[1] >= DOTS:
        x = rows.numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # such rows are widened, or not finite
            return np.vecdot(x, x).astype(np.float64)  # too short to start threads
    norms = torch.linalg.vector_norm(rows, dim=1).numpy().astype(np.float64)
    return norms * norms


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return whole.astype(np.float64)
