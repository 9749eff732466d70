"""A float32 tensor on a CPU, read by compiled code: see ``cpp/rows.cpp``.

torch and numpy go through a tensor once for each sum, and write down what they square;
here a row stays in the nearest cache while all that is wanted is read off it, in float64.
Without a C++ compiler, and for float64, :class:`~bnstudy.activations.rows.Rows` does the
same in 1.1 to 2.3 times the time.  One thread does the work.
"""

import ctypes
import math
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.lazy import Lazy
from bnstudy.activations.rows import Needs, Rows, needs
from bnstudy.compiling import compiled

SOURCE = Path(__file__).parent / "cpp" / "rows.cpp"
MOMENTS, HIGHER, ENDS, ABSOLUTE, ZEROS, ABOVE, OUTSIDE = (1 << bit for bit in range(7))
COLUMNS = {MOMENTS: 2, HIGHER: 2, ENDS: 2, ABSOLUTE: 1, ZEROS: 1, ABOVE: 1, OUTSIDE: 1}
NARROW = 16  # values of a row, below which rows cost more than they save
FAR = 20.0  # standard deviations from 0 at which the mean is taken off before powers are


@cache
def scanner() -> Callable[..., None] | None:
    """Return the compiled function, or None where it cannot be had."""
    library, _ = compiled(SOURCE)
    if library is None:
        return None
    scan: Any = library.scan
    scan.restype = None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    limits = [ctypes.c_float] * 3
    scan.argtypes = [pointer, count, count, ctypes.c_int32, ctypes.c_double, *limits, pointer]
    return scan


def rows_of(
    wide: Tensor,
    flat: Tensor,
    wanted: Collection[str] = (),
    limits: tuple[float, float] | None = None,
) -> Rows:
    """Return the statistics of a tensor on a CPU, by compiled code if possible.

    Parameters
    ----------
    wide, flat, wanted
        As :class:`~bnstudy.activations.rows.Rows` takes them.
    limits
        Between which the share of values will be asked for, if any.
    """
    readable = type(wide) is Tensor and wide.dtype == torch.float32
    if readable and scanner() is not None and flat.data_ptr():  # some tensors have no memory
        return Scanned(wide, flat, wanted, limits)
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
    """

    __slots__ = ("places", "rows", "totals")

    def __init__(self, flat: Tensor, width: int, wanted: int, *limits: float) -> None:
        self.places = places_of(wanted)
        columns, count = self.places[0], flat.numel() // width
        out = np.empty(columns * (count + 1))
        scan = cast(Callable[..., None], scanner())  # else there are Rows
        scan(flat.data_ptr(), count, width, wanted, *limits, out.ctypes.data)
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
    ) -> None:
        self.wide, self.flat, self.count = wide, flat, flat.numel()
        self._needs, self._limits = needs(tuple(wanted)), limits
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
    ) -> Scan:
        return Scan(self.flat, self._width, wanted, centre, limit, low, high)

    @Lazy
    def _read(self) -> Scan:
        """What the labels need, in one way through."""
        bits = bits_of(self._needs)
        if self._limits is None:
            return self._scan(bits)
        low, high = self._limits
        return self._scan(bits | OUTSIDE, low=low, high=high)

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
