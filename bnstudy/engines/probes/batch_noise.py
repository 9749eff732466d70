"""Probe ``batch-noise``: variation of the mean and SD of random batches, by batch size.

For one channel of a normalization layer's input let mu_B and s_B be mean and
biased SD of a batch, and s the SD over all values of all batches of this size.
The noise of the mean is the SD of mu_B over batches in units of s, that of the
SD is the SD of s_B over its mean.  For n independent values in a batch the first is
1 / sqrt(n), and 1 / sqrt(2 n) the second if they are Gaussian; so both fall as
B^(-1/2) if every image amounts to the same number of values (Luo et al. 2019).

Batches run in training mode, so that a layer after another normalization gets
the same kind of input as in training, normalized by the moments of its own batch.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor

from bnstudy.activations import Population, population
from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import (
    ALL_CHANNELS,
    ProbedRun,
    ProbedValue,
    ScheduledProbe,
    batch_of,
    random_batch,
)
from bnstudy.errors import ConfigError

SIZES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
NOISES = ("mean_noise", "sd_noise")
SHARE = 8  # batches above 1 / 8 of the images overlap too much to vary as independent ones do


class BatchNoise(ScheduledProbe):
    """Noise of batch mean and batch SD, of every normalization layer.

    Rows of each layer, ``tensor`` ``in``, root mean square over channels:
    ``mean_noise_4``, ``sd_noise_4``, ... for every batch size, unitless;
    ``effective_4``, ...: the number of independent values an image amounts to,
    1 / (B mean_noise^2); and ``mean_slope``, ``sd_slope``: slopes of the
    logarithm of noise on that of batch size.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure, in epochs done.
    sizes
        Batch sizes; those above an eighth of the training images are left out.
    batches
        Number of random batches of each size, from the probe's own stream.

    Raises
    ------
    ConfigError
        If there are fewer than two batches, or fewer than two sizes.
    """

    def __init__(
        self,
        run: ProbedRun,
        epochs: Sequence[float] = (0,),
        sizes: Sequence[int] = SIZES,
        batches: int = 64,
    ) -> None:
        super().__init__(run, epochs)
        most = len(run.splits.train) // SHARE
        self._sizes, self._batches = [size for size in sizes if size <= most], batches
        if len(self._sizes) < 2 or batches < 2:
            raise ConfigError(
                f"batch noise needs two batches or more of two sizes up to {most}, an eighth of "
                f"the training images, got {batches} of {list(sizes)}"
            )

    def measure(self, step: Step, training: Training) -> Iterator[ProbedValue]:
        """Return the noise at the current weights."""
        rng = self.run.stream(f"batch-noise {step.count}")
        noises: dict[str, list[tuple[float, float]]] = {}
        for size in self._sizes:
            for layer, moments in population(
                training.net, self._random_batches(rng, size, training), batches=self._batches
            ).items():
                noise = noise_of(moments)
                noises.setdefault(layer, []).append(noise)
                for name, value in zip(NOISES, noise, strict=True):
                    yield layer, "in", ALL_CHANNELS, f"{name}_{size}", value
                effective = 1.0 / (size * noise[0] ** 2) if noise[0] else np.nan
                yield layer, "in", ALL_CHANNELS, f"effective_{size}", effective
        for layer, values in noises.items():
            for name, column in zip(("mean", "sd"), zip(*values, strict=True), strict=True):
                yield layer, "in", ALL_CHANNELS, f"{name}_slope", log_slope(self._sizes, column)

    def _random_batches(
        self, rng: np.random.Generator, size: int, training: Training
    ) -> Iterator[Tensor]:
        images = self.run.splits.train
        for _ in range(self._batches):
            yield batch_of(images, random_batch(rng, len(images), size), training.net)[0]


def noise_of(moments: Population) -> tuple[float, float]:
    """Return the noise of batch mean and batch SD: rms over the channels that are not constant."""
    live = moments.variance > 0
    deviations = np.sqrt(moments.variances[:, live])
    of_mean = moments.means[:, live].std(0, ddof=1) / np.sqrt(moments.variance[live])
    of_sd = deviations.std(0, ddof=1) / deviations.mean(0)
    return _rms(of_mean), _rms(of_sd)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean())) if values.size else float("nan")


def log_slope(sizes: Iterable[float], noise: Iterable[float]) -> float:
    """Return the least-squares slope of log noise on log size; NaN if a noise is not positive."""
    x, y = np.log(np.array(list(sizes), dtype=float)), np.array(list(noise), dtype=float)
    if not (y > 0).all():
        return float("nan")
    x = x - x.mean()
    return float(x @ np.log(y) / (x @ x))
