"""What the lockstep engine can train, and the names it has for a network's tensors."""

from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from bnstudy.config import RunConfig
from bnstudy.networks.lenet import LAYERS, norm_layers
from bnstudy.networks.norm import (
    BatchNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    VarianceOnlyBatchNorm,
    make_norm,
    parse_norm,
)

# the kernel's number of each normalization; subclasses of these are not known to it
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

# what lockstep_array calls the arrays of a layer with weights, and of a normalization layer
WEIGHT, WEIGHT_VELOCITY, BIAS, BIAS_VELOCITY = range(4)
GAMMA, GAMMA_VELOCITY, BETA, BETA_VELOCITY, RUNNING_MEAN, RUNNING_VAR = range(4, 10)


class Place(NamedTuple):
    """Which tensor of a network: what kind, of which layer."""

    kind: int
    layer: int


def unsupported(config: RunConfig) -> str:
    """Return why the engine cannot train such runs; empty if it can."""
    if config.norm == "none":
        return ""
    layer = make_norm(config.norm, 6, 4, rng=np.random.default_rng(0))
    if type(layer) not in NORM_KINDS:
        return f"normalization {parse_norm(config.norm)[0]!r} is trained by the reference engine"
    return ""


def places(net: nn.Module) -> list[tuple[Place, Tensor]]:
    """Return every parameter and running moment of a network with its place."""
    found: list[tuple[Place, Tensor]] = []
    for index, name in enumerate(LAYERS):
        layer = net.get_submodule(name)
        found.append((Place(WEIGHT, index), layer.weight))  # type: ignore[arg-type]
        if layer.bias is not None:
            found.append((Place(BIAS, index), layer.bias))  # type: ignore[arg-type]
    for index, layer in enumerate(norm_layers(net).values()):
        names = ("weight", "bias", "running_mean", "running_var")
        if isinstance(layer, BatchNorm):
            names = ("gamma", "beta", "moving_mean", "moving_var")
        kinds = (GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR)
        found += [
            (Place(kind, index), tensor)
            for kind, each in zip(kinds, names, strict=True)
            # group normalization has no running moments, others no gamma or beta
            if (tensor := getattr(layer, each, None)) is not None
        ]
    return found


class Conventions(NamedTuple):
    """How a normalization layer counts.

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
    part_size
        Images in a part of ghost BN; 0 elsewhere.
    groups
        Groups of channels of group normalization; 0 elsewhere.
    gamma, beta
        Whether they are there to be learned.
    """

    kind: int = 0
    eps: float = 1e-5
    keep: float = 0.9
    unbiased: bool = True
    part_size: int = 0
    groups: int = 0
    gamma: bool = True
    beta: bool = True


def conventions(layer: nn.Module | None) -> Conventions:
    """Return the conventions of a layer of :data:`NORM_KINDS`; the defaults if it is None."""
    if isinstance(layer, BatchNorm):
        return Conventions(
            kind=NORM_KINDS[type(layer)],
            eps=layer.eps,
            keep=layer.keep,
            unbiased=layer.variance == "unbiased",
            part_size=layer.size if isinstance(layer, GhostBatchNorm) else 0,
            gamma=layer.gamma is not None,
            beta=layer.beta is not None,
        )
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return Conventions(
            eps=layer.eps,
            keep=1.0 - float(layer.momentum or 0.0),
            gamma=layer.affine,
            beta=layer.affine,
        )
    if isinstance(layer, nn.GroupNorm | nn.LayerNorm):
        groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else 1
        return Conventions(kind=NORM_KINDS[type(layer)], eps=layer.eps, groups=groups)
    return Conventions()
