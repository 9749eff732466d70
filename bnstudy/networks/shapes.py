"""Output shapes and costs of a network's layers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnstudy.config import RunConfig
from bnstudy.networks.building import IMAGE_SHAPE, build


@dataclass(frozen=True)
class LayerTrace:
    """Output shape and cost of one layer for one image.

    Attributes
    ----------
    name, kind
        Name of the layer in the network, and name of its class.
    output_shape
        For a batch of one: (1, C, H, W) or (1, units).
    parameters
        Number of learned values.
    flops
        Floating-point operations of a forward pass of one image, a
        multiplication and an addition counted as two.  Of convolution and linear
        layers only: the others cost below 5 % of the total.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int


def trace(config: RunConfig) -> list[LayerTrace]:
    """Return the shape table of the notes for a config, with parameters and operations.

    Raises
    ------
    ConfigError
        If the normalization is unknown or its options are impossible.
    """
    net = build(config, seed=0).eval()
    X = torch.zeros(1, *IMAGE_SHAPE)
    rows = []
    with torch.no_grad():
        for name, layer in net.named_children():
            X = layer(X)
            parameters = sum(parameter.numel() for parameter in layer.parameters())
            rows.append(
                LayerTrace(name, type(layer).__name__, tuple(X.shape), parameters, _flops(layer, X))
            )
    return rows


def _flops(layer: nn.Module, output: Tensor) -> int:
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return 0
    # each output value is a dot product with one filter, weight[0] in size
    products = layer.weight[0].numel() * output[0].numel()
    additions_of_bias = output[0].numel() if layer.bias is not None else 0
    return 2 * products + additions_of_bias
