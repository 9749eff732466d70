"""Reading and setting the state of any normalization layer, ours or torch's."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnstudy.errors import ConfigError
from bnstudy.networks.norm.layer import BatchNorm


class NormState(NamedTuple):
    """Gamma, beta and running moments of a layer, each (C,), without gradient.

    Moments are NaN for layers that keep none; ``var`` is what the layer
    divides by in evaluation (if it does), whichever variance it averages.  For
    a module without a known number of channels all four are empty, (0,).
    """

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    var: Tensor


def has_running_statistics(layer: nn.Module) -> bool:
    """Return True if a layer normalizes by running statistics in evaluation."""
    return isinstance(layer, _BatchNorm) and layer.running_mean is not None


def parameters_of(layer: nn.Module) -> NormState:
    """Return the state of any normalization layer, ours, torch's or registered."""
    features = _features(layer)
    gamma, beta = (getattr(layer, name, None) if features else None for name in ("weight", "bias"))
    mean, var = torch.full((features,), torch.nan), torch.full((features,), torch.nan)
    like = torch.zeros(()) if gamma is None else gamma.detach()
    if has_running_statistics(layer):
        mean, var = (buffer.detach().clone() for buffer in _running(layer))
        like = mean
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
    return math.prod(getattr(layer, "normalized_shape", (0,)))


def _running(layer: nn.Module) -> tuple[Tensor, Tensor]:
    return layer.get_buffer("running_mean"), layer.get_buffer("running_var")


def set_running_statistics(layer: nn.Module, mean: Tensor, var: Tensor) -> None:
    """Make a layer normalize by this mean and variance in evaluation.

    Parameters
    ----------
    layer
        Ours or torch's, with running statistics.
    mean, var
        (C,) each; ``var`` is the biased one of the population, as divided by.

    Raises
    ------
    ConfigError
        If the layer keeps no running statistics, or they have another shape.
    """
    if not has_running_statistics(layer):
        raise ConfigError(
            "running statistics can be set only of a layer that keeps them, "
            f"got {type(layer).__name__}"
        )
    buffers = _running(layer)
    if not mean.shape == var.shape == buffers[0].shape:
        raise ConfigError(
            f"running statistics must hold one value per channel, {tuple(buffers[0].shape)}, "
            f"got {tuple(mean.shape)} and {tuple(var.shape)}"
        )
    if isinstance(layer, BatchNorm):
        layer.take_moments(mean, var)
        return
    with torch.no_grad():
        for buffer, values in zip(buffers, (mean, var), strict=True):
            buffer.copy_(values)
