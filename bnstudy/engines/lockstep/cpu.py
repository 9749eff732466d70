"""The compiled kernel as a Python object: numpy arrays in, numpy arrays out."""

import ctypes
from collections.abc import Callable, Sequence
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
    Place,
    conventions,
    places,
)
from bnstudy.errors import ConfigError
from bnstudy.networks.lenet import LAYERS
from bnstudy.networks.norm import make_norm

LANES = 16
SOURCE = Path(__file__).parent / "cpp" / "kernel.cpp"


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class Spec(ctypes.Structure):
    """``Spec`` of kernel.cpp."""

    _fields_ = [
        *_fields(ctypes.c_int32, "batch activation normed placement norm_kind part_size groups"),
        *_fields(ctypes.c_int32, "unbiased gamma beta bias dropped dropout_placement"),
        *_fields(ctypes.c_double, "eps keep momentum decay dropout"),
    ]


class Batches(ctypes.Structure):
    """``Batches`` of kernel.cpp."""

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
    """Return a config as the kernel takes it."""
    layer = make_norm(config.norm, 6, 4, rng=np.random.default_rng(0))
    counts = conventions(layer)
    return Spec(
        batch=batch,
        activation=ACTIVATIONS.index(config.activation),
        normed=sum(1 << at for at in range(len(LAYERS)) if config.normalizes(at + 1)),
        placement=PLACEMENTS.index(config.placement),
        norm_kind=counts.kind,
        part_size=counts.part_size,
        groups=counts.groups,
        unbiased=int(counts.unbiased),
        gamma=int(counts.gamma),
        beta=int(counts.beta),
        bias=int(config.bias),
        dropped=int(config.dropout > 0),
        dropout_placement=DROPOUT_PLACEMENTS.index(config.dropout_placement),
        eps=counts.eps,
        keep=counts.keep,
        momentum=config.momentum,
        decay=config.weight_decay,
        dropout=config.dropout,
    )


def _pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def arrays(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels as the kernel takes them: uint8, contiguous."""
    return (
        np.ascontiguousarray(images.images.numpy()),
        np.ascontiguousarray(images.labels.numpy().astype(np.uint8)),
    )


def padded(lanes: np.ndarray) -> np.ndarray:
    """Repeat the first lane until there are sixteen."""
    if len(lanes) == LANES:
        return np.ascontiguousarray(lanes)
    return np.ascontiguousarray(lanes[[i if i < len(lanes) else 0 for i in range(LANES)]])


class Kernel:
    """Up to sixteen networks of one arm, a lane each.

    Lanes beyond the last network repeat the first, and are never looked at.
    A :class:`~bnstudy.engines.lockstep.loop.Program`.

    Parameters
    ----------
    config
        The arm.
    nets
        1 to 16 networks with their initial weights, of :func:`bnstudy.networks.lenet.lenet`.
    train
        The images to train on.

    Raises
    ------
    ConfigError
        If there is no kernel, or no memory for it, or there are too many networks.
    """

    def __init__(self, config: RunConfig, nets: Sequence[nn.Module], train: Images) -> None:
        if not 1 <= len(nets) <= LANES:
            raise ConfigError(f"a stack on the cpu holds 1 to {LANES} seeds, got {len(nets)}")
        library, reason = compiled(SOURCE)
        if library is None:
            raise ConfigError(f"the lockstep engine is not available: {reason}")
        self._library = library
        library.lockstep_create.restype = ctypes.c_void_p
        library.lockstep_array.restype = ctypes.POINTER(ctypes.c_float)
        batch = min(config.batch_size, len(train))
        spec = spec_of(config, batch)
        self._handle = ctypes.c_void_p(library.lockstep_create(ctypes.byref(spec)))
        if not self._handle.value:
            raise ConfigError(f"there is no memory for sixteen networks at batch size {batch}")
        self._count = len(nets)
        self._images, self._labels = arrays(train)
        self._unread: list[tuple[np.ndarray, np.ndarray]] = []
        self.sizes = {place: tensor.numel() for place, tensor in places(nets[0])}
        for lane in range(LANES):
            for place, tensor in places(nets[lane if lane < len(nets) else 0]):
                self.lanes(place)[:, lane] = tensor.detach().numpy().ravel()

    def close(self) -> None:
        """Give the memory back; the object is of no use afterwards."""
        if self._handle.value:
            self._library.lockstep_free(self._handle)
            self._handle = ctypes.c_void_p(None)

    def lanes(self, place: Place) -> np.ndarray:
        """Return a view of a parameter or running moment: float32 (numbers, LANES)."""
        kind, layer = ctypes.c_int32(place.kind), ctypes.c_int32(place.layer)
        start = self._library.lockstep_array(self._handle, kind, layer)
        return np.ctypeslib.as_array(start, (self.sizes[place], LANES))

    def velocity(self, place: Place) -> np.ndarray:
        """Return a view of a parameter's velocity, in arms with momentum: (numbers, LANES)."""
        kind, layer = ctypes.c_int32(place.kind + 1), ctypes.c_int32(place.layer)
        start = self._library.lockstep_array(self._handle, kind, layer)
        return np.ctypeslib.as_array(start, (self.sizes[place], LANES))

    @torch.no_grad()
    def take(self, lane: int, net: nn.Module) -> None:
        """Copy a lane's parameters and running moments into a network."""
        for place, tensor in places(net):
            values = self.lanes(place)[:, lane]
            tensor.copy_(torch.from_numpy(values.copy()).reshape(tensor.shape))

    def start_epoch(self, orders: np.ndarray) -> None:
        """Take each seed's order of the images: int64 (K, n)."""
        self._order = padded(orders)

    def train(
        self,
        first: int,
        last: int,
        rates: np.ndarray,
        draws: np.ndarray | None = None,
        noise: np.ndarray | None = None,
    ) -> None:
        """Train on the batches first..last of the epoch; see :class:`Program`."""
        losses = np.empty((last - first, LANES), np.float64)
        correct = np.empty((last - first, LANES), np.int32)
        order, rates = self._order, np.repeat(rates[:, None], LANES, axis=1)
        draws, noise = (None if each is None else padded(each) for each in (draws, noise))
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
        """Return losses and correct images since the last call: (batches, K) each."""
        losses, correct = zip(*self._unread, strict=True)
        self._unread = []
        return np.concatenate(losses), np.concatenate(correct)

    def evaluate(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return mean loss and accuracy of each lane over some images, by running statistics."""
        loss, correct = np.zeros(LANES), np.zeros(LANES, np.int64)
        count = len(images)
        held = (*arrays(images), loss, correct)  # a pointer alone keeps no array alive
        pointers = [ctypes.c_void_p(_pointer(each)) for each in held]
        call: Callable[..., None] = self._library.lockstep_evaluate
        call(self._handle, *pointers[:2], ctypes.c_int64(count), *pointers[2:])
        return loss[: self._count] / count, correct[: self._count] / count

    def evaluate_population(
        self, population: Images, images: Images
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return loss and accuracy by the statistics of a population; running ones are put back."""
        running = [
            self.lanes(place) for place in self.sizes if place.kind in (RUNNING_MEAN, RUNNING_VAR)
        ]
        if not running:
            return self.evaluate(images)
        before = [buffer.copy() for buffer in running]
        held, _ = arrays(population)  # a pointer alone keeps no array alive
        pointer = ctypes.c_void_p(_pointer(held))
        self._library.lockstep_population(self._handle, pointer, ctypes.c_int64(len(population)))
        scores = self.evaluate(images)
        for buffer, values in zip(running, before, strict=True):
            buffer[:] = values
        return scores
