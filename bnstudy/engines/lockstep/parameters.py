"""Which configs the lockstep engine trains, and its ids for the tensors of a network."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnstudy.config import RunConfig
from bnstudy.engines.optimizers import OPTIMIZERS
from bnstudy.networks import Layer, layers_of, layers_with_weights, norm_layers
from bnstudy.networks.building import CLASSES, IMAGE_SHAPE
from bnstudy.networks.inputs import INPUTS
from bnstudy.networks.lenet import lenet
from bnstudy.networks.norm import (
    BatchNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    VarianceOnlyBatchNorm,
    has_running_statistics,
    make_norm,
    parse_norm,
)

MOST_CLASSES = 256  # of the kernel, which keeps a label in a byte

# NormKind of normalization.hpp; a subclass may compute something else, so it is not looked up
NORM_KINDS: dict[type[nn.Module], int] = {
    nn.BatchNorm2d: 0,
    BatchNorm: 0,
    GhostBatchNorm: 1,
    PopulationBatchNorm: 2,
    FrozenBatchNorm: 3,
    NoisyBatchNorm: 4,
    nn.GroupNorm: 5,
    nn.LayerNorm: 5,
    MeanOnlyBatchNorm: 6,
    VarianceOnlyBatchNorm: 7,
}

# the kinds of Network::array in network.hpp: of a layer with weights, and of a normalization layer;
# a velocity is one above its parameter
WEIGHT, WEIGHT_VELOCITY, BIAS, BIAS_VELOCITY = range(4)
GAMMA, GAMMA_VELOCITY, BETA, BETA_VELOCITY, RUNNING_MEAN, RUNNING_VAR = range(4, 10)


KNOWN_ACTIVATIONS = ("sigmoid", "relu", "tanh")  # in the order of vector.hpp


class TensorId(NamedTuple):
    """A tensor of a network: its kind, and the index of its layer among those that have one."""

    kind: int
    layer: int


def unsupported(
    config: RunConfig,
    *,
    shape: tuple[int, int, int] = IMAGE_SHAPE,
    classes: int = CLASSES,
    device: str = "cpu",
) -> str:
    """Return why the engine leaves runs of a config to the reference; empty if it trains them.

    Parameters
    ----------
    config
        The arm.
    shape, classes
        Of its images: channels, height and width; and the number of classes.
    device
        ``cpu`` for the compiled kernel, another torch device for stacked tensors.
    """
    layer = norm_of(config.norm)
    # plain averages, and layers without moving moments, are the layers' own
    averages = not isinstance(layer, _BatchNorm) or (
        layer.momentum is not None and has_running_statistics(layer)
    )
    if layer is not None and (type(layer) not in NORM_KINDS or not averages):
        return f"normalization {parse_norm(config.norm)[0]!r} is trained by the reference engine"
    if OPTIMIZERS.parse(config.optimizer) not in (("sgd", {}), ("sgd", {"nesterov": 0})):
        return f"optimizer {config.optimizer!r} is trained by the reference engine"
    if config.activation not in KNOWN_ACTIVATIONS:
        return f"activation {config.activation!r} is trained by the reference engine"
    if config.freeze_norm_step:
        return "normalization frozen at a step is trained by the reference engine"
    layers = layers_of(config, shape, classes)
    if any(layer.add for layer in layers):
        return f"network {config.network!r} has shortcuts, which the reference engine trains"
    return unsupported_by_kernel(config, layers, shape) if device == "cpu" else ""


def unsupported_by_kernel(
    config: RunConfig, layers: Sequence[Layer], shape: tuple[int, int, int]
) -> str:
    """Return why the compiled kernel does not train such layers; empty if it does."""
    classes = layers[-1].outputs
    if classes > MOST_CLASSES:
        return f"the compiled kernel trains on at most {MOST_CLASSES} classes, got {classes}"
    if INPUTS.parse(config.inputs)[1].get("size"):
        return f"inputs {config.inputs!r} resize the images, which the reference engine does"
    if all(layer.kind == "linear" for layer in layers):
        if config.dropout and len(layers) == 1:
            return "dropout of pixels is trained by the reference engine"
        return ""
    if tuple(layers) != lenet(IMAGE_SHAPE, classes):
        return (
            "the compiled kernel trains perceptrons and LeNet without padding and with average "
            f"pooling, not network {config.network!r}"
        )
    if shape != IMAGE_SHAPE:
        size = " x ".join(str(each) for each in shape)
        return f"the compiled kernel trains LeNet on 1 x 28 x 28 images, not {size}"
    return ""


def norm_of(word: str) -> nn.Module | None:
    """Return a normalization layer of a word, as wide as its options need; None for none.

    For its type and conventions, which do not depend on the width.
    """
    groups = parse_norm(word)[1].get("groups", 1)
    # a width that the groups divide; wrong ones are refused when the layer is made
    width = 6 * groups if isinstance(groups, int) and groups > 0 else 6
    return make_norm(word, width, 4, rng=np.random.default_rng(0))


def tensors_of(net: nn.Module) -> list[tuple[TensorId, Tensor]]:
    """Return every parameter and running moment of a network with its id."""
    found: list[tuple[TensorId, Tensor]] = []
    for index, layer in enumerate(layers_with_weights(net).values()):
        found.append((TensorId(WEIGHT, index), layer.weight))
        if layer.bias is not None:
            found.append((TensorId(BIAS, index), layer.bias))
    for index, norm in enumerate(norm_layers(net).values()):
        names = ("weight", "bias", "running_mean", "running_var")
        kinds = (GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR)
        found += [
            (TensorId(kind, index), tensor)
            for kind, each in zip(kinds, names, strict=True)
            # group normalization has no running moments, others no gamma or beta
            if (tensor := getattr(norm, each, None)) is not None
        ]
    return found


class Conventions(NamedTuple):
    """Constants and options of a normalization layer.

    Attributes
    ----------
    kind
        Its number in :data:`NORM_KINDS`.
    eps
        Added to the variance.
    keep
        Weight of the old moving value.
    unbiased
        Whether the unbiased variance enters the moving one.
    ghost_size
        Images per sub-batch of ghost BN; 0 for other kinds.
    groups
        Groups of channels of group normalization; 0 for other kinds.
    gamma, beta
        Whether they are learned.
    """

    kind: int = 0
    eps: float = 1e-5
    keep: float = 0.9
    unbiased: bool = True
    ghost_size: int = 0
    groups: int = 0
    gamma: bool = True
    beta: bool = True


def conventions(layer: nn.Module | None) -> Conventions:
    """Return the conventions of a layer of :data:`NORM_KINDS`; the defaults if it is None."""
    if isinstance(layer, BatchNorm):
        return Conventions(
            kind=NORM_KINDS[type(layer)],
            eps=layer.eps,
            keep=layer.keep,  # type: ignore[arg-type]  # unsupported refuses None
            unbiased=layer.variance == "unbiased",
            ghost_size=layer.size if isinstance(layer, GhostBatchNorm) else 0,
            gamma=layer.gamma is not None,
            beta=layer.beta is not None,
        )
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return Conventions(
            eps=layer.eps,
            keep=1.0 - float(layer.momentum or 0.0),  # torch's momentum weighs the new value
            gamma=layer.affine,
            beta=layer.affine,
        )
    if isinstance(layer, nn.GroupNorm | nn.LayerNorm):
        groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else 1
        return Conventions(kind=NORM_KINDS[type(layer)], eps=layer.eps, groups=groups)
    return Conventions()
