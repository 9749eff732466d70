r"""Probe ``uncertainty``: are predictions averaged over batch statistics better calibrated?

At fixed weights the network predicts probabilities for test images with three kinds
of statistics: ``running`` averages; those of the ``population``; and ``batches``,
the mean of the probabilities over T random training batches, each of which provides
the statistics once (Teye, Azizpour & Smith 2018, algorithm 1).

======  ==============================================================================
nll     mean of -log p(true class), natural logarithm
brier   mean of sum_k (p_k - [k is true])^2, 0..2
ece     expected calibration error: |share correct - mean confidence| of 15 equal bins
        of confidence, weighted by their images (Guo et al. 2017)
======  ==============================================================================
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.activations.batchnorm.moments import batch_moments
from bnstudy.config import Step
from bnstudy.data import Images, batches
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import (
    ALL_CHANNELS,
    NETWORK,
    ProbedRun,
    ProbedValue,
    ScheduledProbe,
    batch_of,
    random_batch,
    working_copy,
)
from bnstudy.engines.reference import population_statistics
from bnstudy.networks.norm import has_running_statistics, set_running_statistics

BINS = 15
TESTED = 250  # images at once, which stay in the cache
SMALLEST = 1e-12  # of a probability, so that its logarithm is finite


class Uncertainty(ScheduledProbe):
    """Scores of predicted probabilities on test images.

    Rows of the layer ``network``; ``tensor`` names the statistics.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure; the end of the run if not given.
    batches
        Number T of random training batches, of the run's size, from the probe's
        own stream.
    """

    def __init__(self, run: ProbedRun, epochs: Sequence[float] = (), batches: int = 32) -> None:
        super().__init__(run, epochs or (run.config.epochs,))
        self._batches = batches

    def measure(self, step: Step, training: Training) -> Iterator[ProbedValue]:
        """Return the scores at the current weights."""
        test = self.run.splits.test
        labels = test.labels.numpy()
        rng = self.run.stream(f"uncertainty {step.count}")
        with working_copy(training.net, rng) as copy, torch.no_grad():
            found = {"running": probabilities(copy.eval(), test)}
            with population_statistics(copy, self.run.splits.population):
                found["population"] = probabilities(copy.eval(), test)
            found["batches"] = self._over_batches(copy, test, rng)
        for kind, p in found.items():
            for stat, value in scores(p, labels).items():
                yield NETWORK, kind, ALL_CHANNELS, stat, value

    def _over_batches(self, copy: nn.Module, test: Images, rng: np.random.Generator) -> np.ndarray:
        train, size = self.run.splits.train, self.run.config.batch_size
        total = np.zeros((len(test), 1))
        for _ in range(self._batches):
            where = random_batch(rng, len(train), min(size, len(train)))
            take_statistics(copy, batch_of(train, where, copy)[0])
            total = total + probabilities(copy.eval(), test)
        return total / self._batches


def take_statistics(net: nn.Module, images: Tensor) -> None:
    """Make the statistics of one training batch the running ones: changes the buffers."""
    moments: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    layers = [layer for layer in net.modules() if has_running_statistics(layer)]
    handles = [layer.register_forward_hook(partial(_note, moments)) for layer in layers]
    net.train()(images)
    for handle in handles:
        handle.remove()
    for layer, (mean, var) in moments.items():
        set_running_statistics(layer, mean, var)


def _note(
    moments: dict[nn.Module, tuple[Tensor, Tensor]],
    layer: nn.Module,
    args: tuple[Tensor, ...],
    output: Tensor,
) -> None:
    mean, var = batch_moments(layer, args, output)
    moments[layer] = mean.to(output.dtype), var.to(output.dtype)


def probabilities(net: nn.Module, images: Images) -> np.ndarray:
    """Return the predictions of a network in its current mode: float64 (n, classes)."""
    with torch.no_grad():
        parts = [
            net(batch_of(images, part, net)[0]).double().softmax(1).cpu().numpy()
            for part in batches(len(images), TESTED)
        ]
    return np.concatenate(parts)


def scores(p: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return negative log-likelihood, Brier score, calibration error and accuracy.

    Parameters
    ----------
    p
        (n, classes), rows sum to 1.
    labels
        (n,) true classes.
    """
    true = p[np.arange(len(p)), labels]
    right = (p.argmax(1) == labels).astype(float)
    return {
        "nll": float(-np.log(np.maximum(true, SMALLEST)).mean()),
        "brier": float(((p**2).sum(1) - 2 * true + 1).mean()),
        "ece": calibration_error(p.max(1), right),
        "accuracy": float(right.mean()),
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error of confidences (n,) in 0..1 and hits (n,)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)  # a confidence of 1 is in the last
    # the sum over a bin of hits minus confidences: its weight times its difference of means
    differences = np.bincount(bins, right - confidence, minlength=BINS)
    return float(np.abs(differences).sum() / len(confidence))
