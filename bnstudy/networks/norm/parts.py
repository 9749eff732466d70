"""Batch normalization in parts: centring without dividing, dividing without centring."""

from typing import Any

import torch
from torch import Tensor

from bnstudy.networks.norm.functional import affine, check_input, moments, per_channel
from bnstudy.networks.norm.layer import BatchNorm


class _Part(BatchNorm):
    """What the parts share: moments as :class:`BatchNorm` takes and averages them."""

    whole = False

    def _moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,): in training the batch's, which are averaged too."""
        check_input(X, self.num_features, training=self.training)
        if not self.training:
            return self.moving_mean, self.moving_var
        mean, var = moments(X)
        self._average(X, mean, var)
        return mean, var


class MeanOnlyBatchNorm(_Part):
    """Mean-only BN: centres, does not divide (Salimans & Kingma 2016, section 4).

        y = x - mu + beta,   dx = dy - mean(dy),

    mu the mean of a channel over images and positions: the batch's in training,
    the moving one in evaluation.  As in the paper there is no gamma: the weights
    before the layer set the scale (there with weight normalization, here as they
    are).  The moving variance is averaged too, and nothing divided by it.

    Parameters
    ----------
    num_features, **options
        As in :class:`BatchNorm`; ``affine`` is about beta alone, ``eps`` without
        effect.
    """

    def __init__(self, num_features: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.gamma = None

    def forward(self, X: Tensor) -> Tensor:
        """Return X - mean + beta, for X (N, C, ...)."""
        mean, _ = self._moments(X)
        return affine(X - per_channel(mean, X), None, self.beta)


class VarianceOnlyBatchNorm(_Part):
    """Variance-only BN: divides, does not centre; what is left of BN without its mean.

        u = x / sqrt(var + eps),   y = gamma u + beta,
        dx = gamma / sqrt(var + eps) (dy - x_hat mean(dy u)),

    var the biased variance of a channel over images and positions, about its
    mean: the batch's in training, the moving one in evaluation.  The moving mean
    is averaged too, and nothing centred by it.
    """

    def forward(self, X: Tensor) -> Tensor:
        """Return gamma X / sqrt(var + eps) + beta, for X (N, C, ...)."""
        _, var = self._moments(X)
        return affine(X / torch.sqrt(per_channel(var, X) + self.eps), self.gamma, self.beta)
