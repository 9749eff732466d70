r"""Probe ``geometry``: whether layers still tell images apart.

Of a layer's outputs on N fixed images, a matrix A of N rows a_i with mean row m:

=================  ==============================================================
varying_share      sum |a_i - m|^2 / sum |a_i|^2: 0 if the layer is constant, 1 if
                   every unit has mean 0
cosine             mean of a_i . a_j / (|a_i| |a_j|) over pairs i != j: 1 if all
                   images point the same way
stable_rank        |A|_F^2 / |A|_2^2: how many directions share the energy
centred_rank       the same of a_i - m: how many share what varies
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
from bnstudy.engines.probes.base import WHOLE, Moments, Scene, Seen, batch_of, twin_of

LAYERS = ("act1", "act2", "act3", "act4")


class Geometry(Moments):
    """Shares, cosines and ranks of layers' outputs, in training mode; ``tensor`` ``out``.

    Parameters
    ----------
    scene
        The run.
    epochs
        When to look.
    layers
        By name.
    images
        How many of the training images, the first ones: the same for every seed.
    """

    def __init__(
        self,
        scene: Scene,
        epochs: Sequence[float] = (0,),
        layers: Sequence[str] = LAYERS,
        images: int = 256,
    ) -> None:
        super().__init__(scene, epochs)
        self._layers, self._images = tuple(layers), images

    def look(self, step: Step, training: Training) -> Iterator[Seen]:
        """Return the geometry at the weights of now."""
        seen: dict[str, Tensor] = {}
        with twin_of(training.net) as twin, torch.no_grad():
            for name in self._layers:
                twin.get_submodule(name).register_forward_hook(partial(_keep, seen, name))
            twin.train()(batch_of(self.scene.splits.train, slice(self._images), twin)[0])
        for name, output in seen.items():
            for stat, value in geometry_of(output.flatten(1).double().cpu().numpy()).items():
                yield name, "out", WHOLE, stat, value


def _keep(
    seen: dict[str, Tensor], name: str, _layer: nn.Module, _args: object, out: Tensor
) -> None:
    seen[name] = out


def geometry_of(A: np.ndarray) -> dict[str, float]:
    """Return the numbers of this module's table for a matrix (N, units), N at least 2.

    NaN where there is nothing to divide by, and if a value is not finite.
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
