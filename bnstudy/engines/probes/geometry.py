r"""Probe ``geometry``: whether the outputs of layers still distinguish images.

Of a layer's outputs on N fixed images, a matrix A of N rows a_i with mean row m:

=================  ==============================================================
varying_share      sum |a_i - m|^2 / sum |a_i|^2: 0 if the layer is constant, 1 if
                   every unit has mean 0
cosine             mean of a_i . a_j / (|a_i| |a_j|) over pairs i != j: 1 if all
                   images point the same way
stable_rank        |A|_F^2 / |A|_2^2: number of directions that share the energy
centred_rank       the same of a_i - m: number that share the variation
=================  ==============================================================

The matrix norms are those of Frobenius and the spectral one.  Sources:
Daneshmand et al. (2020) on ranks, Labatie (2019) on shares.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor, nn

from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import (
    ALL_CHANNELS,
    ProbedRun,
    ProbedValue,
    ScheduledProbe,
    batch_of,
    working_copy,
)
from bnstudy.errors import find
from bnstudy.networks import activation_layers


class Geometry(ScheduledProbe):
    """Shares, cosines and ranks of layers' outputs, in training mode; ``tensor`` ``out``.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure, in epochs done.
    layers
        By name; by default all activations.
    images
        Number of training images, the first ones: the same for every seed.
    """

    def __init__(
        self,
        run: ProbedRun,
        epochs: Sequence[float] = (0,),
        layers: Sequence[str] = (),
        images: int = 256,
    ) -> None:
        super().__init__(run, epochs)
        self._layers, self._images = tuple(layers), images

    def measure(self, step: Step, training: Training) -> Iterator[ProbedValue]:
        """Return the geometry at the current weights."""
        outputs: dict[str, Tensor] = {}
        with working_copy(training.net) as copy, torch.no_grad():
            modules = dict(copy.named_children())
            for name in self._layers or activation_layers(copy):
                module = find("layer", name, modules)
                module.register_forward_hook(partial(_keep, outputs, name))
            copy.train()(batch_of(self.run.splits.train, slice(self._images), copy)[0])
        for name, output in outputs.items():
            for stat, value in geometry_of(output.flatten(1).double().cpu().numpy()).items():
                yield name, "out", ALL_CHANNELS, stat, value


def _keep(
    outputs: dict[str, Tensor], name: str, _layer: nn.Module, _args: object, out: Tensor
) -> None:
    outputs[name] = out


def geometry_of(A: np.ndarray) -> dict[str, float]:
    """Return the statistics of this module's table for a matrix (N, units), N at least 2.

    NaN where the divisor is 0, and if a value is not finite.
    """
    stats = ("varying_share", "cosine", "stable_rank", "centred_rank")
    lengths = np.linalg.norm(A, axis=1)
    if not np.isfinite(A).all() or not lengths.any():
        return dict.fromkeys(stats, float("nan"))
    centred = A - A.mean(0)
    with np.errstate(invalid="ignore"):
        direction = (A / lengths[:, None]).sum(0)
    n = len(A)
    share = float((centred**2).sum() / (A**2).sum())
    # the sum over all pairs is |sum of directions|^2, n of which are of an image with itself
    cosine = float((direction @ direction - n) / (n * (n - 1)))
    return dict(zip(stats, (share, cosine, _stable_rank(A), _stable_rank(centred)), strict=True))


def _stable_rank(A: np.ndarray) -> float:
    # the largest eigenvalue of A A^T: a tenth of the time of A's singular values
    n = len(A)
    largest = float(eigh(A @ A.T, eigvals_only=True, subset_by_index=(n - 1, n - 1))[0])
    return float((A**2).sum()) / largest if largest > 0 else float("nan")
