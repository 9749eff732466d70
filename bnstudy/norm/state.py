"""One way to read and set the state of any normalization layer, ours or torch's."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnstudy.errors import ConfigError
from bnstudy.norm.layer import BatchNorm


class NormState(NamedTuple):
    """Gamma, beta and running moments of a layer, each (C,), without gradient.

    Moments are NaN for layers that keep none; ``var`` is what the layer
    divides by in evaluation, whichever variance it averages.
    """

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    var: Tensor


def has_running_statistics(layer: nn.Module) -> bool:
    """Whether a layer normalizes by running statistics in evaluation."""
    return isinstance(layer, BatchNorm) or (
        isinstance(layer, _BatchNorm) and layer.running_mean is not None
    )


def parameters_of(layer: nn.Module) -> NormState:
    """Return the state of any normalization layer, ours or torch's.

    Raises
    ------
    ConfigError
        If the module has no scale and shift of its own.
    """
    if isinstance(layer, BatchNorm):
        gamma, beta = layer.gamma, layer.beta
        features, like = layer.num_features, layer.moving_mean
    elif hasattr(layer, "weight") and hasattr(layer, "bias"):
        gamma, beta = layer.weight, layer.bias  # type: ignore[assignment]
        like = torch.zeros(()) if gamma is None else gamma.detach()
        features = _features(layer)
    else:
        raise ConfigError(f"{type(layer).__name__} has no gamma and beta to read")
    mean, var = torch.full((features,), torch.nan), torch.full((features,), torch.nan)
    if has_running_statistics(layer):
        mean, var = (buffer.detach().clone() for buffer in _running(layer))
    return NormState(
        like.new_ones(features) if gamma is None else gamma.detach().clone().flatten(),
        like.new_zeros(features) if beta is None else beta.detach().clone().flatten(),
        mean,
        var,
    )


def _features(layer: nn.Module) -> int:
    for name in ("num_features", "num_channels"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    return int(np.prod(layer.normalized_shape))  # type: ignore[arg-type]


def _running(layer: nn.Module) -> tuple[Tensor, Tensor]:
    names = ("moving_mean", "moving_var")
    if not isinstance(layer, BatchNorm):
        names = ("running_mean", "running_var")
    return layer.get_buffer(names[0]), layer.get_buffer(names[1])


@torch.no_grad()
def set_running_statistics(layer: nn.Module, mean: Tensor, var: Tensor) -> None:
    """Let a layer normalize by this mean and variance, each (C,), in evaluation."""
    for buffer, values in zip(_running(layer), (mean, var), strict=True):
        buffer.copy_(values)
