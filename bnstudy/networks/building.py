"""The registry of networks: names, as a config writes them, to layers; and building one."""

from collections.abc import Sequence

import numpy as np

from bnstudy.config import RunConfig
from bnstudy.data import Splits
from bnstudy.errors import ConfigError
from bnstudy.networks.inputs import INPUTS, Inputs
from bnstudy.networks.layers import Layer, Network, assemble, selected_layers
from bnstudy.networks.lenet import lenet
from bnstudy.networks.mlp import mlp
from bnstudy.networks.norm import make_norm, needs_batch
from bnstudy.networks.resnet import resnet
from bnstudy.registry import Registry

IMAGE_SHAPE, CLASSES = (1, 28, 28), 10  # of Fashion-MNIST

NETWORKS: Registry[Sequence[Layer]] = Registry("network", ("shape", "classes"))
for _factory in (lenet, mlp, resnet):
    NETWORKS.register(_factory.__name__)(_factory)
register_network = NETWORKS.register


def layers_of(
    config: RunConfig, shape: tuple[int, int, int] = IMAGE_SHAPE, classes: int = CLASSES
) -> tuple[Layer, ...]:
    """Return the layers with weights of a config's network.

    Raises
    ------
    ConfigError
        If the network is unknown, its options are impossible, or its factory does not
        return layers, the last of them linear with an output per class.
    """
    made = NETWORKS.make(config.network, shape, classes)
    name = NETWORKS.parse(config.network)[0]
    if not isinstance(made, Sequence) or not all(isinstance(each, Layer) for each in made):
        raise ConfigError(
            f"the factory of network {name!r} must return a list of Layer, "
            f"got {type(made).__name__}"
        )
    if not made or made[-1].outputs != classes:
        raise ConfigError(
            f"the last layer of network {name!r} must have an output for each of the {classes} "
            f"classes, got {made[-1].outputs if made else 'no layer'}"
        )
    return tuple(made)


def build(config: RunConfig, seed: int, splits: Splits | None = None) -> Network:
    """Build the network of a config with the initial weights of a seed.

    Parameters
    ----------
    config
        Its network, inputs, normalization, placement, normalized layers, activation, bias,
        dropout and initial weights are read.
    seed
        Determines the initial weights and the streams of dropout and noise.
    splits
        The images it is for, whose shape, number of classes, and mean and standard deviation
        in training are read; without them, those of the shape of Fashion-MNIST.

    Returns
    -------
    torch.nn.Sequential
        From images in 0..1 (N, C, H, W) to logits (N, classes), on the CPU, float32, in
        training mode.  Its layers have names: those with weights their own, such as ``conv1``,
        the others the number of that layer: ``norm1``, ``act1``, ``pool1``, ....

    Raises
    ------
    ConfigError
        If a word is unknown, an option is impossible, or images and layers do not fit.
    """
    shape, classes = (IMAGE_SHAPE, CLASSES) if splits is None else (splits.shape, splits.classes)
    inputs = _inputs(config, splits, shape[0])
    if isinstance(inputs, Inputs) and inputs.size:
        shape = (shape[0], inputs.size, inputs.size)
    net = assemble(layers_of(config, shape, classes), config, seed, shape)
    if inputs is None:
        return net
    whole = Network()
    whole.add_module("inputs", inputs)
    for name, layer in net.named_children():
        whole.add_module(name, layer)
    whole.shortcuts = net.shortcuts
    return whole


def check_network(config: RunConfig, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a config whose network cannot be built for images of a shape.

    Raises
    ------
    ConfigError
        As :func:`build`.
    """
    make_norm(config.norm, 8, 4, rng=np.random.default_rng(0))
    if (config.network, config.inputs, shape) == ("lenet", "scaled", IMAGE_SHAPE):
        selected_layers(config, layers_of(config, shape, classes))
        return  # it fits, and building it for each of a plan's arms takes a second
    inputs = INPUTS.make(config.inputs, (0.0,) * shape[0], (1.0,) * shape[0])
    if isinstance(inputs, Inputs) and inputs.size:
        shape = (shape[0], inputs.size, inputs.size)
    assemble(layers_of(config, shape, classes), config, 0, shape)


def _inputs(config: RunConfig, splits: Splits | None, channels: int) -> Inputs | None:
    mean, sd = (0.0,) * channels, (1.0,) * channels
    if splits is not None and INPUTS.parse(config.inputs)[0] != "scaled":
        mean, sd = splits.pixel_moments
    return INPUTS.make(config.inputs, mean, sd)  # type: ignore[return-value]


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
