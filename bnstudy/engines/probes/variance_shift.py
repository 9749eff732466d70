r"""Probe ``variance-shift``: variance of the input of normalization in testing and in training.

Dropout that keeps units with probability p and scales them by 1 / p turns a
unit of mean c and variance v into one of variance (c^2 + v) / p - c^2, in
training only.  So a normalization layer right after it averages a variance that
its input does not have in testing: the ratio is v / ((c^2 + v) / p - c^2).

Source: Li, Chen, Hu & Yang (2019), equation 5 and section 3.2.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.config import Step
from bnstudy.data import batches
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import (
    ALL_CHANNELS,
    ProbedRun,
    ProbedValue,
    ScheduledProbe,
    batch_of,
    random_batch,
    working_copy,
)
from bnstudy.engines.reference import population_statistics
from bnstudy.networks import StreamDropout, norm_layers

TESTED = 1_000


class VarianceShift(ScheduledProbe):
    """Observed and predicted log ratio of variances, of every normalization layer.

    Rows of each layer, ``tensor`` ``in``: ``observed``, the mean over channels of
    log(variance in testing / variance in training), ``predicted`` the same from
    the formula, 0 where no dropout stands right before the layer; and where one
    does, ``slope``: the least-squares slope through the origin of observed on
    predicted over channels.

    In training the layer gets random batches with dropout, in testing the
    population of images in evaluation mode, with population statistics in all
    normalization layers, so that the lag of running averages is not taken for a
    shift by dropout; c and v are those of the dropout layer's input in training.
    Where earlier layers shift as well, this adds to the observed ratio.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure, in epochs done.
    batches
        Number of random training batches, from the probe's own stream.
    """

    def __init__(self, run: ProbedRun, epochs: Sequence[float] = (0,), batches: int = 100) -> None:
        super().__init__(run, epochs)
        self._batches = batches

    def measure(self, step: Step, training: Training) -> Iterator[ProbedValue]:
        """Return the shift at the current weights."""
        rng = self.run.stream(f"variance-shift {step.count}")
        droppers = dropped_by(training.net)
        norms = list(norm_layers(training.net))
        images, size = self.run.splits.train, self.run.config.batch_size
        random = (
            random_batch(rng, len(images), min(size, len(images))) for _ in range(self._batches)
        )
        with working_copy(training.net, rng) as copy:
            inputs = (batch_of(images, where, copy)[0] for where in random)
            trained = _moments(copy.train(), [*norms, *droppers.values()], inputs)
        tested_on = self.run.splits.population
        with working_copy(training.net) as copy, population_statistics(copy, tested_on):
            parts = batches(len(tested_on), TESTED)
            inputs = (batch_of(tested_on, part, copy)[0] for part in parts)
            tested = _moments(copy.eval(), norms, inputs)
        for name in norms:
            observed = _log_ratio(tested[name][1], trained[name][1])
            predicted = np.zeros_like(observed)
            if name in droppers:
                keep = 1.0 - self.run.config.dropout
                predicted = predicted_shift(*trained[droppers[name]], keep)
            yield name, "in", ALL_CHANNELS, "observed", float(observed.mean())
            yield name, "in", ALL_CHANNELS, "predicted", float(predicted.mean())
            if predicted.any():
                yield name, "in", ALL_CHANNELS, "slope", through_origin(predicted, observed)


def predicted_shift(mean: np.ndarray, variance: np.ndarray, keep: float) -> np.ndarray:
    """Return log(v / ((c^2 + v) / p - c^2)) for units of mean c and variance v, (C,) each."""
    return _log_ratio(variance, (mean**2 + variance) / keep - mean**2)


def _log_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(numerator / denominator)


def through_origin(x: np.ndarray, y: np.ndarray) -> float:
    """Return the least-squares slope through the origin of y on x, (n,) each."""
    return float(x @ y / (x @ x))


def dropped_by(net: nn.Module) -> dict[str, str]:
    """Return for each normalization layer right after a dropout layer the latter's name."""
    names = [name for name, _ in net.named_children()]
    return {
        name: before
        for before, name in pairwise(names)
        if name in norm_layers(net) and isinstance(net.get_submodule(before), StreamDropout)
    }


def _moments(
    net: nn.Module, names: list[str], inputs: Iterator[Tensor]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and biased variance of the inputs of layers, (C,) each, over all values."""
    sums: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for name in names:
        net.get_submodule(name).register_forward_pre_hook(partial(_add, sums[name]))
    with torch.no_grad():
        for images in inputs:
            net(images)
    moments = {}
    for name, rows in sums.items():
        count, one, two = np.sum(rows, axis=0)
        moments[name] = one / count, two / count - (one / count) ** 2
    return moments


def _add(rows: list[np.ndarray], _layer: nn.Module, args: tuple[Tensor, ...]) -> None:
    x = args[0].double()
    axes = [axis for axis in range(x.dim()) if axis != 1]
    one, two = x.sum(axes).cpu().numpy(), x.square().sum(axes).cpu().numpy()
    rows.append(np.stack([np.full_like(one, x.numel() / len(one)), one, two]))
