"""The compiled kernel as a Python object: numpy arrays in, numpy arrays out."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bnstudy.compiling import compiled
from bnstudy.config import DROPOUT_PLACEMENTS, PLACEMENTS, RunConfig
from bnstudy.data import Images
from bnstudy.engines.lockstep.parameters import (
    KNOWN_ACTIVATIONS,
    RUNNING_MEAN,
    RUNNING_VAR,
    TensorId,
    conventions,
    tensors_of,
)
from bnstudy.errors import ConfigError
from bnstudy.networks.building import normalized_layers
from bnstudy.networks.norm import make_norm

SOURCE = Path(__file__).parent / "cpp" / "kernel.cpp"


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class Spec(ctypes.Structure):
    """``Spec`` of kernel.cpp, field by field: settings of a stack."""

    _fields_ = [
        *_fields(ctypes.c_int32, "batch activation normed placement norm_kind ghost_size groups"),
        *_fields(ctypes.c_int32, "unbiased gamma beta bias dropped dropout_placement"),
        *_fields(ctypes.c_double, "eps keep momentum decay dropout"),
    ]


class Batches(ctypes.Structure):
    """``Batches`` of kernel.cpp, field by field: the batches of one call of ``train``."""

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


def spec_of(config: RunConfig, batch: int) -> Spec:
    """Return the settings of a config for the kernel."""
    layer = make_norm(config.norm, 6, 4, rng=np.random.default_rng(0))
    norm = conventions(layer)
    return Spec(
        batch=batch,
        activation=KNOWN_ACTIVATIONS.index(config.activation),
        normed=sum(1 << number - 1 for number in normalized_layers(config)),
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
        eps=norm.eps,
        keep=norm.keep,
        momentum=config.momentum,
        decay=config.weight_decay,
        dropout=config.dropout,
    )


def _pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def as_bytes(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels in the layout of the kernel: uint8, contiguous."""
    return (
        np.ascontiguousarray(images.images.numpy()),
        np.ascontiguousarray(images.labels.numpy().astype(np.uint8)),
    )


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
    return library


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
        If the kernel or the memory is unavailable, or there are too many networks.
    """

    def __init__(self, config: RunConfig, nets: Sequence[nn.Module], train: Images) -> None:
        self._library = library = _library()
        self._lanes = int(library.lockstep_lanes())
        if not 1 <= len(nets) <= self._lanes:
            raise ConfigError(f"this kernel trains 1 to {self._lanes} networks, got {len(nets)}")
        library.lockstep_create.restype = ctypes.c_void_p
        library.lockstep_array.restype = ctypes.POINTER(ctypes.c_float)
        batch = min(config.batch_size, len(train))
        spec = spec_of(config, batch)
        self._handle = ctypes.c_void_p(library.lockstep_create(ctypes.byref(spec)))
        if not self._handle.value:
            raise ConfigError(
                f"there is no memory for {self._lanes} networks at batch size {batch}"
            )
        self._count = len(nets)
        self._images, self._labels = as_bytes(train)
        self._unread: list[tuple[np.ndarray, np.ndarray]] = []
        self.sizes = {of: tensor.numel() for of, tensor in tensors_of(nets[0])}
        for lane in range(self._lanes):
            for of, tensor in tensors_of(nets[lane if lane < len(nets) else 0]):
                self.lanes(of)[:, lane] = tensor.detach().numpy().ravel()

    def close(self) -> None:
        """Free the memory; the object must not be used afterwards."""
        if self._handle.value:
            self._library.lockstep_free(self._handle)
            self._handle = ctypes.c_void_p(None)

    def lanes(self, of: TensorId) -> np.ndarray:
        """Return a view of a parameter or running moment: float32 (size, lanes)."""
        return self._array(of.kind, of)

    def velocity(self, of: TensorId) -> np.ndarray:
        """Return a view of a parameter's velocity, in arms with momentum: (size, lanes)."""
        return self._array(of.kind + 1, of)

    def _array(self, kind: int, of: TensorId) -> np.ndarray:
        numbers = ctypes.c_int32(kind), ctypes.c_int32(of.layer)
        start = self._library.lockstep_array(self._handle, *numbers)
        return np.ctypeslib.as_array(start, (self.sizes[of], self._lanes))

    def _padded(self, seeds: np.ndarray) -> np.ndarray:
        """Return a row for each lane, (K, ...) -> (lanes, ...): after the last seed the first."""
        if len(seeds) == self._lanes:
            return np.ascontiguousarray(seeds)
        return np.ascontiguousarray(seeds[[i if i < len(seeds) else 0 for i in range(self._lanes)]])

    @torch.no_grad()
    def take(self, lane: int, net: nn.Module) -> None:
        """Copy a lane's parameters and running moments into a network."""
        for of, tensor in tensors_of(net):
            values = self.lanes(of)[:, lane]
            tensor.copy_(torch.from_numpy(values.copy()).reshape(tensor.shape))

    def start_epoch(self, orders: np.ndarray) -> None:
        """Set each seed's order of the training images: int64 (K, n)."""
        self._order = self._padded(orders)

    def train(
        self,
        first: int,
        last: int,
        rates: np.ndarray,
        draws: np.ndarray | None = None,
        noise: np.ndarray | None = None,
    ) -> None:
        """Train on the batches [first, last) of the epoch; see :class:`Program`."""
        losses = np.empty((last - first, self._lanes), np.float64)
        correct = np.empty((last - first, self._lanes), np.int32)
        order, rates = self._order, np.repeat(rates[:, None], self._lanes, axis=1)
        draws, noise = (None if each is None else self._padded(each) for each in (draws, noise))
        batches = Batches(
            images=_pointer(self._images),
            labels=_pointer(self._labels),
            order=_pointer(order),
            count=order.shape[1],
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
        self._library.lockstep_train(self._handle, ctypes.byref(batches))
        self._unread.append((losses[:, : self._count], correct[:, : self._count]))

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Return losses and numbers of correct images since the last call: (batches, K) each."""
        losses, correct = zip(*self._unread, strict=True)
        self._unread = []
        return np.concatenate(losses), np.concatenate(correct)

    def evaluate(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return mean loss and accuracy of each lane over some images, by running statistics."""
        loss, correct = np.zeros(self._lanes), np.zeros(self._lanes, np.int64)
        count = len(images)
        held = (*as_bytes(images), loss, correct)  # a pointer alone keeps no array alive
        pointers = [ctypes.c_void_p(_pointer(each)) for each in held]
        call: Callable[..., None] = self._library.lockstep_evaluate
        call(self._handle, *pointers[:2], ctypes.c_int64(count), *pointers[2:])
        return loss[: self._count] / count, correct[: self._count] / count

    def evaluate_population(
        self, population: Images, images: Images
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the same by the statistics of a population; the running ones are restored."""
        running = [self.lanes(of) for of in self.sizes if of.kind in (RUNNING_MEAN, RUNNING_VAR)]
        if not running:
            return self.evaluate(images)
        before = [buffer.copy() for buffer in running]
        held, _ = as_bytes(population)  # a pointer alone keeps no array alive
        pointer = ctypes.c_void_p(_pointer(held))
        self._library.lockstep_population(self._handle, pointer, ctypes.c_int64(len(population)))
        scores = self.evaluate(images)
        for buffer, values in zip(running, before, strict=True):
            buffer[:] = values
        return scores
