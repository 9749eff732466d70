"""Chance in training: what the reference draws, from the same streams in the same order."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from bnstudy.config import RunConfig, stream
from bnstudy.networks.lenet import LAYERS, norm_layers
from bnstudy.networks.norm import NoisyBatchNorm

UNITS = [LAYERS[name][2] for name in ("fc1", "fc2")]
DRAWN_AT_ONCE = 1 << 24  # random numbers of all networks for one call of a program: 64 MB


class Numbers(NamedTuple):
    """How many random numbers an arm needs.

    Attributes
    ----------
    dropped, noise
        For dropout and for noisy BN, for each image of a network.
    batches_at_once
        Batches that are drawn for together, so that memory is bounded.
    """

    dropped: int
    noise: int
    batches_at_once: int


def numbers_of(config: RunConfig, nets: Sequence[nn.Module]) -> Numbers:
    """Return how many random numbers a stack of networks of an arm needs."""
    # the dropped layers in order, as in networks.lenet: after fc1, unless only the last, and fc2
    units = UNITS[1:] if config.dropout_placement == "after-last-norm" else UNITS
    dropped = sum(units) if config.dropout else 0
    noise = 2 * sum(layer.num_features for layer in _noisy(nets[0]))
    a_batch = config.batch_size * max(dropped, noise) * len(nets)
    return Numbers(dropped, noise, max(1, DRAWN_AT_ONCE // a_batch) if a_batch else sys.maxsize)


def _noisy(net: nn.Module) -> list[NoisyBatchNorm]:
    return [layer for layer in norm_layers(net).values() if isinstance(layer, NoisyBatchNorm)]


class Chance:
    """The random numbers of a stack.

    Parameters
    ----------
    config
        The arm.
    seeds
        K of them.
    nets
        Of the seeds; noisy layers have their streams.
    """

    def __init__(self, config: RunConfig, seeds: Sequence[int], nets: Sequence[nn.Module]) -> None:
        self.numbers = numbers_of(config, nets)
        self._dropout = [stream(seed, "dropout") for seed in seeds]
        self._noisy = [_noisy(net) for net in nets]

    def draw(self, sizes: Sequence[int]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Draw for batches of these sizes; return ``draws`` and ``noise`` of ``Program.train``."""
        draws = noise = None
        if self.numbers.dropped:
            # one call gives the numbers of one call for each batch and layer
            shape = len(self._dropout), self.numbers.dropped * sum(sizes)
            draws = np.empty(shape, np.float32)
            for row, rng in zip(draws, self._dropout, strict=True):
                rng.random(out=row, dtype=np.float32)
        if self.numbers.noise:
            drawn = [
                np.concatenate(
                    [part.ravel() for n in sizes for layer in each for part in layer.draw(n)]
                )
                for each in self._noisy
            ]
            noise = np.stack(drawn)
        return draws, noise
