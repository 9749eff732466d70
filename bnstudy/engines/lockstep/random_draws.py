"""Random numbers of a stack: those of the reference, from the same streams in the same order."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from bnstudy.config import RunConfig, stream
from bnstudy.networks import dropped_units, norm_layers
from bnstudy.networks.norm import NoisyBatchNorm

DRAWN_AT_ONCE = 1 << 24  # random numbers of all networks for one call of a program: 64 MB


class DrawCounts(NamedTuple):
    """Numbers of random draws of an arm.

    Attributes
    ----------
    dropout, noise
        Draws for dropout and for noisy BN, per image of a network.
    batches_at_once
        Batches that are drawn for in one call, so that memory is bounded.
    """

    dropout: int
    noise: int
    batches_at_once: int


def draw_counts(config: RunConfig, nets: Sequence[nn.Module]) -> DrawCounts:
    """Return how many random numbers a stack of networks of an arm needs."""
    dropout = dropped_units(nets[0])
    noise = 2 * sum(layer.num_features for layer in _noisy(nets[0]))  # a scale and a shift each
    per_batch = config.batch_size * max(dropout, noise) * len(nets)
    at_once = max(1, DRAWN_AT_ONCE // per_batch) if per_batch else sys.maxsize
    return DrawCounts(dropout, noise, at_once)


def _noisy(net: nn.Module) -> list[NoisyBatchNorm]:
    return [layer for layer in norm_layers(net).values() if isinstance(layer, NoisyBatchNorm)]


class RandomDraws:
    """Random numbers of a stack, drawn batch by batch.

    Parameters
    ----------
    config
        The arm.
    seeds
        The K seeds.
    nets
        One per seed; their noisy layers hold the noise streams.
    """

    def __init__(self, config: RunConfig, seeds: Sequence[int], nets: Sequence[nn.Module]) -> None:
        self.counts = draw_counts(config, nets)
        self._dropout = [stream(seed, "dropout") for seed in seeds]
        self._noisy = [_noisy(net) for net in nets]

    def draw(self, sizes: Sequence[int]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Draw for batches of these sizes; return ``draws`` and ``noise`` of ``Program.train``."""
        draws = noise = None
        if self.counts.dropout:
            # one long draw gives the same numbers as one draw per batch and layer
            shape = len(self._dropout), self.counts.dropout * sum(sizes)
            draws = np.empty(shape, np.float32)
            for of_seed, rng in zip(draws, self._dropout, strict=True):
                rng.random(out=of_seed, dtype=np.float32)
        if self.counts.noise:
            # not one long draw: uniform and normal numbers alternate in a noise stream
            drawn = [
                [values.ravel() for n in sizes for layer in layers for values in layer.draw(n)]
                for layers in self._noisy
            ]
            noise = np.stack([np.concatenate(values) for values in drawn])
        return draws, noise
