"""The compiled kernel as a Python object: numpy arrays in, numpy arrays out."""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.config import RunConfig
from bnstudy.errors import ConfigError
from bnstudy.lenet import LAYERS, norm_layers
from bnstudy.lockstep.build import load
from bnstudy.norm import BatchNorm, make_norm, parse_norm

LANES = 16
ACTIVATIONS = {"sigmoid": 0, "relu": 1, "tanh": 2}
NORMS = ("none", "bn", "scratch")
UNITS = {"dropout3": 120, "dropout4": 84}


class Spec(ctypes.Structure):
    """``Spec`` of kernel.cpp."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                "normed",
                "activation",
                "batch",
                "unbiased",
                "bias",
                "dropout_hidden",
                "dropout_before",
                "dropout_last",
            )
        ),
        *((name, ctypes.c_float) for name in ("eps", "keep", "momentum", "decay", "rate")),
    ]


def unsupported(config: RunConfig) -> str:
    """Return why the kernel cannot train such runs; empty if it can."""
    name, _ = parse_norm(config.norm)
    if name not in NORMS:
        return f"normalization {name!r} is trained by the reference engine"
    if name != "none" and config.placement != "output":
        return f"placement {config.placement!r} is trained by the reference engine"
    return ""


def spec_of(config: RunConfig, batch: int) -> Spec:
    """Return a config as the kernel takes it."""
    layer = make_norm(config.norm, 6, 4, rng=np.random.default_rng(0))
    eps, keep, unbiased = 1e-5, 0.9, 1
    if isinstance(layer, BatchNorm):
        eps, keep, unbiased = layer.eps, layer.keep, int(layer.variance == "unbiased")
    elif isinstance(layer, nn.BatchNorm2d):
        eps, keep = layer.eps, 1.0 - float(layer.momentum or 0.0)
    dropout = config.dropout_placement if config.dropout else ""
    return Spec(
        normed=int(layer is not None),
        activation=ACTIVATIONS[config.activation],
        batch=batch,
        unbiased=unbiased,
        bias=int(config.bias),
        dropout_hidden=int(dropout == "hidden"),
        dropout_before=int(dropout == "before-norm"),
        dropout_last=int(dropout == "after-last-norm"),
        eps=eps,
        keep=keep,
        momentum=config.momentum,
        decay=config.weight_decay,
        rate=config.dropout,
    )


def _pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


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
        self._library, self.normed = library, config.norm != "none"
        library.lockstep_create.restype = ctypes.c_void_p
        library.lockstep_array.restype = ctypes.POINTER(ctypes.c_float)
        spec = spec_of(config, batch)
        self._handle = ctypes.c_void_p(library.lockstep_create(ctypes.byref(spec)))
        if not self._handle.value:
            raise ConfigError(f"there is no memory for sixteen networks at batch size {batch}")
        for lane in range(LANES):
            self._put(lane, nets[lane if lane < len(nets) else 0])

    def close(self) -> None:
        """Give the memory back; the object is of no use afterwards."""
        if self._handle.value:
            self._library.lockstep_free(self._handle)
            self._handle = ctypes.c_void_p(None)

    def _lanes(self, which: int, numbers: int) -> np.ndarray:
        """Return a view of a parameter or buffer: (numbers, LANES)."""
        start = self._library.lockstep_array(self._handle, ctypes.c_int32(which))
        return np.ctypeslib.as_array(start, (numbers, LANES))

    def _tensors(self, net: nn.Module) -> list[tuple[int, Tensor]]:
        """Return every parameter and buffer of a network with its number in the kernel."""
        found: list[tuple[int, Tensor]] = []
        for index, name in enumerate(LAYERS):
            layer = net.get_submodule(name)
            found.append((index, layer.weight))  # type: ignore[arg-type]
            if layer.bias is not None:
                found.append((5 + index, layer.bias))  # type: ignore[arg-type]
        for index, layer in enumerate(norm_layers(net).values()):
            names = ("weight", "bias", "running_mean", "running_var")
            if isinstance(layer, BatchNorm):
                names = ("gamma", "beta", "moving_mean", "moving_var")
            found += [(10 + 4 * index + part, getattr(layer, n)) for part, n in enumerate(names)]
        return found

    def _put(self, lane: int, net: nn.Module) -> None:
        for which, tensor in self._tensors(net):
            values = tensor.detach().numpy().ravel()
            self._lanes(which, len(values))[:, lane] = values

    @torch.no_grad()
    def take(self, lane: int, net: nn.Module) -> None:
        """Copy a lane's parameters and buffers into a network."""
        for which, tensor in self._tensors(net):
            values = self._lanes(which, tensor.numel())[:, lane]
            tensor.copy_(torch.from_numpy(values.copy()).reshape(tensor.shape))

    def train(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        first: int,
        last: int,
        rates: np.ndarray,
        masks: Sequence[np.ndarray | None] = (None, None),
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
        masks
            With dropout, whether each unit is kept in the one batch trained on:
            uint8 (images, units, LANES) behind each hidden linear layer, or None.

        Returns
        -------
        losses, correct
            (last - first, LANES) each: mean loss of the batch before its step,
            and how many of its images were right.
        """
        losses = np.empty((last - first, LANES), np.float32)
        correct = np.empty((last - first, LANES), np.int32)
        self._library.lockstep_train(
            self._handle,
            _pointer(images),
            _pointer(labels),
            _pointer(order),
            ctypes.c_int64(order.shape[1]),
            ctypes.c_int32(first),
            ctypes.c_int32(last),
            _pointer(rates),
            *(_pointer(mask) for mask in masks),
            _pointer(losses),
            _pointer(correct),
        )
        return losses, correct

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean loss and accuracy of each lane over some images, by running statistics."""
        loss, correct = np.zeros(LANES), np.zeros(LANES, np.int64)
        count = len(labels)
        self._library.lockstep_evaluate(
            self._handle,
            _pointer(images),
            _pointer(labels),
            ctypes.c_int64(count),
            _pointer(loss),
            _pointer(correct),
        )
        return loss / count, correct / count

    def evaluate_population(
        self, population: np.ndarray, images: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return loss and accuracy by the statistics of a population; running ones are put back."""
        if not self.normed:
            return self.evaluate(images, labels)
        sizes = (6, 16, 120, 84)
        buffers = [
            self._lanes(10 + 4 * layer + part, size)
            for layer, size in enumerate(sizes)
            for part in (2, 3)
        ]
        before = [buffer.copy() for buffer in buffers]
        self._library.lockstep_population(
            self._handle, _pointer(population), ctypes.c_int64(len(population))
        )
        scores = self.evaluate(images, labels)
        for buffer, values in zip(buffers, before, strict=True):
            buffer[:] = values
        return scores
