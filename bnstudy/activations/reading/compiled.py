"""A float32 tensor on a CPU, read by compiled code: see ``cpp/rows.cpp``.

torch and numpy go through a tensor once for each sum, and write down what they square;
here a row stays in the nearest cache while all that is wanted is read off it, in float64.
A row is one image's channel where memory has such rows, else the whole tensor.  One
thread does the work.

The variance is mean(x^2) - mean(x)^2 unless that cancels, and then taken about the mean,
less what is left of that (shifted data; Chan, Golub & LeVeque 1983).
"""

import ctypes
import math
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.reading.device import DeviceReader
from bnstudy.activations.reading.reader import ImageSums, computed_once, stride
from bnstudy.compiling import compiled

SOURCE = Path(__file__).parent / "cpp" / "rows.cpp"
MOMENTS, HIGHER, ENDS, ABSOLUTE, ZEROS, ABOVE, OUTSIDE = (1 << bit for bit in range(7))
LABEL_BITS = {
    "min": ENDS, "max": ENDS, "abs_mean": ABSOLUTE, "zeros": ZEROS, "skew": HIGHER,
    "kurtosis": HIGHER, "active": ABOVE,
}  # fmt: skip
COLUMNS = {MOMENTS: 2, HIGHER: 2, ENDS: 2, ABSOLUTE: 1, ZEROS: 1, ABOVE: 1, OUTSIDE: 1}
NARROW = 16  # values of a row, below which rows cost more than they save
SAMPLES = 4  # taken on the way at most
FAR = 20.0  # standard deviations from 0 at which the mean is taken off before powers are
# Sums of float32 numbers in float64 keep the variance to 1e-10 up to here.
CANCELS = 1e6


class Functions(NamedTuple):
    """The compiled functions."""

    scan: Callable[..., None]
    column_powers: Callable[..., None]


@cache
def scanner() -> Functions | None:
    """Return the compiled functions, or None where they are unavailable."""
    library, _ = compiled(SOURCE)
    if library is None:
        return None
    functions: Any = Functions(library.scan, library.column_powers)
    pointer, count, few = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    limits = [ctypes.c_double, *[ctypes.c_float] * 3]
    functions.scan.argtypes = [
        pointer, count, count, few, *limits, pointer, pointer, few, pointer,
    ]  # fmt: skip
    functions.column_powers.argtypes = [pointer, count, count, pointer, pointer]
    for function in functions:
        function.restype = None
    return functions


def readable(tensor: Tensor) -> bool:
    """Return whether compiled code can read a tensor on a CPU: some have no memory."""
    plain = type(tensor) is Tensor and tensor.dtype == torch.float32
    return plain and scanner() is not None and tensor.data_ptr() != 0


@cache
def columns_of(wanted: int) -> dict[int, int]:
    """Return the first column of each thing that is wanted, and under 0 how many there are."""
    first, start = {}, 0
    for bit, count in COLUMNS.items():
        if wanted & bit:
            first[bit] = start
            start += count
    return {**first, 0: start}


class Strides(NamedTuple):
    """How samples of a tensor are taken.

    Attributes
    ----------
    steps
        (samples,), from value to value.
    parts
        Where each sample is, all laid behind each other.
    total
        How many values they have.
    """

    steps: np.ndarray
    parts: tuple[slice, ...]
    total: int


@lru_cache(maxsize=1024)
def strides_of(count: int, sizes: tuple[int, ...]) -> Strides:
    """Return how samples of some sizes are taken of so many values."""
    steps = [stride(count, size) for size in sizes]
    ends = [0, *accumulate(-(-count // step) for step in steps)]
    return Strides(np.array(steps, dtype=np.int64), tuple(map(slice, ends, ends[1:])), ends[-1])


class Scan:
    """Result of one pass through a tensor.

    Attributes
    ----------
    columns
        The first column of each thing that was wanted.
    rows
        (columns, rows), in float64.
    totals
        Of all rows, for each column.
    samples
        Those that were asked for, by their size, each evenly spaced.
    """

    __slots__ = ("columns", "rows", "samples", "totals")

    def __init__(
        self, flat: Tensor, width: int, wanted: int, *limits: float, sizes: tuple[int, ...] = ()
    ) -> None:
        self.columns = columns_of(wanted)
        columns, count = self.columns[0], flat.numel() // width
        out = np.empty(columns * (count + 1))
        strides = strides_of(flat.numel(), sizes)
        taken = np.empty(strides.total, dtype=np.float32)
        self.samples = {size: taken[at] for size, at in zip(sizes, strides.parts, strict=True)}
        scan = cast(Functions, scanner()).scan  # without it tensors are read otherwise
        where = out.ctypes.data, strides.steps.ctypes.data, len(sizes), taken.ctypes.data
        scan(flat.data_ptr(), count, width, wanted, *limits, *where)
        self.rows = out[: columns * count].reshape(columns, count)
        self.totals: list[float] = out[columns * count :].tolist()

    def total(self, bit: int) -> float:
        """Return the total of a thing of one column."""
        return self.totals[self.columns[bit]]

    def both(self, bit: int) -> tuple[float, float]:
        """Return the totals of a thing of two columns."""
        first = self.columns[bit]
        return self.totals[first], self.totals[first + 1]


@lru_cache(maxsize=256)
def bits_of(labels: tuple[str, ...]) -> int:
    """Return what to read so that statistics of these labels are found in one pass.

    Examples
    --------
    >>> bits_of(("mean", "min", "max")) == MOMENTS | ENDS
    True
    """
    bits = MOMENTS
    for label in labels:
        bits |= LABEL_BITS.get(label, 0)
    return bits


class CompiledReader:
    """The :class:`~bnstudy.activations.reading.reader.Reader` of a float32 tensor on a CPU.

    Parameters
    ----------
    wide
        Of float32, with at least one value.
    flat
        All its values in the order of memory, (n,), contiguous.
    wanted
        Labels that will be asked for, so that they are found in the first pass.
    limits
        Between which the share of values will be asked for, if any.
    samples
        Sizes of the samples that will be asked for.
    """

    def __init__(
        self,
        wide: Tensor,
        flat: Tensor,
        wanted: tuple[str, ...] = (),
        limits: tuple[float, float] | None = None,
        samples: tuple[int, ...] = (),
    ) -> None:
        self.wide, self.flat, self.count = wide, flat, flat.numel()
        self._wanted, self._limits, self._samples = bits_of(wanted), limits, samples[:SAMPLES]
        positions = math.prod(wide.shape[2:]) if wide.dim() > 2 and wide.is_contiguous() else 0
        self._by_image = positions >= NARROW
        self._width = positions if self._by_image else self.count

    def _scan(
        self,
        wanted: int,
        centre: float = 0.0,
        limit: float = 0.0,
        low: float = 0.0,
        high: float = 0.0,
        sizes: tuple[int, ...] = (),
    ) -> Scan:
        return Scan(self.flat, self._width, wanted, centre, limit, low, high, sizes=sizes)

    @computed_once
    def _first(self) -> Scan:
        """All that was announced, in one pass."""
        if self._limits is None:
            return self._scan(self._wanted, sizes=self._samples)
        low, high = self._limits
        return self._scan(self._wanted | OUTSIDE, low=low, high=high, sizes=self._samples)

    def _scan_of(self, bit: int) -> Scan:
        """Return a pass that read something: the first one, or one more if it was not announced."""
        return self._first if self._wanted & bit else self._scan(bit)

    def sampled(self, size: int) -> np.ndarray | None:
        """Return a sample of a size that was announced, which was taken on the way."""
        return self._first.samples[size] if size in self._samples else None

    def keep(self) -> bool:
        """Find all that was announced; return whether nothing else of it needs the tensor."""
        if self._wanted & HIGHER:
            _ = self.higher
        return math.isfinite(self.moments[0])

    def let_go(self) -> None:
        """Forget the tensor and its rows; totals stay."""
        for name in ("_image_sums", "_by_torch"):
            vars(self).pop(name, None)
        del self.wide, self.flat, self._first.rows

    # -- all values

    @computed_once
    def moments(self) -> tuple[float, float]:
        """Mean and biased variance of all values."""
        one, two = self._first.both(MOMENTS)
        mean, square = one / self.count, two / self.count
        variance = square - mean * mean
        if not math.isfinite(mean):
            return mean, math.nan
        if variance * CANCELS >= square:
            return mean, variance
        centre = _nearest(mean)
        one, two = self._scan(MOMENTS, centre).both(MOMENTS)
        rest = one / self.count
        return centre + rest, max(two / self.count - rest * rest, 0.0)

    @computed_once
    def higher(self) -> tuple[float, float]:
        """Third and fourth moment of (x - mean) / std; NaN where std is 0."""
        mean, variance = self.moments
        if not variance > 0.0:
            return math.nan, math.nan
        deviation = math.sqrt(variance)
        if self._wanted & HIGHER and abs(mean) < FAR * deviation:
            centre, read = 0.0, self._first
        else:
            centre = _nearest(mean)
            read = self._scan(MOMENTS | HIGHER, centre)
        cubes, fourths = read.both(HIGHER)
        third, fourth = cubes / self.count / deviation**3, fourths / self.count / deviation**4
        # from moments about the centre to those about the mean, d deviations above it
        d = (mean - centre) / deviation
        return (
            third - 3 * d * (1 + d * d) + 2 * d**3,
            fourth - 4 * d * third + 6 * d**2 * (1 + d * d) - 3 * d**4,
        )

    @property
    def extremes(self) -> tuple[float, float]:
        """Least and greatest value; NaN if any value is."""
        if self._wanted & ENDS and math.isfinite(self.moments[0]):
            return self._first.both(ENDS)
        low, high = torch.aminmax(self.flat)  # the scan passes over NaN
        return float(low), float(high)

    @property
    def absolute_mean(self) -> float:
        """Mean of absolute values."""
        return self._scan_of(ABSOLUTE).total(ABSOLUTE) / self.count

    @property
    def zeros(self) -> float:
        """Share of values that are 0."""
        return self._scan_of(ZEROS).total(ZEROS) / self.count

    def above(self, limit: float) -> float:
        """Return the share of values greater than a limit."""
        known = self._wanted & ABOVE and limit == 0.0
        read = self._first if known else self._scan(ABOVE, limit=limit)
        return read.total(ABOVE) / self.count

    def outside(self, low: float, high: float) -> float:
        """Return the share of values below ``low`` or above ``high``."""
        return self._outside(low, high).total(OUTSIDE) / self.count

    def _outside(self, low: float, high: float) -> Scan:
        """Count the values outside, once for all who ask."""
        if (low, high) == self._limits:
            return self._first
        key = f"outside {low} {high}"
        if key not in vars(self):
            vars(self)[key] = self._scan(OUTSIDE, low=low, high=high)
        scan: Scan = vars(self)[key]
        return scan

    # -- channels: where rows are not one image's channel each, torch reads them

    @computed_once
    def _by_torch(self) -> DeviceReader:
        return DeviceReader(self.wide, self.flat)

    def channel_outside(self, low: float, high: float) -> np.ndarray:
        """Return each channel's share of values below ``low`` or above ``high``, (C,)."""
        if not self._by_image:
            return self._by_torch.channel_outside(low, high).numpy()
        scan = self._outside(low, high)
        return self._per_image(scan.rows[scan.columns[OUTSIDE]]).sum(0) / self._channel_count

    @property
    def _channel_count(self) -> int:
        """Number of values of a channel."""
        return self.count // (self.wide.shape[1] if self.wide.dim() > 1 else 1)

    def _per_image(self, rows: np.ndarray) -> np.ndarray:
        return rows.reshape(self.wide.shape[:2])  # (N C,) -> (N, C)

    @computed_once
    def _image_sums(self) -> ImageSums:
        # (2, N C) -> (2, N, C); copied, for rows are forgotten before sums are
        ones, squares = self._first.rows[:2].reshape(2, *self.wide.shape[:2]).copy()
        return ones, squares

    @property
    def images_at_hand(self) -> ImageSums | None:
        """As ``images`` where they cost nothing more, else None."""
        return self._image_sums if self._by_image else None

    @computed_once
    def images(self) -> ImageSums | None:
        """Sums and sums of squares of each image's channels, (N, C) each; None of vectors."""
        if self._by_image:
            return self._image_sums
        if self.wide.dim() < 3:
            return None
        axes = tuple(range(2, self.wide.dim()))
        norms = torch.linalg.vector_norm(self.wide, dim=axes).double().numpy()
        return self.wide.sum(axes).double().numpy(), norms * norms

    @computed_once
    def _channel_mean(self) -> np.ndarray:
        if self._by_image:
            return self._image_sums[0].sum(0) / self._channel_count
        return self._by_torch.channel_mean.numpy()

    @computed_once
    def channel_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased variance of each channel, (C,) each, in float64."""
        if self._by_image:
            square = self._image_sums[1].sum(0) / self._channel_count
            variance = square - self._channel_mean**2
            if (variance * CANCELS >= square).all():
                return self._channel_mean, variance
        mean, variance = self._by_torch.channel_moments
        return mean.numpy(), variance.numpy()

    @property
    def spread(self) -> tuple[float, float, float]:
        """Mean variance within channels, variance of their means, mean of their squares.

        By the law of total variance, within = all - between, unless that cancels.
        """
        if not math.isfinite(self.moments[0]):
            return math.nan, math.nan, math.nan
        means = self._channel_mean
        between = _variance_of(means)
        within = self.moments[1] - between
        if not within > 1e-2 * between:
            means, variances = self.channel_moments
            between, within = _variance_of(means), float(variances.mean())
        return within, between, float(np.einsum("c,c->", means, means)) / means.size

    @property
    def channel_maximum(self) -> np.ndarray:
        """Greatest value of each channel, (C,)."""
        if not self._by_image or not math.isfinite(self.moments[0]):
            return self._by_torch.channel_maximum.numpy()
        scan = self._scan_of(ENDS)
        return self._per_image(scan.rows[scan.columns[ENDS] + 1]).max(0)


def _nearest(mean: float) -> float:
    """Return the nearest number that float32 holds: distances from it are exact."""
    return float(np.float32(mean))


def _variance_of(values: np.ndarray) -> float:
    c = values - np.add.reduce(values) / values.size
    return float(np.einsum("c,c->", c, c)) / c.size  # matrix products start threads


def column_powers(x: Tensor, centre: np.ndarray) -> np.ndarray:
    """Return the sums of d, d^2 and d^4 of each column, d = x - centre, in float64.

    Parameters
    ----------
    x
        (N, C), on a CPU.
    centre
        (C,), in float64.

    Returns
    -------
    numpy.ndarray
        (3, C).

    Raises
    ------
    ValueError
        If there is not a centre for each column.
    """
    if centre.shape != x.shape[1:]:
        raise ValueError(f"{x.shape[1]} columns need as many centres, got {centre.shape}")
    x = x.resolve_neg()  # memory as it reads
    out = np.empty((3, x.shape[1]))
    if x.is_contiguous() and readable(x):
        where = centre.ctypes.data, out.ctypes.data
        cast(Functions, scanner()).column_powers(x.data_ptr(), *x.shape, *where)
        return out
    d = x.double().numpy() - centre
    squares = d * d
    np.add.reduce(d, 0, out=out[0])
    np.add.reduce(squares, 0, out=out[1])
    np.einsum("nc,nc->c", squares, squares, out=out[2])  # matrix products start threads
    return out
