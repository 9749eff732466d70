"""Registry of normalizations: from names, as a config writes them, to layers."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.errors import ConfigError
from bnstudy.networks.norm.functional import check_numbers
from bnstudy.networks.norm.layer import BatchNorm
from bnstudy.networks.norm.variants import (
    FrozenBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    VarianceOnlyBatchNorm,
)
from bnstudy.registry import Registry, is_own

Factory = Callable[..., nn.Module]
Registered = TypeVar("Registered", bound=Factory)
NORMS: Registry[nn.Module | None] = Registry("normalization", ("num_features", "num_dims", "rng"))
_SINGLE_IMAGES = {"none", "group", "layer"}  # those that can train on a batch of one image


@NORMS.register("none")
def _none(C: int, dims: int, rng: Any) -> None:
    return None


@NORMS.register("bn")
def _torch_bn(
    C: int, dims: int, rng: Any, *, eps: float = 1e-5, momentum: float = 0.1, affine: int = 1
) -> nn.Module:
    check_numbers(eps, momentum)
    kind = nn.BatchNorm1d if dims == 2 else nn.BatchNorm2d
    return kind(C, eps=eps, momentum=momentum, affine=_switch("affine", affine))


def _switch(name: str, value: object) -> bool:
    if value not in (0, 1):
        raise ConfigError(f"{name} must be 0 or 1, got {value!r}")
    return bool(value)


@NORMS.register("scratch")
def _scratch(
    C: int,
    dims: int,
    rng: Any,
    *,
    eps: float = 1e-5,
    momentum: float = 0.9,
    momentum_of: str = "old",
    variance: str = "biased",
    affine: int = 1,
) -> nn.Module:
    return BatchNorm(
        C,
        eps=eps,
        momentum=momentum,
        momentum_of=momentum_of,
        variance=variance,
        affine=_switch("affine", affine),
    )


@NORMS.register("ghost")
def _ghost(C: int, dims: int, rng: Any, *, size: int = 32, eps: float = 1e-5) -> nn.Module:
    return GhostBatchNorm(C, size=size, eps=eps)


@NORMS.register("population")
def _population(
    C: int, dims: int, rng: Any, *, eps: float = 1e-5, momentum: float = 0.9
) -> nn.Module:
    return PopulationBatchNorm(C, eps=eps, momentum=momentum)


@NORMS.register("frozen")
def _frozen(C: int, dims: int, rng: Any, *, eps: float = 1e-5, momentum: float = 0.9) -> nn.Module:
    return FrozenBatchNorm(C, eps=eps, momentum=momentum)


@NORMS.register("noisy")
def _noisy(C: int, dims: int, rng: np.random.Generator, *, eps: float = 1e-5) -> nn.Module:
    return NoisyBatchNorm(C, rng=rng, eps=eps)


@NORMS.register("mean-only")
def _mean_only(C: int, dims: int, rng: Any) -> nn.Module:
    return MeanOnlyBatchNorm(C)


@NORMS.register("variance-only")
def _variance_only(C: int, dims: int, rng: Any, *, eps: float = 1e-5) -> nn.Module:
    return VarianceOnlyBatchNorm(C, eps=eps)


@NORMS.register("group")
def _group(C: int, dims: int, rng: Any, *, groups: int = 2, eps: float = 1e-5) -> nn.Module:
    """Group normalization (Wu & He 2018), torch's."""
    check_numbers(eps, 0)
    if not isinstance(groups, int) or groups < 1 or C % groups:
        raise ConfigError(f"groups must divide the {C} channels of a layer, got {groups!r}")
    return nn.GroupNorm(groups, C, eps=eps)


@NORMS.register("layer")
def _layer(C: int, dims: int, rng: Any, *, eps: float = 1e-5) -> nn.Module:
    """Layer normalization (Ba, Kiros & Hinton 2016), torch's, gamma and beta per channel."""
    check_numbers(eps, 0)
    return nn.LayerNorm(C, eps=eps) if dims == 2 else nn.GroupNorm(1, C, eps=eps)


def norm_names() -> tuple[str, ...]:
    """Return the names of all normalizations, ``none`` first."""
    return tuple(NORMS)


@overload
def register_norm(
    name: str, factory: Factory, *, needs_batch: bool = True, replace: bool = False
) -> None: ...


@overload
def register_norm(
    name: str, *, needs_batch: bool = True, replace: bool = False
) -> Callable[[Registered], Registered]: ...


def register_norm(
    name: str,
    factory: Factory | None = None,
    *,
    needs_batch: bool = True,
    replace: bool = False,
) -> Any:
    """Register a normalization of your own under a name, by a call or as a decorator.

    Parameters
    ----------
    name
        Lower-case letters, digits and dashes.
    factory
        Called as ``factory(num_features, num_dims, rng, **options)``: channels,
        axes of the input (2 or 4), the run's noise stream, and the options that
        a config writes after the colon.  Returns a module.  Left out, the function
        returns a decorator for the factory.
    needs_batch
        True if training needs at least two images per batch.
    replace
        True to replace an earlier registration of the name, as when the cell of a
        notebook runs again.  The package's own normalizations are never replaced.

    Raises
    ------
    ConfigError
        If the name is taken or holds other characters, or the factory cannot be
        called in that way.

    Examples
    --------
    >>> @register_norm("instance")
    ... def instance(num_features, num_dims, rng, eps=1e-5):
    ...     return nn.InstanceNorm2d(num_features, eps=eps)
    """
    decorator = NORMS.register(name, replace=replace)

    def register(given: Registered) -> Registered:
        decorator(given)
        _SINGLE_IMAGES.discard(name)
        if not needs_batch:
            _SINGLE_IMAGES.add(name)
        return given

    if factory is None:
        return register
    register(factory)
    return None


def parse_norm(word: str) -> tuple[str, dict[str, Any]]:
    """Split ``name:key=value,key=value`` into its name and options.

    Raises
    ------
    ConfigError
        If the name or an option is unknown, or an option has no value or two.
    """
    return NORMS.parse(word)


def make_norm(
    word: str, num_features: int, num_dims: int, *, rng: np.random.Generator
) -> nn.Module | None:
    """Make the layer that a config names.

    Parameters
    ----------
    word
        ``none``; ``bn``: torch's; ``scratch``: :class:`BatchNorm` in the notes'
        conventions; both with ``affine=0`` for no gamma and beta;
        ``ghost:size=32``; ``population``; ``frozen``; ``noisy``; ``mean-only``;
        ``variance-only``; ``group:groups=2``; ``layer``; or a name given to
        :func:`register_norm`.  Options are written ``name:key=value,key=value``.
    num_features
        Channels of its input.
    num_dims
        Axes of its input: 2 after a linear layer, 4 after a convolution.
    rng
        Stream for layers that add noise.

    Returns
    -------
    torch.nn.Module or None
        None for ``none``.

    Raises
    ------
    ConfigError
        If the name or an option is unknown, or an option's value is impossible.
    """
    layer = NORMS.make(word, num_features, num_dims, rng)
    factory = NORMS.factory(word)
    if factory is not None and not is_own(factory):
        check_layer(word, layer, num_features, num_dims)
    return layer


def check_layer(word: str, layer: object, num_features: int, num_dims: int) -> None:
    """Refuse what a registered factory returned, if no network could train with it.

    A copy of the layer is run on a small batch in both modes, so that what is wrong is
    said before anything trains.

    Raises
    ------
    ConfigError
        If it is not a module, or its output has not the shape and dtype of its input.
    """
    if not isinstance(layer, nn.Module):
        found = f"the class {layer.__name__}" if isinstance(layer, type) else repr(layer)
        raise ConfigError(
            f"the factory of normalization {word!r} must return a module, got {found}"
        )
    # other numbers of images and positions than of channels, whatever these are
    images = num_features + 3
    X = torch.linspace(-1.0, 1.0, images * num_features * (64 if num_dims == 4 else 1))
    X = X.reshape(images, num_features, *[8] * (num_dims - 2))  # (N, C) or (N, C, 8, 8)
    for training in (True, False):
        try:
            with torch.random.fork_rng(devices=[]):
                # a copy, with a copy of the stream: moments and noise stay at their start
                Y = copy.deepcopy(layer).train(training)(X)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"normalization {word!r} cannot normalize a batch of shape {tuple(X.shape)}: "
                f"{type(error).__name__}: {reason}"
            ) from None
        if not isinstance(Y, Tensor) or Y.shape != X.shape or Y.dtype != X.dtype:
            found = f"{tuple(Y.shape)}, {Y.dtype}" if isinstance(Y, Tensor) else repr(type(Y))
            raise ConfigError(
                f"normalization {word!r} must return a tensor of the shape and dtype of its "
                f"input, {tuple(X.shape)}, {X.dtype}, got {found}"
            )


def needs_batch(word: str) -> bool:
    """Return True if training with a normalization needs at least two images per batch.

    Raises
    ------
    ConfigError
        If the name or an option is unknown.
    """
    return parse_norm(word)[0] not in _SINGLE_IMAGES
