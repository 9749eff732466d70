"""Relatives of batch normalization that claims about it need.

Each states how it differs from :class:`~bnstudy.networks.norm.layer.BatchNorm`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnstudy.errors import ConfigError
from bnstudy.networks.norm.functional import affine, bessel, check_input, moments, moved, normalize
from bnstudy.networks.norm.layer import BatchNorm


class GhostBatchNorm(BatchNorm):
    """BN over consecutive parts of the batch (ghost BN, Hoffer, Hubara & Soudry 2017).

    The noise of small normalization batches at the gradient of a large one.  A
    part that would hold one image joins the part before it.  The moving
    moments move once a step, towards the means of the parts' moments, weighted
    by their sizes.  Evaluation is that of :class:`BatchNorm`.

    Parameters
    ----------
    num_features, **options
        As in :class:`BatchNorm`.
    size
        Images in a part, at least 2.
    """

    def __init__(self, num_features: int, *, size: int = 32, **options: Any) -> None:
        if not isinstance(size, int) or size < 2:
            raise ConfigError(f"a ghost batch must hold at least 2 images, got size={size!r}")
        super().__init__(num_features, **options)
        self.size = size

    def forward(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...) part by part in training."""
        check_input(X, self.num_features, training=self.training)
        if not self.training:
            return super().forward(X)
        parts = X.split(ghost_sizes(len(X), self.size))
        found = [moments(part) for part in parts]
        X_hat = torch.cat(
            [normalize(part, *each, self.eps) for part, each in zip(parts, found, strict=True)]
        )
        shares = [len(part) / len(X) for part in parts]
        mean = sum(share * each[0] for share, each in zip(shares, found, strict=True))
        var = sum(
            share * each[1] * bessel(part, self.variance)
            for share, each, part in zip(shares, found, parts, strict=True)
        )
        self._store(
            moved(self.moving_mean, torch.as_tensor(mean), self.keep),
            moved(self.moving_var, torch.as_tensor(var), self.keep),
        )
        return affine(X_hat, self.gamma, self.beta)

    def extra_repr(self) -> str:
        """Name the size of a part too."""
        return f"{super().extra_repr()}, size={self.size}"


def ghost_sizes(n: int, size: int) -> list[int]:
    """Return the sizes of consecutive parts of ``size`` images; a lone image joins the last."""
    sizes = [size] * (n // size) + ([n % size] if n % size else [])
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [size + 1]
    return sizes


class PopulationBatchNorm(BatchNorm):
    """Noise-free BN: forward by moving moments, backward as through the batch's.

    Batch renormalization (Ioffe 2017) without its clipping: with the batch's
    sigma_B, mu_B and the moving sigma, mu,

        x_hat = (x - mu_B) / sigma_B  r + d,   r = sigma_B / sigma,
        d = (mu_B - mu) / sigma,   r and d constants to the gradient,

    so that x_hat equals (x - mu) / sigma, and the gradient still loses its
    mean and its share along x_hat.  The moving moments take in the batch
    before they are used, and their average is corrected for its start (as in
    Adam), so that with the biased variance the first step is plain BN.  Moments
    taken from elsewhere count as those of a long average, unless they are the 0
    and 1 of a start.
    """

    LONG = 1_000_000  # steps after which nothing of the start is left to correct

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
        r = (sigma_batch / sigma).detach()
        d = ((mean - self.moving_mean) / sigma).detach()
        X_hat = affine(normalize(X, mean, var, self.eps), r, d)
        return affine(X_hat, self.gamma, self.beta)

    def take_moments(self, mean: Tensor, var: Tensor) -> None:
        """Go on from moving moments (C,) found elsewhere, with their full weight."""
        super().take_moments(mean, var)
        at_start = not mean.any() and bool((var == 1).all())
        self.steps.fill_(0 if at_start else self.LONG)

    def _take_in(self, X: Tensor, mean: Tensor, var: Tensor) -> None:
        """Average with the bias of the start removed: the first batch stands alone."""
        self.steps += 1
        count = int(self.steps)
        keep = self.keep
        new = (1.0 - keep) / (1.0 - keep**count) if keep < 1.0 else 1.0 / count
        var = var * bessel(X, self.variance)
        self._store(
            moved(self.moving_mean, mean, 1.0 - new), moved(self.moving_var, var, 1.0 - new)
        )


class FrozenBatchNorm(PopulationBatchNorm):
    """BN whose moving moments are constants in forward and backward alike.

    What a fine-tuned network with frozen statistics does, except that the
    moments go on moving; the gradient is gamma / sigma dy.
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
