"""A float32 tensor on a CPU, read by compiled code.

A row is one image's channel where memory has such rows, else the whole tensor.  The
variance is mean(x^2) - mean(x)^2 unless that cancels, and then taken about the mean, less
what is left of that (shifted data; Chan, Golub & LeVeque 1983).
"""

import math

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.reading.compiled_functions import (
    ABOVE,
    ABSOLUTE,
    ENDS,
    HIGHER,
    MOMENTS,
    OUTSIDE,
    SAMPLES,
    ZEROS,
    Scan,
    bits_of,
)
from bnstudy.activations.reading.device_reader import DeviceReader
from bnstudy.activations.reading.reader import ImageSums, computed_once

NARROW = 16  # values of a row: with fewer, rows cost more than they save
FAR = 20.0  # standard deviations from 0 at which the mean is taken off before powers are
# Sums of float32 numbers in float64 keep the variance to 1e-10 up to here.
CANCELS = 1e6


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
        """Return a sample of a size that was announced, which the first pass took."""
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
