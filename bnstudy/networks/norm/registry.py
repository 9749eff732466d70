"""Registry of normalizations: from names, as a config writes them, to layers."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.errors import ConfigError, unknown
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

Factory = Callable[..., nn.Module]
Registered = TypeVar("Registered", bound=Factory)


@dataclass(frozen=True)
class RegisteredNorm:
    """Factory of a normalization, and its requirement.

    Attributes
    ----------
    factory
        Called as ``factory(num_features, num_dims, rng, **options)``.
    needs_batch
        True if training needs at least two images per batch.
    """

    factory: Factory
    needs_batch: bool


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


def _ghost(C: int, dims: int, rng: Any, *, size: int = 32, eps: float = 1e-5) -> nn.Module:
    return GhostBatchNorm(C, size=size, eps=eps)


def _population(
    C: int, dims: int, rng: Any, *, eps: float = 1e-5, momentum: float = 0.9
) -> nn.Module:
    return PopulationBatchNorm(C, eps=eps, momentum=momentum)


def _frozen(C: int, dims: int, rng: Any, *, eps: float = 1e-5, momentum: float = 0.9) -> nn.Module:
    return FrozenBatchNorm(C, eps=eps, momentum=momentum)


def _noisy(C: int, dims: int, rng: np.random.Generator, *, eps: float = 1e-5) -> nn.Module:
    return NoisyBatchNorm(C, rng=rng, eps=eps)


def _mean_only(C: int, dims: int, rng: Any) -> nn.Module:
    return MeanOnlyBatchNorm(C)


def _variance_only(C: int, dims: int, rng: Any, *, eps: float = 1e-5) -> nn.Module:
    return VarianceOnlyBatchNorm(C, eps=eps)


def _group(C: int, dims: int, rng: Any, *, groups: int = 2, eps: float = 1e-5) -> nn.Module:
    """Group normalization (Wu & He 2018), torch's."""
    check_numbers(eps, 0)
    if not isinstance(groups, int) or groups < 1 or C % groups:
        raise ConfigError(f"groups must divide the {C} channels of a layer, got {groups!r}")
    return nn.GroupNorm(groups, C, eps=eps)


def _layer(C: int, dims: int, rng: Any, *, eps: float = 1e-5) -> nn.Module:
    """Layer normalization (Ba, Kiros & Hinton 2016), torch's, gamma and beta per channel."""
    check_numbers(eps, 0)
    return nn.LayerNorm(C, eps=eps) if dims == 2 else nn.GroupNorm(1, C, eps=eps)


_NORMS: dict[str, RegisteredNorm] = {
    "bn": RegisteredNorm(_torch_bn, needs_batch=True),
    "scratch": RegisteredNorm(_scratch, needs_batch=True),
    "ghost": RegisteredNorm(_ghost, needs_batch=True),
    "population": RegisteredNorm(_population, needs_batch=True),
    "frozen": RegisteredNorm(_frozen, needs_batch=True),
    "noisy": RegisteredNorm(_noisy, needs_batch=True),
    "mean-only": RegisteredNorm(_mean_only, needs_batch=True),
    "variance-only": RegisteredNorm(_variance_only, needs_batch=True),
    "group": RegisteredNorm(_group, needs_batch=False),
    "layer": RegisteredNorm(_layer, needs_batch=False),
}


# what these words mean is part of every plan and report, so they are never registered again
OWN_NORMS = frozenset({"none", *_NORMS})


def norm_names() -> tuple[str, ...]:
    """Return the names of all normalizations, ``none`` first."""
    return ("none", *_NORMS)


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
    if name in OWN_NORMS:
        raise ConfigError(
            f"there is a normalization {name!r} already, one of the package: choose another name"
        )
    if name in _NORMS and not replace:
        raise ConfigError(
            f"there is a normalization {name!r} already: choose another name, or pass replace=True"
        )
    if not name.replace("-", "").isalnum() or name != name.lower():
        raise ConfigError(
            f"the name of a normalization is lower-case letters, digits and dashes, got {name!r}"
        )

    def register(given: Registered) -> Registered:
        check_signature(name, given)
        _NORMS[name] = RegisteredNorm(given, needs_batch)
        return given

    if factory is None:
        return register
    register(factory)
    return None


def check_signature(name: str, factory: object) -> None:
    """Refuse a factory that no config could call.

    Raises
    ------
    ConfigError
        If it is not callable with the channels, the axes and the stream by position
        and its options by name, each with a default.
    """
    rule = f"normalization {name!r} is made by factory(num_features, num_dims, rng, **options)"
    if not callable(factory) or isinstance(factory, nn.Module):
        raise ConfigError(f"{rule}, got {factory!r}: pass a function or a class")
    try:
        signature = inspect.signature(factory)
        signature.bind(6, 4, None)
    except (TypeError, ValueError) as error:  # ValueError: a builtin without a signature
        raise ConfigError(
            f"{rule} with a default for each option, got {name_of(factory)}: {error}"
        ) from None
    options = options_of([*signature.parameters.values()])
    if any(each.kind is each.POSITIONAL_ONLY for each in options):
        raise ConfigError(f"{rule}, got {name_of(factory)}{signature}: take options by name")


def name_of(factory: object) -> str:
    """Return the name of a function or class, or how another object is written."""
    return str(getattr(factory, "__qualname__", repr(factory)))


def parse_norm(word: str) -> tuple[str, dict[str, Any]]:
    """Split ``name:key=value,key=value`` into its name and options.

    Raises
    ------
    ConfigError
        If the name or an option is unknown, or an option has no value or two.
    """
    name, _, text = word.partition(":")
    if name not in norm_names():
        raise ConfigError(unknown("normalization", name, norm_names()))
    options = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise ConfigError(f"an option of {name!r} is written key=value, got {part!r}")
        if key in options:
            raise ConfigError(f"an option is given once, got {key!r} twice in {word!r}")
        options[key] = _number_or_text(value)
    taken = _option_names(name)
    for key in options:
        if taken == []:
            raise ConfigError(f"normalization {name!r} takes no options, got {key!r}: leave it out")
        if taken is not None and key not in taken:
            raise ConfigError(unknown(f"{name} option", key, taken))
    return name, options


def _number_or_text(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _option_names(name: str) -> list[str] | None:
    """Return the options a normalization takes, or None if its factory takes any."""
    if name == "none":
        return []
    parameters = [*inspect.signature(_NORMS[name].factory).parameters.values()]
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in options_of(parameters)]


def options_of(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return the parameters of a factory that are options."""
    named = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    # the first three are the channels, the axes and the stream
    return [each for each in parameters if each.kind in by_position][3:] + named


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
    name, options = parse_norm(word)
    if name == "none":
        return None
    try:
        # a value of the wrong type reaches the layer's own arithmetic
        layer = _NORMS[name].factory(num_features, num_dims, rng, **options)
    except TypeError as error:
        raise ConfigError(f"normalization {word!r} cannot be made: {error}") from None
    if name not in OWN_NORMS:
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
    name, _ = parse_norm(word)
    return name != "none" and _NORMS[name].needs_batch
