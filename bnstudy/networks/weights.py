"""Activations, and initial weights that suit them, from the run's own stream."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.config import ACTIVATIONS, INITS, RunConfig
from bnstudy.errors import ConfigError

register_activation = ACTIVATIONS.register
register_init = INITS.register


@register_activation("sigmoid")
def _sigmoid() -> nn.Module:
    return nn.Sigmoid()


@register_activation("relu")
def _relu() -> nn.Module:
    return nn.ReLU()


@register_activation("tanh")
def _tanh() -> nn.Module:
    return nn.Tanh()


@register_init("xavier")
def _xavier(fan_in: int, fan_out: int, gain: float) -> float:
    return math.sqrt(6.0 / (fan_in + fan_out))


@register_init("xavier-gain")
def _xavier_gain(fan_in: int, fan_out: int, gain: float) -> float:
    return gain * math.sqrt(6.0 / (fan_in + fan_out))


@register_init("he")
def _he(fan_in: int, fan_out: int, gain: float) -> float:
    return math.sqrt(6.0 / fan_in)


def activation(config: RunConfig) -> nn.Module:
    """Return the activation of a config.

    Raises
    ------
    ConfigError
        If the word is unknown, or its factory returns something else than a module.
    """
    made = ACTIVATIONS.make(config.activation)
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"the factory of activation {config.activation!r} must return a torch module, "
            f"got {type(made).__name__}"
        )
    return made


def gain(config: RunConfig) -> float:
    """Return the factor by which weights make up for what an activation takes from variance.

    The inverse of its slope at 0 (4 for the sigmoid: Glorot & Bengio 2010), and sqrt(2) for
    ReLU, which has none there (He et al. 2015).
    """
    layer = activation(config)
    if isinstance(layer, nn.ReLU):
        return math.sqrt(2.0)
    at = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(layer.double()(at).sum(), at)
    return 1.0 / abs(float(slope)) if slope else 1.0


@torch.no_grad()
def draw_weights(net: nn.Module, rng: np.random.Generator, config: RunConfig) -> None:
    """Fill convolutions and linear layers from a stream, in their order, weight before bias.

    Weights are uniform with mean 0, see :class:`~bnstudy.config.RunConfig`; a bias is
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's default.  It is drawn whether or not the arm has
    it, so that arms without biases share every weight with those that have them.

    Raises
    ------
    ConfigError
        If an initialization returns no bound.
    """
    layers = [layer for layer in net.children() if isinstance(layer, nn.Conv2d | nn.Linear)]
    of_hidden = gain(config)
    for layer in layers:
        fan_in = layer.weight[0].numel()
        fan_out = len(layer.weight) * layer.weight[0, 0].numel()
        # no activation follows the last layer
        bound = INITS.make(config.init, fan_in, fan_out, 1.0 if layer is layers[-1] else of_hidden)
        if not isinstance(bound, int | float) or not 0 <= bound < math.inf:
            raise ConfigError(
                f"initialization {config.init!r} must return a bound of at least 0, got {bound!r}"
            )
        _fill(layer.weight, rng, bound)
        bias = torch.empty(len(layer.weight)) if layer.bias is None else layer.bias
        _fill(bias, rng, 1.0 / math.sqrt(fan_in))


def _fill(tensor: Tensor, rng: np.random.Generator, bound: float) -> None:
    values = rng.uniform(-bound, bound, tuple(tensor.shape)).astype(np.float32)
    tensor.copy_(torch.from_numpy(values))
