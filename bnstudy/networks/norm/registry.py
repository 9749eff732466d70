"""The registry of normalizations: names, as a config writes them, to layers."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from bnstudy.errors import ConfigError, unknown
from bnstudy.networks.norm.layer import BatchNorm, check_numbers
from bnstudy.networks.norm.variants import (
    FrozenBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    VarianceOnlyBatchNorm,
)

Factory = Callable[..., nn.Module]


@dataclass(frozen=True)
class RegisteredNorm:
    """Factory of a normalization, and its requirement.

    Attributes
    ----------
    factory
        Called as ``factory(num_features, num_dims, rng, **options)``.
    needs_batch
        Whether training needs at least two images per batch.
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


def norm_names() -> tuple[str, ...]:
    """Return the names of all normalizations, ``none`` first."""
    return ("none", *_NORMS)


def register_norm(name: str, factory: Factory, *, needs_batch: bool = True) -> None:
    """Register a normalization of your own under a name.

    Parameters
    ----------
    name
        Lower-case letters, digits and dashes.
    factory
        Called as ``factory(num_features, num_dims, rng, **options)``: channels,
        axes of the input (2 or 4), the run's noise stream, and the options that
        a config writes after the colon.  Returns a module.
    needs_batch
        Whether training needs at least two images per batch.

    Raises
    ------
    ConfigError
        If the name is taken, or holds other characters.
    """
    if name in norm_names():
        raise ConfigError(f"there is a normalization {name!r} already: choose another name")
    if not name.replace("-", "").isalnum() or name != name.lower():
        raise ConfigError(
            f"the name of a normalization is lower-case letters, digits and dashes, got {name!r}"
        )
    _NORMS[name] = RegisteredNorm(factory, needs_batch)


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
    # the first three are the channels, the axes and the stream
    options = list(inspect.signature(_NORMS[name].factory).parameters.values())[3:]
    if any(each.kind is each.VAR_KEYWORD for each in options):
        return None
    return [each.name for each in options]


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
        return _NORMS[name].factory(num_features, num_dims, rng, **options)
    except TypeError as error:
        raise ConfigError(f"normalization {word!r} cannot be made: {error}") from None


def needs_batch(word: str) -> bool:
    """Return whether training with a normalization needs at least two images per batch.

    Raises
    ------
    ConfigError
        If the name or an option is unknown.
    """
    name, _ = parse_norm(word)
    return name != "none" and _NORMS[name].needs_batch
