"""Initial weights, from the run's own stream: the same for every arm of a seed."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.config import RunConfig

# inverse slope at 0 of sigmoid (Glorot & Bengio 2010) and tanh; of ReLU He et al. 2015
GAINS = {"sigmoid": 4.0, "tanh": 1.0, "relu": math.sqrt(2.0)}


@torch.no_grad()
def draw_weights(net: nn.Module, rng: np.random.Generator, config: RunConfig) -> None:
    """Fill convolutions and linear layers from a stream, in their order, weight before bias.

    Weights are uniform with mean 0, see :class:`~bnstudy.config.RunConfig`; a bias is
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's default.  It is drawn whether or not the arm has
    it, so that arms without biases share every weight with those that have them.
    """
    layers = [layer for layer in net.children() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        gain = GAINS[config.activation] if layer is not layers[-1] else 1.0
        fan_in = layer.weight[0].numel()
        fan_out = len(layer.weight) * layer.weight[0, 0].numel()
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        if config.init == "xavier-gain":
            bound *= gain
        if config.init == "he":
            bound = math.sqrt(6.0 / fan_in)
        _fill(layer.weight, rng, bound)
        bias = torch.empty(len(layer.weight)) if layer.bias is None else layer.bias
        _fill(bias, rng, 1.0 / math.sqrt(fan_in))


def _fill(tensor: Tensor, rng: np.random.Generator, bound: float) -> None:
    values = rng.uniform(-bound, bound, tuple(tensor.shape)).astype(np.float32)
    tensor.copy_(torch.from_numpy(values))
