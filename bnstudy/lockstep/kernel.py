"""The compiled kernel as a Python object: numpy arrays in, numpy arrays out."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.config import ACTIVATIONS, DROPOUT_PLACEMENTS, PLACEMENTS, RunConfig
from bnstudy.errors import ConfigError
from bnstudy.lenet import LAYERS, norm_layers
from bnstudy.lockstep.build import load
from bnstudy.norm import (
    BatchNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    make_norm,
    parse_norm,
)

LANES = 16

# the kernel's number of each normalization; subclasses of these are not known to it
NORM_KINDS: dict[type[nn.Module], int] = {
    nn.BatchNorm2d: 0,
    BatchNorm: 0,
    GhostBatchNorm: 1,
    PopulationBatchNorm: 2,
    FrozenBatchNorm: 3,
    NoisyBatchNorm: 4,
}

# what lockstep_array calls the arrays of a layer with weights, and of a normalization layer
WEIGHT, WEIGHT_VELOCITY, BIAS, BIAS_VELOCITY = range(4)
GAMMA, GAMMA_VELOCITY, BETA, BETA_VELOCITY, RUNNING_MEAN, RUNNING_VAR = range(4, 10)


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class Spec(ctypes.Structure):
    """``Spec`` of kernel.cpp."""

    _fields_ = [
        *_fields(ctypes.c_int32, "batch activation normed placement norm_kind part_size"),
        *_fields(ctypes.c_int32, "unbiased bias dropped dropout_placement"),
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


class Place(NamedTuple):
    """Where the kernel keeps a tensor: which array, of which layer."""

    kind: int
    layer: int


def unsupported(config: RunConfig) -> str:
    """Return why the kernel cannot train such runs; empty if it can."""
    if config.norm == "none":
        return ""
    layer = make_norm(config.norm, 6, 4, rng=np.random.default_rng(0))
    if type(layer) not in NORM_KINDS:
        return f"normalization {parse_norm(config.norm)[0]!r} is trained by the reference engine"
    return ""


def spec_of(config: RunConfig, batch: int) -> Spec:
    """Return a config as the kernel takes it."""
    layer = make_norm(config.norm, 6, 4, rng=np.random.default_rng(0))
    eps, keep, unbiased = 1e-5, 0.9, 1
    if isinstance(layer, BatchNorm):
        eps, keep, unbiased = layer.eps, layer.keep, int(layer.variance == "unbiased")
    elif isinstance(layer, nn.BatchNorm2d):
        eps, keep = layer.eps, 1.0 - float(layer.momentum or 0.0)
    return Spec(
        batch=batch,
        activation=ACTIVATIONS.index(config.activation),
        normed=int(layer is not None),
        placement=PLACEMENTS.index(config.placement),
        norm_kind=0 if layer is None else NORM_KINDS[type(layer)],
        part_size=layer.size if isinstance(layer, GhostBatchNorm) else 0,
        unbiased=unbiased,
        bias=int(config.bias),
        dropped=int(config.dropout > 0),
        dropout_placement=DROPOUT_PLACEMENTS.index(config.dropout_placement),
        eps=eps,
        keep=keep,
        momentum=config.momentum,
        decay=config.weight_decay,
        dropout=config.dropout,
    )


def places(net: nn.Module) -> list[tuple[Place, Tensor]]:
    """Return every parameter and running moment of a network with its place in the kernel."""
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
            (Place(kind, index), getattr(layer, each))
            for kind, each in zip(kinds, names, strict=True)
        ]
    return found


def _pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


class Kernel:
    """Up to sixteen networks of one arm, a lane each.

    Lanes beyond the last network repeat the first, and are never looked at.

    Parameters
    ----------
    config
        The arm.
    batch
        Images in a whole batch.
    nets
        The networks with their initial weights, of :func:`bnstudy.lenet.lenet`.

    Raises
    ------
    ConfigError
        If there is no kernel, or no memory for it.
    """

    def __init__(self, config: RunConfig, batch: int, nets: Sequence[nn.Module]) -> None:
        library, reason = load()
        if library is None:
            raise ConfigError(f"the lockstep engine is not available: {reason}")
        self._library = library
        library.lockstep_create.restype = ctypes.c_void_p
        library.lockstep_array.restype = ctypes.POINTER(ctypes.c_float)
        spec = spec_of(config, batch)
        self._handle = ctypes.c_void_p(library.lockstep_create(ctypes.byref(spec)))
        if not self._handle.value:
            raise ConfigError(f"there is no memory for sixteen networks at batch size {batch}")
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

    def train(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        first: int,
        last: int,
        rates: np.ndarray,
        draws: np.ndarray | None = None,
        noise: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Train on the batches first..last of an epoch.

        Parameters
        ----------
        images, labels
            uint8 (n, 28, 28) and (n,), shared by all lanes.
        order
            int64 (LANES, n), each lane's order.
        first, last
            Batches, counted from 0; last is not trained on.
        rates
            float32 (last - first, LANES).
        draws
            With dropout, the uniform numbers its masks come from: float32
            (LANES, numbers), for each batch and each dropout layer (images, units).
        noise
            With noisy BN: float32 (LANES, numbers), for each batch and each
            normalization layer the scales, then the shifts, (images, channels) each.

        Returns
        -------
        losses, correct
            (last - first, LANES) each: mean loss of the batch before its step,
            and how many of its images were right.
        """
        losses = np.empty((last - first, LANES), np.float64)
        correct = np.empty((last - first, LANES), np.int32)
        batches = Batches(
            images=_pointer(images),
            labels=_pointer(labels),
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
        return losses, correct

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean loss and accuracy of each lane over some images, by running statistics."""
        loss, correct = np.zeros(LANES), np.zeros(LANES, np.int64)
        count = len(labels)
        pointers = [ctypes.c_void_p(_pointer(each)) for each in (images, labels, loss, correct)]
        call: Callable[..., None] = self._library.lockstep_evaluate
        call(self._handle, *pointers[:2], ctypes.c_int64(count), *pointers[2:])
        return loss / count, correct / count

    def evaluate_population(
        self, population: np.ndarray, images: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return loss and accuracy by the statistics of a population; running ones are put back."""
        running = [
            self.lanes(place) for place in self.sizes if place.kind in (RUNNING_MEAN, RUNNING_VAR)
        ]
        if not running:
            return self.evaluate(images, labels)
        before = [buffer.copy() for buffer in running]
        self._library.lockstep_population(
            self._handle, ctypes.c_void_p(_pointer(population)), ctypes.c_int64(len(population))
        )
        scores = self.evaluate(images, labels)
        for buffer, values in zip(running, before, strict=True):
            buffer[:] = values
        return scores
