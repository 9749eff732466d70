"""Relatives of batch normalization, each of which changes one thing about it.

Claims about the cause of an effect compare them with
:class:`~bnstudy.networks.norm.layer.BatchNorm`; each states its difference from it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnstudy.errors import ConfigError
from bnstudy.networks.checkpointing import refuse_recomputation, repeated_by_checkpoint
from bnstudy.networks.norm.functional import (
    affine,
    at_least_float32,
    bessel,
    moments,
    normalize,
    per_channel,
)
from bnstudy.networks.norm.layer import BatchNorm


class GhostBatchNorm(BatchNorm):
    """BN over consecutive sub-batches (ghost BN, Hoffer, Hubara & Soudry 2017).

    It has the noise of small normalization batches and the gradient of a large
    batch.  A sub-batch that would hold one image joins the one before it.  The
    moving moments move once per step, towards the means of the sub-batches'
    moments, weighted by their sizes.  Evaluation is that of :class:`BatchNorm`.

    Parameters
    ----------
    num_features, **options
        As in :class:`BatchNorm`.
    size
        Images per sub-batch, at least 2.
    """

    def __init__(self, num_features: int, *, size: int = 32, **options: Any) -> None:
        if not isinstance(size, int) or size < 2:
            raise ConfigError(f"a ghost batch must hold at least 2 images, got size={size!r}")
        super().__init__(num_features, **options)
        self.size = size

    def _normalized(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...), by the batch's moments each sub-batch by its own."""
        if not self.uses_batch or X.numel() == 0:
            return super()._normalized(X)
        batches = X.split(ghost_sizes(len(X), self.size))  # (N, C, ...) -> (size, C, ...) each
        found = [moments(batch) for batch in batches]
        X_hat = torch.cat(
            [normalize(batch, *each, self.eps) for batch, each in zip(batches, found, strict=True)]
        )
        shares = [len(batch) / len(X) for batch in batches]
        mean = sum(share * each[0] for share, each in zip(shares, found, strict=True))
        var = sum(
            share * each[1] * bessel(batch, self.variance)
            for share, each, batch in zip(shares, found, batches, strict=True)
        )
        self._average(X, torch.as_tensor(mean), torch.as_tensor(var))
        return affine(X_hat, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Name the size of a sub-batch too."""
        return f"{super().extra_repr()}, size={self.size}"


def ghost_sizes(n: int, size: int) -> list[int]:
    """Return the sizes of sub-batches of ``size`` images each; a lone image joins the last one."""
    sizes = [size] * (n // size) + ([n % size] if n % size else [])
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [size + 1]
    return sizes


class PopulationBatchNorm(BatchNorm):
    """BN without batch noise: forward by moving moments, backward as through the batch's.

    Batch renormalization (Ioffe 2017) without its clipping: with the batch's
    sigma_B, mu_B and the moving sigma, mu,

        x_hat = (x - mu_B) / sigma_B  r + d,   r = sigma_B / sigma,
        d = (mu_B - mu) / sigma,   r and d constants to the gradient,

    so that x_hat equals (x - mu) / sigma, and the gradient still loses its
    mean and its share along x_hat.  The moving moments are updated by the batch
    before they are used, and their average is corrected for its initial values
    (as in Adam), so that with the biased variance the first step is that of BN.
    Moments computed elsewhere count as those of a long average, unless they are
    the initial 0 and 1.
    """

    needs_running_stats = True
    LONG = 1_000_000  # batches after which nothing of the initial values is left to correct

    def _normalized(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...) by the moving moments, in training too."""
        if not self.training:
            return super()._normalized(X)
        refuse_recomputation(f"the moments of {type(self).__name__} have moved since")
        mean, var = self._moments(X)
        sigma = torch.sqrt(at_least_float32(self.moving_var) + self.eps)
        sigma_batch = torch.sqrt(var + self.eps)
        # detached: forward cancels the batch's moments, backward still goes through them
        r = (sigma_batch / sigma).detach()
        d = ((mean - self.moving_mean) / sigma).detach()
        X_hat = affine(normalize(X, mean, var, self.eps), r, d)
        return affine(X_hat, self.weight, self.bias)

    @torch.no_grad()
    def take_moments(self, mean: Tensor, var: Tensor) -> None:
        """Continue from moving moments (C,) computed elsewhere, with their full weight."""
        super().take_moments(mean, var)
        batches = torch.where(mean.any() | (var != 1).any(), self.LONG, 0)
        self.num_batches_tracked.copy_(batches)  # type: ignore[union-attr]

    def _weight_of_old(self) -> Tensor:
        """Return the weight of the old value that corrects for the initial values."""
        keep, count = self.keep, self._batches()
        if keep is None or keep == 1.0:
            return 1.0 - 1.0 / count
        # the weights of all batches so far sum to 1 - keep^count, not to 1: divide by that
        return 1.0 - (1.0 - keep) / (1.0 - keep**count)


class FrozenBatchNorm(PopulationBatchNorm):
    """BN whose moving moments are constants in forward and backward alike.

    As a network that is fine-tuned with frozen statistics, except that the
    moments keep moving; the gradient is dx = gamma / sigma dy.
    """

    def _normalized(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...) by the moving moments as constants."""
        if self.training:
            refuse_recomputation(f"the moments of {type(self).__name__} have moved since")
            with torch.no_grad():
                self._moments(X)
        X_hat = normalize(X, self.moving_mean, self.moving_var, self.eps)
        return affine(X_hat, self.weight, self.bias)


class NoisyBatchNorm(BatchNorm):
    """BN followed by random shift and scale (Santurkar et al. 2018, appendix A).

    In training only, with its constants: for each step and channel
    mu ~ U(-0.5, 0.5) and sigma ~ U(1, 1.25); then for each image and channel
    m ~ U(mu - 0.1, mu + 0.1) and s ~ N(sigma, 0.1); the output is s y + m.
    Drawn in this order: ``random(C)`` for mu, ``random(C)`` for sigma,
    ``random((N, C))`` for m, ``standard_normal((N, C))`` for s, all float32.

    Parameters
    ----------
    num_features, **options
        As in :class:`BatchNorm`.
    rng
        Stream of the noise, such as a run's ``noise`` stream; by default torch's global
        generator on the device of the input.  Activation checkpointing repeats the noise
        (see :mod:`bnstudy.networks.checkpointing`).
    """

    def __init__(
        self, num_features: int, *, rng: np.random.Generator | None = None, **options: Any
    ) -> None:
        super().__init__(num_features, **options)
        self.rng = rng

    def _normalized(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...), and in training shift and scale it at random."""
        Y = super()._normalized(X)
        if not self.training:
            return Y
        # (N, C) -> (N, C, 1, ...)
        scale, shift = (each.reshape(*each.shape, *[1] * (X.dim() - 2)) for each in self._noise(X))
        return scale * Y + shift

    def _noise(self, X: Tensor) -> Sequence[Tensor]:
        """Draw the scale s and the shift m for X (N, C, ...): (N, C) each."""
        if self.rng is not None:
            return [torch.from_numpy(values).to(X) for values in self.draw(len(X))]
        N, C = X.shape[:2]
        mu, sigma = X.new_empty(C).uniform_(-0.5, 0.5), X.new_empty(C).uniform_(1.0, 1.25)
        m = mu + X.new_empty(N, C).uniform_(-0.1, 0.1)
        return sigma + X.new_empty(N, C).normal_(0.0, 0.1), m

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the scale s and the shift m of n images from ``rng``: (n, C) each, float32."""
        C, single = self.num_features, np.float32
        rng = repeated_by_checkpoint(self.rng)  # type: ignore[arg-type]  # there is one
        mu = rng.random(C, dtype=single) - single(0.5)
        sigma = single(1.0) + single(0.25) * rng.random(C, dtype=single)
        m = mu + single(0.2) * (rng.random((n, C), dtype=single) - single(0.5))
        s = sigma + single(0.1) * rng.standard_normal((n, C), dtype=single)
        return s, m


class MeanOnlyBatchNorm(BatchNorm):
    """Mean-only BN: centres, does not divide (Salimans & Kingma 2016, section 4).

        y = x - mu + beta,   dx = dy - mean(dy),

    mu the mean of a channel over images and positions: the batch's in training,
    the moving one in evaluation.  As in the paper there is no gamma: the weights
    before the layer set the scale (there with weight normalization, here as they
    are).  The moving variance is averaged too, but nothing is divided by it.

    Parameters
    ----------
    num_features, **options
        As in :class:`BatchNorm`; ``affine`` concerns beta alone, and ``eps`` has no
        effect.
    """

    evaluates_as_torch = False

    def __init__(self, num_features: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.weight = None

    def _normalized(self, X: Tensor) -> Tensor:
        """Return X - mean + beta, for X (N, C, ...)."""
        mean, _ = self._moments(X)
        return affine(X - per_channel(at_least_float32(mean), X), None, self.bias)


class VarianceOnlyBatchNorm(BatchNorm):
    """Variance-only BN: divides, does not centre: BN without its mean.

        u = x / sqrt(var + eps),   y = gamma u + beta,
        dx = gamma / sqrt(var + eps) (dy - x_hat mean(dy u)),

    var the biased variance of a channel over images and positions, about its
    mean: the batch's in training, the moving one in evaluation.  The moving mean
    is averaged too, but nothing is centred by it.
    """

    evaluates_as_torch = False

    def _normalized(self, X: Tensor) -> Tensor:
        """Return gamma X / sqrt(var + eps) + beta, for X (N, C, ...)."""
        _, var = self._moments(X)
        u = X / torch.sqrt(per_channel(at_least_float32(var), X) + self.eps)
        return affine(u, self.weight, self.bias)
