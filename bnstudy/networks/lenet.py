"""LeNet for a :class:`~bnstudy.config.RunConfig`, and the shapes and costs of its layers.

The network of the notes: two convolutions and three linear layers on 28 x 28
images, a normalization layer after each but the last, sigmoids, average
pooling.  Initial weights come from the run's own ``weights`` stream and are
the same for every arm of a seed.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from bnstudy.config import RunConfig, stream
from bnstudy.errors import ConfigError
from bnstudy.networks.dropout import StreamDropout
from bnstudy.networks.norm import make_norm, needs_batch
from bnstudy.networks.pooling import AveragePooling

CLASSES = 10
IMAGE_SHAPE = (1, 28, 28)

# name: (kind, inputs, outputs); the order is that of the forward pass and of the weights stream
LAYERS = {
    "conv1": ("conv", 1, 6),
    "conv2": ("conv", 6, 16),
    "fc1": ("linear", 16 * 4 * 4, 120),
    "fc2": ("linear", 120, 84),
    "fc3": ("linear", 84, CLASSES),
}
KERNEL_SIZE = 5

_ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


def lenet(config: RunConfig, seed: int) -> nn.Sequential:
    """Build LeNet with the initial weights of a seed.

    Parameters
    ----------
    config
        Its normalization, placement, normalized layers, activation, bias and dropout
        are read.
    seed
        Determines the initial weights (Xavier-uniform, Glorot & Bengio 2010;
        biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's default) and the
        streams of dropout and noise.

    Returns
    -------
    torch.nn.Sequential
        From images (N, 1, 28, 28) to logits (N, 10), on the CPU, float32, in
        training mode.  Its layers have names: ``conv1``, ``norm1``, ``act1``,
        ``pool1``, ....

    Raises
    ------
    ConfigError
        If the normalization is unknown or its options are impossible.
    """
    # one generator each for all layers of the network, which draw from it in turn
    dropout, noise = stream(seed, "dropout"), stream(seed, "noise")
    net = nn.Sequential()

    def add_norm(index: int, features: int, dims: int, *, after_hidden_linear: bool) -> None:
        if after_hidden_linear:
            add_dropout(index, "before-norm")
        word = config.norm if config.normalizes(index) else "none"
        layer = make_norm(word, features, dims, rng=noise)
        if layer is not None:
            net.add_module(f"norm{index}", layer)

    def add_dropout(index: int, placement: str) -> None:
        if config.dropout and config.dropout_placement == placement:
            net.add_module(f"dropout{index}", StreamDropout(config.dropout, dropout))

    for index, (name, (kind, inputs, outputs)) in enumerate(LAYERS.items(), start=1):
        hidden, linear = index < len(LAYERS), kind == "linear"
        dims = 2 if linear else 4
        if name == "fc1":
            net.add_module("flatten", nn.Flatten())  # (N, 16, 4, 4) -> (N, 256)
        if config.placement == "input":
            add_norm(index, inputs, dims, after_hidden_linear=name in ("fc2", "fc3"))
        if not hidden and config.placement == "input":
            add_dropout(index, "after-last-norm")
        net.add_module(name, _weighted(kind, inputs, outputs, bias=config.bias or not hidden))
        if not hidden:
            break
        if config.placement == "output":
            add_norm(index, outputs, dims, after_hidden_linear=linear)
        net.add_module(f"act{index}", _ACTIVATIONS[config.activation]())
        if config.placement == "activated":
            add_norm(index, outputs, dims, after_hidden_linear=linear)
        if not linear:
            net.add_module(f"pool{index}", AveragePooling())  # (N, C, H, W) -> (N, C, H/2, W/2)
            continue
        add_dropout(index, "hidden")
        if name == "fc2" and config.placement != "input":
            add_dropout(index, "after-last-norm")

    draw_weights(net, stream(seed, "weights"))
    return net


def _weighted(kind: str, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
    # skip_init: torch's initialization would draw from its global generator
    if kind == "linear":
        return skip_init(nn.Linear, inputs, outputs, bias=bias)
    return skip_init(nn.Conv2d, inputs, outputs, KERNEL_SIZE, bias=bias)


@torch.no_grad()
def draw_weights(net: nn.Module, rng: np.random.Generator) -> None:
    """Fill the layers of :data:`LAYERS` from a stream, in that order, weight before bias.

    A bias is drawn whether or not the arm has it, so that arms without biases
    share every weight with those that have them.
    """
    for name, (kind, inputs, outputs) in LAYERS.items():
        layer = net.get_submodule(name)
        area = 1 if kind == "linear" else KERNEL_SIZE**2
        bound = math.sqrt(6.0 / (area * (inputs + outputs)))
        _fill(layer.weight, rng, bound)  # type: ignore[arg-type]
        bias = torch.empty(outputs) if layer.bias is None else layer.bias
        _fill(bias, rng, 1.0 / math.sqrt(area * inputs))  # type: ignore[arg-type]


def _fill(tensor: Tensor, rng: np.random.Generator, bound: float) -> None:
    values = rng.uniform(-bound, bound, tuple(tensor.shape)).astype(np.float32)
    tensor.copy_(torch.from_numpy(values))


def refuse_lone_image(config: RunConfig, n: int) -> None:
    """Refuse epochs of n images with a batch of one, if the normalization needs more.

    Raises
    ------
    ConfigError
        If the last batch, or every batch, would hold one image.
    """
    left = n % config.batch_size if config.batch_size < n else min(n, config.batch_size)
    # a remainder of 0 means that the last batch is a full one
    if (left == 1 or config.batch_size == 1) and needs_batch(config.norm):
        raise ConfigError(
            f"norm {config.norm!r} needs at least 2 images in every batch, but {n} images in "
            f"batches of {config.batch_size} leave a batch of 1: change batch_size or train_images"
        )


def norm_layers(net: nn.Module) -> dict[str, nn.Module]:
    """Return the normalization layers by name: ``norm1``, ``norm2``, ..., if any."""
    return {name: layer for name, layer in net.named_children() if name.startswith("norm")}


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
    net = lenet(config, seed=0).eval()
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
