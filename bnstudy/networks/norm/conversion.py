"""Conversion of all batch norms of a model from torch's to ours and back."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnstudy.errors import ConfigError
from bnstudy.networks.norm.layer import BatchNorm

Model = TypeVar("Model", bound=nn.Module)


def from_torch(
    model: Model, kind: type[BatchNorm] = BatchNorm, *, inplace: bool = False, **options: Any
) -> Model:
    """Return a model with every batch norm of torch's replaced by ours.

    Each becomes the layer that computes the same (:meth:`BatchNorm.from_torch`), in its
    place and under its name; a layer that is used in several places stays one layer.
    What calls ``torch.nn.functional.batch_norm`` itself stays as it is.

    Parameters
    ----------
    model
        Any module, a single batch norm included.
    kind
        :class:`BatchNorm` or one of its relatives, to train on with.
    inplace
        False to convert a copy; True to convert the model itself: its parameters stay
        the same objects, so an optimizer goes on with them.
    **options
        Options for every layer, such as ``variance="biased"`` or the ``size`` of ghost BN.

    Raises
    ------
    ConfigError
        If a layer cannot be converted; then none is.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    >>> from_torch(net, variance="biased")[1]
    BatchNorm(4, eps=1e-05, momentum=0.1, momentum_of='new', variance='biased')
    """
    if not (isinstance(kind, type) and issubclass(kind, BatchNorm)):
        raise ConfigError(f"kind must be BatchNorm or a subclass of it, got {kind!r}")
    for name, module in model.named_modules():
        with _naming(name):
            if isinstance(module, torch.jit.ScriptModule) and "BatchNorm" in module.original_name:
                raise ConfigError("a scripted batch norm does not convert: convert, then script")
            if _is_torchs(module):
                kind.check_from_torch(module, options)
    converted = model if inplace else copy.deepcopy(model)
    for module in [each for each in converted.modules() if _is_torchs(each)]:
        kind.from_torch(module, inplace=True, **options)
    return converted


def to_torch(model: Model, example: Any = None, *, inplace: bool = False) -> Model:
    """Return a model with each of our batch norms replaced by torch's.

    Each becomes the ``BatchNorm1d``, ``2d`` or ``3d`` that computes the same
    (:meth:`BatchNorm.to_torch`), as :func:`from_torch` does the other way.

    Parameters
    ----------
    model
        Any module.
    example
        Input of the model, a tensor or a tuple of arguments.  It is run once in
        evaluation mode to find the axes of the input of each layer; needed for layers
        that :func:`from_torch` has not made.
    inplace
        As in :func:`from_torch`.

    Raises
    ------
    ConfigError
        If a layer cannot be converted, or the axes of its input are unknown; then none is.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(5, 4), BatchNorm(4)).eval()
    >>> to_torch(net, torch.zeros(2, 5))[1]  # doctest: +ELLIPSIS
    BatchNorm1d(4, eps=1e-05, momentum=0.0999..., affine=True, ...)
    """
    converted = model if inplace else copy.deepcopy(model)
    layers = {name: each for name, each in converted.named_modules() if isinstance(each, BatchNorm)}
    axes = {} if example is None else axes_of_inputs(converted, layers, example)
    for name, layer in layers.items():
        with _naming(name):
            layer.check_to_torch()
            if name not in axes and layer.torch_kind is None:
                raise ConfigError(
                    "the axes of its input are unknown: pass an example input that reaches it"
                )
    for name, layer in layers.items():
        layer.to_torch(axes.get(name), inplace=True)
    return converted


def axes_of_inputs(model: nn.Module, layers: dict[str, BatchNorm], example: Any) -> dict[str, int]:
    """Return the number of axes of the input of each layer that an example reaches."""
    axes: dict[str, int] = {}

    def note(name: str, inputs: tuple[Any, ...]) -> None:
        axes[name] = inputs[0].dim()

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs))
        for name, layer in layers.items()
    ]
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()  # an example changes no moments, and may hold one image
        with torch.no_grad():
            model(*example) if isinstance(example, tuple) else model(example)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return axes


def _is_torchs(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and not isinstance(module, BatchNorm)


@contextmanager
def _naming(layer: str) -> Iterator[None]:
    """Put the name of a layer before an error."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"layer {layer!r}: {error}" if layer else str(error)) from None
