"""A float32 tensor on a CPU, read by compiled code: see ``cpp/rows.cpp``.

torch and numpy go through a tensor once for each sum, and write down what they square;
here a row stays in the nearest cache while all that is wanted is read off it, in float64.
Without a C++ compiler, and for float64, :class:`~bnstudy.activations.rows.Rows` does the
same in more time.  One thread does the work.
"""

import ctypes
import math
from collections.abc import Callable, Collection
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.lazy import Lazy
from bnstudy.activations.rows import Needs, Rows, needs, stride
from bnstudy.compiling import compiled

SOURCE = Path(__file__).parent / "cpp" / "rows.cpp"
MOMENTS, HIGHER, ENDS, ABSOLUTE, ZEROS, ABOVE, OUTSIDE = (1 << bit for bit in range(7))
COLUMNS = {MOMENTS: 2, HIGHER: 2, ENDS: 2, ABSOLUTE: 1, ZEROS: 1, ABOVE: 1, OUTSIDE: 1}
NARROW = 16  # values of a row, below which rows cost more than they save
SAMPLES = 4  # taken on the way at most
FAR = 20.0  # standard deviations from 0 at which the mean is taken off before powers are


class Functions(NamedTuple):
    """The compiled functions."""

    scan: Callable[..., None]
    column_powers: Callable[..., None]


@cache
def scanner() -> Functions | None:
    """Return the compiled functions, or None where they cannot be had."""
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


def rows_of(
    wide: Tensor,
    flat: Tensor,
    wanted: Collection[str] = (),
    limits: tuple[float, float] | None = None,
    samples: tuple[int, ...] = (),
) -> Rows:
    """Return the statistics of a tensor on a CPU, by compiled code if possible.

    Parameters
    ----------
    wide, flat, wanted
        As :class:`~bnstudy.activations.rows.Rows` takes them.
    limits
        Between which the share of values will be asked for, if any.
    samples
        Sizes of the samples that will be asked for.
    """
    if type(wide) is Tensor and readable(flat):
        return Scanned(wide, flat, wanted, limits, samples)
    return Rows(wide, flat, wanted)


@cache
def places_of(wanted: int) -> dict[int, int]:
    """Return the first column of each thing that is wanted, and under 0 how many there are."""
    places, start = {}, 0
    for bit, count in COLUMNS.items():
        if wanted & bit:
            places[bit] = start
            start += count
    return {**places, 0: start}


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
    """What one way through a tensor gave.

    Attributes
    ----------
    places
        The first column of each thing that was wanted.
    rows
        (columns, rows), in float64.
    totals
        Of all rows, for each column.
    samples
        Those that were asked for, by their size, each evenly spaced.
    """

    __slots__ = ("places", "rows", "samples", "totals")

    def __init__(
        self, flat: Tensor, width: int, wanted: int, *limits: float, sizes: tuple[int, ...] = ()
    ) -> None:
        self.places = places_of(wanted)
        columns, count = self.places[0], flat.numel() // width
        out = np.empty(columns * (count + 1))
        strides = strides_of(flat.numel(), sizes)
        taken = np.empty(strides.total, dtype=np.float32)
        self.samples = {size: taken[at] for size, at in zip(sizes, strides.parts, strict=True)}
        scan = cast(Functions, scanner()).scan  # else there are Rows
        where = out.ctypes.data, strides.steps.ctypes.data, len(sizes), taken.ctypes.data
        scan(flat.data_ptr(), count, width, wanted, *limits, *where)
        self.rows = out[: columns * count].reshape(columns, count)
        self.totals: list[float] = out[columns * count :].tolist()

    def total(self, bit: int) -> float:
        """Return the total of a thing of one column."""
        return self.totals[self.places[bit]]

    def both(self, bit: int) -> tuple[float, float]:
        """Return the totals of a thing of two columns."""
        place = self.places[bit]
        return self.totals[place], self.totals[place + 1]


@cache
def bits_of(needs: Needs) -> int:
    """Return what to read for some needs."""
    flags = {
        ENDS: needs.ends,
        ABSOLUTE: needs.absolute,
        ZEROS: needs.zeros,
        HIGHER: needs.higher,
        ABOVE: needs.active,
    }
    return MOMENTS | sum(bit for bit, wanted in flags.items() if wanted)


class Scanned(Rows):
    """As its base; a row is one image's channel where memory has such rows, else everything."""

    # Sums of float32 numbers in float64 keep the variance to 1e-10 up to here.
    cancels = 1e6

    def __init__(
        self,
        wide: Tensor,
        flat: Tensor,
        wanted: Collection[str] = (),
        limits: tuple[float, float] | None = None,
        samples: tuple[int, ...] = (),
    ) -> None:
        self.wide, self.flat, self.count = wide, flat, flat.numel()
        self._needs, self._limits, self._samples = needs(tuple(wanted)), limits, samples[:SAMPLES]
        places = math.prod(wide.shape[2:]) if wide.dim() > 2 and wide.is_contiguous() else 0
        self._by_image = places if places >= NARROW else 0
        self._width = self._by_image or self.count

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

    @Lazy
    def _read(self) -> Scan:
        """What the labels need, in one way through."""
        bits = bits_of(self._needs)
        if self._limits is None:
            return self._scan(bits, sizes=self._samples)
        low, high = self._limits
        return self._scan(bits | OUTSIDE, low=low, high=high, sizes=self._samples)

    def sampled(self, size: int) -> np.ndarray | None:
        """Return a sample of a size that was announced, which was taken on the way."""
        return self._read.samples[size] if size in self._samples else None

    def keep(self) -> bool:
        """Find all that was announced, and whether nothing else of it needs the tensor."""
        if self._needs.higher:
            _ = self.higher
        return math.isfinite(self.moments[0])

    def let_go(self) -> None:
        """Forget the tensor and its rows; totals stay."""
        for name in ("_image_sums", "_whole"):
            vars(self).pop(name, None)
        del self.wide, self.flat, self._read.rows

    def _sums(self) -> tuple[float, float]:
        return self._read.both(MOMENTS)

    def _sums_about(self, centre: float) -> tuple[float, float]:
        return self._scan(MOMENTS, centre).both(MOMENTS)

    @Lazy
    def higher(self) -> tuple[float, float]:
        """Third and fourth moment of (x - mean) / std; NaN where std is 0."""
        mean, variance = self.moments
        if not variance > 0.0:
            return math.nan, math.nan
        deviation = math.sqrt(variance)
        if self._needs.higher and abs(mean) < FAR * deviation:
            centre, read = 0.0, self._read
        else:
            centre = self._near(mean)
            read = self._scan(MOMENTS | HIGHER, centre)
        cubes, fourths = read.both(HIGHER)
        third, fourth = cubes / self.count / deviation**3, fourths / self.count / deviation**4
        return self._moved((mean - centre) / deviation, third, fourth)

    @property
    def extremes(self) -> tuple[float, float]:
        """Least and greatest value; NaN if any value is."""
        if self._needs.ends and math.isfinite(self.moments[0]):
            return self._read.both(ENDS)
        low, high = torch.aminmax(self.flat)
        return float(low), float(high)

    @property
    def absolute_mean(self) -> float:
        """Mean of absolute values."""
        read = self._read if self._needs.absolute else self._scan(ABSOLUTE)
        return read.total(ABSOLUTE) / self.count

    @property
    def zeros(self) -> float:
        """Share of values that are 0."""
        read = self._read if self._needs.zeros else self._scan(ZEROS)
        return read.total(ZEROS) / self.count

    def above(self, limit: float) -> float:
        """Return the share of values greater than a limit."""
        known = self._needs.active and limit == 0.0
        read = self._read if known else self._scan(ABOVE, limit=limit)
        return read.total(ABOVE) / self.count

    def outside(self, low: float, high: float) -> float:
        """Return the share of values below ``low`` or above ``high``."""
        return self._outside(low, high).total(OUTSIDE) / self.count

    def _outside(self, low: float, high: float) -> Scan:
        """Count the values outside, once for all who ask."""
        if (low, high) == self._limits:
            return self._read
        key = f"rows outside {low} {high}"
        if key not in vars(self):
            vars(self)[key] = self._scan(OUTSIDE, low=low, high=high)
        return vars(self)[key]

    def _channel_outside(self, low: float, high: float) -> np.ndarray:
        if not self._by_image:
            return super()._channel_outside(low, high)
        read = self._outside(low, high)
        return self._of_images(read.rows[read.places[OUTSIDE]]).sum(0) / self._each

    @Lazy
    def _image_sums(self) -> tuple[np.ndarray, np.ndarray]:
        ones, squares = self._read.rows[:2].reshape(2, *self.wide.shape[:2]).copy()
        return ones, squares

    def _in_range(self, square: np.ndarray | float) -> bool:
        return True

    @property
    def channel_maximum(self) -> np.ndarray:
        """Greatest value of each channel, (C,)."""
        if not self._by_image or not math.isfinite(self.moments[0]):
            return super().channel_maximum
        read = self._read if self._needs.ends else self._scan(ENDS)
        return self._of_images(read.rows[read.places[ENDS] + 1]).max(0)


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
