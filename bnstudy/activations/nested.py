"""Tensors inside what a module takes or gives: tuples, dicts, data classes."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of a nested value and its name: ``out``, ``out.0``, ``out.hidden``.

    Tuples, lists, mappings, data classes and named tuples are entered; any
    other object is passed over.
    """
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, f"{name}.{key}")
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for key in value._fields:
            yield from tensors(getattr(value, key), f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from tensors(item, f"{name}.{index}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from tensors(getattr(value, item.name), f"{name}.{item.name}")


def refusal(tensor: Tensor) -> str:
    """Return why a tensor has no statistics, or nothing if it has."""
    if tensor.is_nested:
        return "a nested tensor has no common shape"
    if tensor.layout != torch.strided:
        return "a sparse tensor has no dense values"
    if tensor.is_complex():
        return "complex values have no order"
    if not tensor.is_floating_point():
        return f"{str(tensor.dtype).removeprefix('torch.')} values are labels or indices"
    if tensor.numel() == 0:
        return "it is empty"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "it is inside a function transform such as vmap"
    return ""


def inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors a module was called with: ``in``, or ``in.0``, ``in.mask``, ...."""
    if len(args) == 1 and not kwargs:
        yield from tensors(args[0], "in")
        return
    for index, item in enumerate(args):
        yield from tensors(item, f"in.{index}")
    for key, item in kwargs.items():
        yield from tensors(item, f"in.{key}")
