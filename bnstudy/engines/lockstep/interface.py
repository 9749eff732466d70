"""C interface of the compiled kernel: its structs and functions, and checks of what it is given.

C++ reads and writes where it is told to, so all arrays are checked here first: once when a
kernel is made and once per call, never per batch.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from bnstudy.config import DROPOUT_PLACEMENTS, PLACEMENTS, RunConfig
from bnstudy.data import Images
from bnstudy.engines.lockstep.parameters import KNOWN_ACTIVATIONS, conventions, norm_of
from bnstudy.errors import ConfigError
from bnstudy.networks import layers_of, selected_layers
from bnstudy.networks.inputs import Inputs

ALIGNMENT = 64  # bytes, of the widest vectors


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class Spec(ctypes.Structure):
    """``Spec`` of network.hpp, field by field: settings of a stack."""

    _fields_ = [
        *_fields(ctypes.c_int32, "architecture batch layers channels pixels"),
        *_fields(ctypes.c_int32, "activation placement norm_kind ghost_size groups unbiased"),
        *_fields(ctypes.c_int32, "gamma beta bias dropped dropout_placement standardized"),
        *_fields(ctypes.c_double, "eps keep momentum decay dropout"),
        *_fields(ctypes.c_void_p, "outputs normed mean sd"),
    ]


class Batches(ctypes.Structure):
    """``Batches`` of network.hpp, field by field: the batches of one call of ``train``."""

    _fields_ = [
        *_fields(ctypes.c_void_p, "images labels order"),
        *_fields(ctypes.c_int64, "count"),
        *_fields(ctypes.c_int32, "first last"),
        *_fields(ctypes.c_void_p, "rates draws"),
        *_fields(ctypes.c_int64, "draws_stride"),
        *_fields(ctypes.c_void_p, "noise"),
        *_fields(ctypes.c_int64, "noise_stride"),
        *_fields(ctypes.c_void_p, "losses correct"),
    ]


# return type and arguments of each function; without them ctypes cuts pointers and sizes to ints
_HANDLE, _POINTER, _COUNT, _NUMBER = (
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int32,
)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "lanes": (_NUMBER, []),
    "create": (_HANDLE, [ctypes.POINTER(Spec)]),
    "bytes": (_COUNT, [_HANDLE]),
    "use": (None, [_HANDLE, _POINTER]),
    "free": (None, [_HANDLE]),
    "array": (_POINTER, [_HANDLE, _NUMBER, _NUMBER, ctypes.POINTER(_COUNT)]),
    "draws_per_image": (_COUNT, [_HANDLE]),
    "noise_per_image": (_COUNT, [_HANDLE]),
    "train": (None, [_HANDLE, ctypes.POINTER(Batches)]),
    "seconds": (ctypes.POINTER(ctypes.c_double), [_HANDLE]),
    "evaluate": (None, [_HANDLE, _POINTER, _POINTER, _COUNT, _POINTER, _POINTER]),
    "population": (_NUMBER, [_HANDLE, _POINTER, _COUNT]),
}


@cache
def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions of a library, once its structs are known to be those of this file."""
    library.lockstep_layout.restype = ctypes.POINTER(ctypes.c_int32)
    layout = library.lockstep_layout()
    wanted = [*_layout(Spec), *_layout(Batches), -1]
    for position, value in enumerate(wanted):  # up to the first difference: its end is unknown
        if layout[position] != value:
            raise ConfigError(
                "the compiled kernel and this version of bnstudy lay out their structs "
                f"differently (number {position} is {layout[position]}, not {value}): delete the "
                "folder 'kernels' of bnstudy's cache, and it is compiled again"
            )
    for name, (returns, arguments) in _FUNCTIONS.items():
        function = getattr(library, f"lockstep_{name}")
        function.restype, function.argtypes = returns, arguments
    return library


def _layout(struct: type[ctypes.Structure]) -> list[int]:
    names = [field[0] for field in struct._fields_]
    return [ctypes.sizeof(struct), *(getattr(struct, name).offset for name in names)]


def spec_of(
    config: RunConfig, net: nn.Module, batch: int, shape: tuple[int, int, int], classes: int
) -> tuple[Spec, list[np.ndarray]]:
    """Return the settings of a config for the kernel, and the arrays that they point to.

    Parameters
    ----------
    config
        The arm.
    net
        A network of it, whose mean and standard deviation of the inputs are read.
    batch
        Images of a full batch.
    shape, classes
        Channels, height and width of an image; and the number of classes.
    """
    layers = layers_of(config, shape, classes)
    norm, inputs = conventions(norm_of(config.norm)), getattr(net, "inputs", None)
    selected = selected_layers(config, layers)
    outputs = np.array([layer.outputs for layer in layers], np.int64)
    normed = np.array([index in selected for index in range(1, len(layers) + 1)], np.uint8)
    mean = sd = np.zeros(shape[0], np.float32)
    if isinstance(inputs, Inputs):
        mean, sd = (np.ravel(each.cpu().numpy()) for each in (inputs.mean, inputs.sd))
    if mean.shape != (shape[0],) or sd.shape != (shape[0],):
        raise ConfigError(f"images of {shape[0]} channels have as many means, got {mean.shape}")
    spec = Spec(
        architecture=int(layers[0].kind == "linear"),
        batch=batch,
        layers=len(layers),
        channels=shape[0],
        pixels=shape[1] * shape[2],
        activation=KNOWN_ACTIVATIONS.index(config.activation),
        placement=PLACEMENTS.index(config.placement),
        norm_kind=norm.kind,
        ghost_size=norm.ghost_size,
        groups=norm.groups,
        unbiased=int(norm.unbiased),
        gamma=int(norm.gamma),
        beta=int(norm.beta),
        bias=int(config.bias),
        dropped=int(config.dropout > 0),
        dropout_placement=DROPOUT_PLACEMENTS.index(config.dropout_placement),
        standardized=int(isinstance(inputs, Inputs)),
        eps=norm.eps,
        keep=norm.keep,
        momentum=config.momentum,
        decay=config.weight_decay,
        dropout=config.dropout,
        outputs=pointer(outputs),
        normed=pointer(normed),
        mean=pointer(mean),
        sd=pointer(sd),
    )
    return spec, [outputs, normed, mean, sd]


def images_for_kernel(
    images: Images, shape: tuple[int, int, int], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels in the layout of the kernel: uint8, contiguous.

    Parameters
    ----------
    images
        On any device and in any layout.
    shape, classes
        Those of the network: channels, height and width; and the number of classes.

    Raises
    ------
    ConfigError
        If there is no image, or images and labels are not of that kind.
    """
    pixels, labels = images.images, images.labels
    if not isinstance(pixels, torch.Tensor) or pixels.dtype != torch.uint8:
        found = getattr(pixels, "dtype", type(pixels).__name__)
        raise ConfigError(f"images are a tensor of bytes, 0 to 255 (torch.uint8), got {found}")
    if pixels.ndim not in (3, 4) or images.shape != shape:
        raise ConfigError(
            f"the network was built for images of {_text(shape)}, got {_text(pixels.shape[1:])}: "
            "resize them, or build another network"
        )
    _check_labels(labels, len(pixels), classes)
    return (
        np.ascontiguousarray(pixels.detach().cpu().numpy()),
        np.ascontiguousarray(labels.detach().cpu().numpy().astype(np.uint8)),
    )


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(each) for each in shape) or "no pixels"


def _check_labels(labels: torch.Tensor, count: int, classes: int) -> None:
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.is_complex():
        found = getattr(labels, "dtype", type(labels).__name__)
        raise ConfigError(f"labels are a tensor of integers, got {found}")
    if labels.shape != (count,):
        raise ConfigError(f"{count} images need as many labels, got {tuple(labels.shape)}")
    if not count:
        raise ConfigError("the kernel needs at least 1 image, got none")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ConfigError(
            f"labels of {classes} classes are 0 to {classes - 1}, got {low} to {high}: "
            "change the number of classes or the labels"
        )


def checked_array(
    name: str, array: np.ndarray | None, dtype: type[np.generic], shape: tuple[int, ...]
) -> np.ndarray:
    """Return an array for C++: contiguous, and aligned to its type.

    Raises
    ------
    ConfigError
        If its type or its shape is another.
    """
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = type(array).__name__
        if isinstance(array, np.ndarray):
            found = f"{array.dtype} {array.shape}"
        raise ConfigError(f"{name} must be {np.dtype(dtype)} {shape}, got {found}")
    return np.require(array, requirements=("C", "ALIGNED"))


def zeroed_memory(size: int) -> np.ndarray:
    """Return bytes, all zero, aligned as the widest vectors need.

    Memory of numpy, so that views of it stay valid when the kernel is closed.
    """
    block = np.zeros(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]


def pointer(array: np.ndarray | None) -> int | None:
    """Return the address of an array, which it does not keep alive; None for none."""
    return None if array is None else array.ctypes.data
