"""The compiled functions that read float32 tensors on a CPU: see ``cpp/rows.cpp``.

torch and numpy go through a tensor once for each sum, and store what they square;
here a row stays in the nearest cache while all sums that are wanted are taken, in float64.
One thread does the work.  C++ reads and writes where it is told to, so all that it is given
is checked here first.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.reading.reader import stride
from bnstudy.compiling import compiled
from bnstudy.errors import WatchError

SOURCE = Path(__file__).parent / "cpp" / "rows.cpp"
MOMENTS, HIGHER, ENDS, ABSOLUTE, ZEROS, ABOVE, OUTSIDE = (1 << bit for bit in range(7))
LABEL_BITS = {
    "min": ENDS, "max": ENDS, "abs_mean": ABSOLUTE, "zeros": ZEROS, "skew": HIGHER,
    "kurtosis": HIGHER, "active": ABOVE,
}  # fmt: skip
COLUMNS = {MOMENTS: 2, HIGHER: 2, ENDS: 2, ABSOLUTE: 1, ZEROS: 1, ABOVE: 1, OUTSIDE: 1}
SAMPLES = 4  # taken in one pass at most, as in rows.cpp
LIMITS = 4  # the centre of the moments, the limit of ABOVE, and both of OUTSIDE


class Functions(NamedTuple):
    """The compiled functions."""

    scan: Callable[..., None]
    column_powers: Callable[..., None]


@cache
def scanner() -> Functions | None:
    """Return the compiled functions, or None where they are unavailable.

    Raises
    ------
    WatchError
        If the library was compiled from another version of the source.
    """
    library, _ = compiled(SOURCE)
    if library is None:
        return None
    library.scan_constants.restype = ctypes.POINTER(ctypes.c_int32)
    constants = library.scan_constants()
    for position, value in enumerate((SAMPLES, *COLUMNS, -1)):  # up to the first difference
        if constants[position] != value:
            raise WatchError(
                "the compiled reader and this version of bnstudy differ (constant "
                f"{position} is {constants[position]}, not {value}): delete the folder 'kernels' "
                "of bnstudy's cache, and it is compiled again"
            )
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
    """Steps and positions of the samples of a tensor.

    Attributes
    ----------
    steps
        (samples,), from value to value.
    parts
        Slice of each sample in an array that holds one after the other.
    total
        Number of values of all samples.
    """

    steps: np.ndarray
    parts: tuple[slice, ...]
    total: int


@lru_cache(maxsize=1024)
def strides_of(count: int, sizes: tuple[int, ...]) -> Strides:
    """Return steps and positions for samples of some sizes out of so many values."""
    steps = [stride(count, size) for size in sizes]
    ends = [0, *accumulate(-(-count // step) for step in steps)]
    return Strides(np.array(steps, dtype=np.int64), tuple(map(slice, ends, ends[1:])), ends[-1])


class Scan:
    """Result of one pass through a tensor.

    Parameters
    ----------
    flat
        (n,), contiguous, of float32 on a CPU, with at least one value.
    width
        Values of a row, of which n is a multiple.
    wanted
        Bits of what to read.
    limits
        The centre of the moments, the limit of ``ABOVE``, and both of ``OUTSIDE``.
    sizes
        Of the samples to take, at most :data:`SAMPLES`.

    Raises
    ------
    ValueError
        If an argument is of another kind.

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
        _check_scan(flat, width, wanted, limits, sizes)
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


def _check_scan(
    flat: Tensor, width: int, wanted: int, limits: Sequence[float], sizes: tuple[int, ...]
) -> None:
    if flat.dtype is not torch.float32 or flat.device.type != "cpu" or flat.dim() != 1:
        found = f"{flat.dtype} {tuple(flat.shape)} on {flat.device}"
        raise ValueError(f"a scan reads a flat float32 tensor on a CPU, got {found}")
    if not flat.is_contiguous() or flat.is_neg():
        raise ValueError("a scan reads contiguous memory, got a strided or negated view")
    count = flat.numel()
    if not count or width < 1 or count % width:
        raise ValueError(f"rows of equal width hold all values, got {count} in rows of {width}")
    if wanted not in range(1, 2 * OUTSIDE) or (wanted & HIGHER and not wanted & MOMENTS):
        raise ValueError(f"wanted is a sum of bits, and higher moments need moments, got {wanted}")
    if len(limits) != LIMITS or len(sizes) > SAMPLES or min(sizes, default=1) < 1:
        raise ValueError(
            f"a scan takes {LIMITS} limits and at most {SAMPLES} samples of at least 1 value, "
            f"got {len(limits)} and sizes {sizes}"
        )


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
        If x is no matrix on a CPU, or there is not a centre for each column.
    """
    if x.dim() != 2 or x.device.type != "cpu":
        raise ValueError(f"columns are of a matrix on a CPU, got {tuple(x.shape)} on {x.device}")
    if centre.shape != x.shape[1:]:
        raise ValueError(f"{x.shape[1]} columns need as many centres, got {centre.shape}")
    centre = np.ascontiguousarray(centre, np.float64)
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
