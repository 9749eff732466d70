r"""Probe ``variance-shift``: the variance that normalization meets in testing and in training.

Dropout that keeps units with probability p and scales them by 1 / p turns a
unit of mean c and variance v into one of variance (c^2 + v) / p - c^2, in
training only.  So a normalization layer right behind it learns a variance that
it does not meet in testing: the ratio is v / ((c^2 + v) / p - c^2).

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
from bnstudy.engines.probes.base import WHOLE, Moments, Scene, Seen, batch_of, random_batch, twin_of
from bnstudy.engines.reference import population_statistics
from bnstudy.networks.lenet import StreamDropout, norm_layers

TESTED = 1_000


class VarianceShift(Moments):
    """Observed and predicted log ratio of variances, of every normalization layer.

    Rows of each layer, ``tensor`` ``in``: ``observed``, the mean over channels of
    log(variance in testing / variance in training), ``predicted`` the same from
    the formula, 0 where no dropout stands right before the layer; and where one
    does, ``slope``: the least-squares slope through the origin of observed on
    predicted over channels.

    In training the layer sees random batches with dropout, in testing the same
    population of images in evaluation mode, with population statistics in all
    normalization layers, so that the lag of running averages is not taken for a
    shift by dropout; c and v are those of the dropout layer's input in training.
    Where layers further up shift as well, this adds to what is observed.

    Parameters
    ----------
    scene
        The run.
    epochs
        When to look.
    batches
        How many random training batches, from a stream of the probe's own.
    """

    def __init__(self, scene: Scene, epochs: Sequence[float] = (0,), batches: int = 100) -> None:
        super().__init__(scene, epochs)
        self._batches = batches

    def look(self, step: Step, training: Training) -> Iterator[Seen]:
        """Return the shift at the weights of now."""
        rng = self.scene.stream(f"variance-shift {step.count}")
        droppers = dropped_by(training.net)
        norms = list(norm_layers(training.net))
        images, size = self.scene.splits.train, self.scene.config.batch_size
        random = (
            random_batch(rng, len(images), min(size, len(images))) for _ in range(self._batches)
        )
        with twin_of(training.net, rng) as twin:
            inputs = (batch_of(images, where, twin)[0] for where in random)
            trained = _moments(twin.train(), [*norms, *droppers.values()], inputs)
        tested_on = self.scene.splits.population
        with twin_of(training.net) as twin, population_statistics(twin, tested_on):
            parts = batches(len(tested_on), TESTED)
            inputs = (batch_of(tested_on, part, twin)[0] for part in parts)
            tested = _moments(twin.eval(), norms, inputs)
        for name in norms:
            observed = _log_ratio(tested[name][1], trained[name][1])
            predicted = np.zeros_like(observed)
            if name in droppers:
                keep = 1.0 - self.scene.config.dropout
                predicted = predicted_shift(*trained[droppers[name]], keep)
            yield name, "in", WHOLE, "observed", float(observed.mean())
            yield name, "in", WHOLE, "predicted", float(predicted.mean())
            if predicted.any():
                yield name, "in", WHOLE, "slope", through_origin(predicted, observed)


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
    """Return normalization layer to the dropout layer right before it, where there is one."""
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
