"""The compiled kernel as a Python object: numpy arrays in, numpy arrays out.

C++ reads and writes where it is told to, so all that it is given is checked here: once when a
kernel is made, once per call of its methods, and never per batch.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bnstudy.compiling import compiled
from bnstudy.config import ACTIVATIONS, DROPOUT_PLACEMENTS, PLACEMENTS, RunConfig
from bnstudy.data import Images
from bnstudy.engines.lockstep.parameters import (
    RUNNING_MEAN,
    RUNNING_VAR,
    TensorId,
    conventions,
    norm_of,
    tensors_of,
    unsupported,
)
from bnstudy.engines.lockstep.random_draws import draw_counts
from bnstudy.errors import ConfigError
from bnstudy.networks import layers_of, layers_with_weights, selected_layers
from bnstudy.networks.inputs import Inputs

SOURCE = Path(__file__).parent / "cpp" / "kernel.cpp"
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
    "evaluate": (None, [_HANDLE, _POINTER, _POINTER, _COUNT, _POINTER, _POINTER]),
    "population": (_NUMBER, [_HANDLE, _POINTER, _COUNT]),
}


def lane_count() -> int:
    """Return how many seeds the kernel of this machine trains at once: 16, 8 or 4.

    Raises
    ------
    ConfigError
        If the kernel is unavailable.
    """
    return int(_library().lockstep_lanes())


def _library() -> ctypes.CDLL:
    library, reason = compiled(SOURCE)
    if library is None:
        raise ConfigError(f"the lockstep engine is not available: {reason}")
    return _declared(library)


@cache
def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
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


def _pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


class Kernel:
    """Up to :func:`lane_count` networks of one arm, one per lane.

    Lanes beyond the last network repeat the first one; their results are ignored.
    A :class:`~bnstudy.engines.lockstep.loop.Program`.

    Parameters
    ----------
    config
        The arm.
    nets
        At most as many as there are lanes, with their initial weights, of
        :func:`bnstudy.networks.build`.
    train
        The images to train on.

    Raises
    ------
    ConfigError
        If the kernel or the memory is unavailable, there are too many networks, or config,
        networks and images do not fit.
    """

    def __init__(self, config: RunConfig, nets: Sequence[nn.Module], train: Images) -> None:
        self._library = library = _library()
        self._handle: int | None = None
        self._lanes = int(library.lockstep_lanes())
        if not 1 <= len(nets) <= self._lanes:
            raise ConfigError(f"this kernel trains 1 to {self._lanes} networks, got {len(nets)}")
        self._shape = train.shape
        self._classes = _classes_of(nets[0])
        if reason := unsupported(config, shape=self._shape, classes=self._classes):
            raise ConfigError(f"the kernel cannot train this: {reason}")
        self._images, self._labels = images_for_kernel(train, self._shape, self._classes)
        self._batch, self._count = min(config.batch_size, len(train)), len(nets)
        self._order: np.ndarray | None = None
        self._unread: list[tuple[np.ndarray, np.ndarray]] = []
        self.sizes = {of: tensor.numel() for of, tensor in tensors_of(nets[0])}
        self._create(config, nets[0])
        counts = draw_counts(config, nets)
        self._draws_per_image, self._noise_per_image = counts.dropout, counts.noise
        try:
            self._check_sizes()
            for lane in range(self._lanes):
                self._set(lane, nets[lane if lane < len(nets) else 0])
        except BaseException:
            self.close()
            raise

    def _create(self, config: RunConfig, net: nn.Module) -> None:
        spec, held = spec_of(config, net, self._batch, self._shape, self._classes)
        self._handle = self._library.lockstep_create(ctypes.byref(spec))
        del held  # C++ has copied the arrays that spec points to
        try:
            if self._handle is None:
                raise MemoryError
            size = self._library.lockstep_bytes(self._handle)
            self._memory = zeroed_memory(size)
        except (MemoryError, ValueError):  # numpy's ValueError: more than an address can be
            self.close()
            raise ConfigError(
                f"there is no memory for {self._lanes} networks at batch size {self._batch}: "
                "choose a smaller batch_size or network"
            ) from None
        self._library.lockstep_use(self._handle, self._memory.ctypes.data)

    def _check_sizes(self) -> None:
        """Refuse networks that the kernel lays out in another way than torch does."""
        for of in self.sizes:
            self.lanes(of)
        drawn = (
            self._library.lockstep_draws_per_image(self._handle),
            self._library.lockstep_noise_per_image(self._handle),
        )
        if drawn != (self._draws_per_image, self._noise_per_image):
            raise ConfigError(
                f"the kernel draws {drawn} random numbers per image for dropout and noise, the "
                f"network {(self._draws_per_image, self._noise_per_image)}: it is not the "
                "network of this config"
            )

    def _open(self) -> int:
        if self._handle is None:
            raise ConfigError("this kernel is closed: make another one")
        return self._handle

    def __del__(self) -> None:
        """Free what a kernel holds that nobody has closed."""
        if getattr(self, "_handle", None) is not None:
            self.close()

    def close(self) -> None:
        """Free the network; the kernel must not be used afterwards, views of it may be."""
        if self._handle is not None:
            self._library.lockstep_free(self._handle)
            self._handle = None

    def lanes(self, of: TensorId) -> np.ndarray:
        """Return a view of a parameter or running moment: float32 (size, lanes)."""
        return self._array(of.kind, of)

    def velocity(self, of: TensorId) -> np.ndarray:
        """Return a view of a parameter's velocity, in arms with momentum: (size, lanes)."""
        if of.kind in (RUNNING_MEAN, RUNNING_VAR):
            raise ConfigError(f"running moments have no velocity, got {of}")
        return self._array(of.kind + 1, of)

    def _array(self, kind: int, of: TensorId) -> np.ndarray:
        size = ctypes.c_int64()
        start = self._library.lockstep_array(self._open(), kind, of.layer, ctypes.byref(size))
        if of not in self.sizes or size.value != self.sizes[of]:
            raise ConfigError(
                f"the kernel holds {size.value} numbers of {of}, the network "
                f"{self.sizes.get(of, 0)}: it is not the network of this config"
            )
        first = start - self._memory.ctypes.data
        numbers = self._memory[first : first + 4 * self._lanes * size.value].view(np.float32)
        return numbers.reshape(size.value, self._lanes)

    def _padded(self, seeds: np.ndarray) -> np.ndarray:
        """Return a row for each lane, (K, ...) -> (lanes, ...): after the last seed the first."""
        if len(seeds) == self._lanes:
            return seeds
        return seeds[[i if i < len(seeds) else 0 for i in range(self._lanes)]]

    def _set(self, lane: int, net: nn.Module) -> None:
        for of, tensor in self._tensors_of(net):
            self.lanes(of)[:, lane] = tensor.detach().cpu().numpy().ravel()

    @torch.no_grad()
    def take(self, lane: int, net: nn.Module) -> None:
        """Copy a lane's parameters and running moments into a network."""
        if not 0 <= lane < self._count:
            raise ConfigError(f"a lane is a number in 0..{self._count - 1}, got {lane}")
        for of, tensor in self._tensors_of(net):
            values = self.lanes(of)[:, lane]
            tensor.copy_(torch.from_numpy(values.copy()).reshape(tensor.shape))

    def _tensors_of(self, net: nn.Module) -> list[tuple[TensorId, torch.Tensor]]:
        found = tensors_of(net)
        if {of: tensor.numel() for of, tensor in found} != self.sizes:
            raise ConfigError("all networks of a kernel have the same layers, got different ones")
        if any(tensor.dtype != torch.float32 for _, tensor in found):
            raise ConfigError("networks of the kernel are of float32: call net.float() first")
        return found

    def start_epoch(self, orders: np.ndarray) -> None:
        """Set each seed's order of the training images: int64 (K, n)."""
        n = len(self._labels)
        orders = checked_array("orders", orders, np.int64, (self._count, n))
        low, high = int(orders.min()), int(orders.max())
        if low < 0 or high >= n:
            raise ConfigError(f"an order of {n} images holds 0 to {n - 1}, got {low} to {high}")
        self._order = checked_array("orders", self._padded(orders), np.int64, (self._lanes, n))

    def train(
        self,
        first: int,
        last: int,
        rates: np.ndarray,
        draws: np.ndarray | None = None,
        noise: np.ndarray | None = None,
    ) -> None:
        """Train on the batches [first, last) of the epoch; see :class:`Program`."""
        handle, order, n = self._open(), self._order, len(self._labels)
        if order is None:
            raise ConfigError("a kernel trains on an order of images: call start_epoch first")
        steps = -(-n // self._batch)
        if not 0 <= first < last <= steps:
            raise ConfigError(f"batches are some of 0 to {steps}, got [{first}, {last})")
        rates = checked_array("rates", rates, np.float32, (last - first,))
        images = min(last * self._batch, n) - first * self._batch
        draws = self._random_numbers("draws", draws, self._draws_per_image * images)
        noise = self._random_numbers("noise", noise, self._noise_per_image * images)
        losses = np.empty((last - first, self._lanes), np.float64)
        correct = np.empty((last - first, self._lanes), np.int32)
        rates = np.repeat(rates[:, None], self._lanes, axis=1)
        batches = Batches(
            images=_pointer(self._images),
            labels=_pointer(self._labels),
            order=_pointer(order),
            count=n,
            first=first,
            last=last,
            rates=_pointer(rates),
            draws=_pointer(draws),
            draws_stride=0 if draws is None else draws.shape[1],
            noise=_pointer(noise),
            noise_stride=0 if noise is None else noise.shape[1],
            losses=_pointer(losses),
            correct=_pointer(correct),
        )
        self._library.lockstep_train(handle, ctypes.byref(batches))
        self._unread.append((losses[:, : self._count], correct[:, : self._count]))

    def _random_numbers(
        self, name: str, numbers: np.ndarray | None, count: int
    ) -> np.ndarray | None:
        """Return draws or noise for all lanes, (K, count) -> (lanes, count); None for none."""
        if not count:
            if numbers is not None:
                raise ConfigError(f"this config needs no {name}, got {type(numbers).__name__}")
            return None
        numbers = checked_array(name, numbers, np.float32, (self._count, count))
        return checked_array(name, self._padded(numbers), np.float32, (self._lanes, count))

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Return losses and numbers of correct images since the last call: (batches, K) each."""
        none = np.empty((0, self._count)), np.empty((0, self._count), np.int32)
        losses, correct = zip(none, *self._unread, strict=True)
        self._unread = []
        return np.concatenate(losses), np.concatenate(correct)

    def evaluate(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return mean loss and accuracy of each lane over some images, by running statistics.

        Raises
        ------
        ConfigError
            If there is no image, or images or labels are not of the network's kind.
        """
        # names, for a pointer alone keeps no array alive
        pixels, labels = images_for_kernel(images, self._shape, self._classes)
        loss, correct = np.zeros(self._lanes), np.zeros(self._lanes, np.int64)
        count = len(labels)
        outputs = loss.ctypes.data, correct.ctypes.data
        self._library.lockstep_evaluate(
            self._open(), pixels.ctypes.data, labels.ctypes.data, count, *outputs
        )
        return loss[: self._count] / count, correct[: self._count] / count

    def evaluate_population(
        self, population: Images, images: Images
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the same by the statistics of a population; the running ones are restored."""
        pixels, _ = images_for_kernel(population, self._shape, self._classes)
        running = [self.lanes(of) for of in self.sizes if of.kind in (RUNNING_MEAN, RUNNING_VAR)]
        if not running:
            return self.evaluate(images)
        before = [buffer.copy() for buffer in running]
        try:
            if not self._library.lockstep_population(
                self._open(), pixels.ctypes.data, len(population)
            ):
                raise ConfigError(
                    f"there is no memory for the statistics of {len(population)} images: "
                    "choose fewer population_images"
                )
            return self.evaluate(images)
        finally:
            for buffer, values in zip(running, before, strict=True):
                buffer[:] = values


def _classes_of(net: nn.Module) -> int:
    layers = list(layers_with_weights(net).values())
    if not layers or not isinstance(layers[-1], nn.Linear):
        raise ConfigError(
            "the kernel trains networks of bnstudy.networks.build, whose last layer is linear, "
            f"got {type(net).__name__}"
        )
    return layers[-1].out_features


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
    standardized = isinstance(inputs, Inputs)
    selected = selected_layers(config, layers)
    outputs = np.array([layer.outputs for layer in layers], np.int64)
    normed = np.array([index in selected for index in range(1, len(layers) + 1)], np.uint8)
    mean, sd = (
        np.ravel(values.cpu().numpy()).astype(np.float32)
        for values in ((inputs.mean, inputs.sd) if standardized else 2 * (torch.zeros(shape[0]),))
    )
    if mean.shape != (shape[0],) or sd.shape != (shape[0],):
        raise ConfigError(f"images of {shape[0]} channels have as many means, got {mean.shape}")
    spec = Spec(
        architecture=int(layers[0].kind == "linear"),
        batch=batch,
        layers=len(layers),
        channels=shape[0],
        pixels=shape[1] * shape[2],
        activation=ACTIVATIONS.index(config.activation),
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
        standardized=int(standardized),
        eps=norm.eps,
        keep=norm.keep,
        momentum=config.momentum,
        decay=config.weight_decay,
        dropout=config.dropout,
        outputs=_pointer(outputs),
        normed=_pointer(normed),
        mean=_pointer(mean),
        sd=_pointer(sd),
    )
    return spec, [outputs, normed, mean, sd]
