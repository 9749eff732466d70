"""Relatives of batch normalization, each of which changes one thing about it.

Claims about the cause of an effect compare them with
:class:`~bnstudy.networks.norm.layer.BatchNorm`; each states its difference from it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnstudy.errors import ConfigError
from bnstudy.networks.norm.functional import (
    affine,
    bessel,
    check_input,
    moments,
    moved,
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

    def forward(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...), in training each sub-batch by its own moments."""
        check_input(X, self.num_features, training=self.training)
        if not self.training:
            return super().forward(X)
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
        self._store(
            moved(self.moving_mean, torch.as_tensor(mean), self.keep),
            moved(self.moving_var, torch.as_tensor(var), self.keep),
        )
        return affine(X_hat, self.gamma, self.beta)

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

    LONG = 1_000_000  # steps after which nothing of the initial values is left to correct

    steps: Tensor

    def __init__(self, num_features: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...) by the moving moments, in training too."""
        check_input(X, self.num_features, training=self.training)
        if not self.training:
            return super().forward(X)
        mean, var = moments(X)
        self._take_in(X, mean, var)
        sigma = torch.sqrt(self.moving_var + self.eps)
        sigma_batch = torch.sqrt(var + self.eps)
        # detached: forward cancels the batch's moments, backward still goes through them
        r = (sigma_batch / sigma).detach()
        d = ((mean - self.moving_mean) / sigma).detach()
        X_hat = affine(normalize(X, mean, var, self.eps), r, d)
        return affine(X_hat, self.gamma, self.beta)

    def take_moments(self, mean: Tensor, var: Tensor) -> None:
        """Continue from moving moments (C,) computed elsewhere, with their full weight."""
        super().take_moments(mean, var)
        at_start = not mean.any() and bool((var == 1).all())
        self.steps.fill_(0 if at_start else self.LONG)

    def _take_in(self, X: Tensor, mean: Tensor, var: Tensor) -> None:
        """Average without the bias of the initial values: after one batch, its moments alone."""
        self.steps += 1
        count = int(self.steps)
        keep = self.keep
        # the weights of all batches so far sum to 1 - keep^count, not to 1: divide by that
        new = (1.0 - keep) / (1.0 - keep**count) if keep < 1.0 else 1.0 / count
        var = var * bessel(X, self.variance)
        self._store(
            moved(self.moving_mean, mean, 1.0 - new), moved(self.moving_var, var, 1.0 - new)
        )


class FrozenBatchNorm(PopulationBatchNorm):
    """BN whose moving moments are constants in forward and backward alike.

    As a network that is fine-tuned with frozen statistics, except that the
    moments keep moving; the gradient is dx = gamma / sigma dy.
    """

    def forward(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...) by the moving moments as constants."""
        check_input(X, self.num_features, training=self.training)
        if self.training:
            with torch.no_grad():
                self._take_in(X, *moments(X))
        # clones: the buffers change in place while autograd still needs these values
        X_hat = normalize(X, self.moving_mean.clone(), self.moving_var.clone(), self.eps)
        return affine(X_hat, self.gamma, self.beta)


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
        The run's ``noise`` stream.
    """

    def __init__(self, num_features: int, *, rng: np.random.Generator, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.rng = rng

    def forward(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...), and in training shift and scale it at random."""
        Y = super().forward(X)
        if not self.training:
            return Y
        scale, shift = (
            torch.from_numpy(values).to(X).reshape(*values.shape, *[1] * (X.dim() - 2))
            for values in self.draw(len(X))
        )
        return scale * Y + shift

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the scale s and the shift m of n images: two arrays (n, C), float32."""
        C, single = self.num_features, np.float32
        mu = self.rng.random(C, dtype=single) - single(0.5)
        sigma = single(1.0) + single(0.25) * self.rng.random(C, dtype=single)
        m = mu + single(0.2) * (self.rng.random((n, C), dtype=single) - single(0.5))
        s = sigma + single(0.1) * self.rng.standard_normal((n, C), dtype=single)
        return s, m


class _PartialBatchNorm(BatchNorm):
    """Mean and variance taken and averaged as :class:`BatchNorm` does, of which one is used."""

    evaluates_as_torch = False

    def _moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,): in training the batch's, which are averaged too."""
        check_input(X, self.num_features, training=self.training)
        if not self.training:
            return self.moving_mean, self.moving_var
        mean, var = moments(X)
        self._average(X, mean, var)
        return mean, var


class MeanOnlyBatchNorm(_PartialBatchNorm):
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

    def __init__(self, num_features: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.gamma = None

    def forward(self, X: Tensor) -> Tensor:
        """Return X - mean + beta, for X (N, C, ...)."""
        mean, _ = self._moments(X)
        return affine(X - per_channel(mean, X), None, self.beta)


class VarianceOnlyBatchNorm(_PartialBatchNorm):
    """Variance-only BN: divides, does not centre: BN without its mean.

        u = x / sqrt(var + eps),   y = gamma u + beta,
        dx = gamma / sqrt(var + eps) (dy - x_hat mean(dy u)),

    var the biased variance of a channel over images and positions, about its
    mean: the batch's in training, the moving one in evaluation.  The moving mean
    is averaged too, but nothing is centred by it.
    """

    def forward(self, X: Tensor) -> Tensor:
        """Return gamma X / sqrt(var + eps) + beta, for X (N, C, ...)."""
        _, var = self._moments(X)
        return affine(X / torch.sqrt(per_channel(var, X) + self.eps), self.gamma, self.beta)
