"""The compiled kernel as a Python object: numpy arrays in, numpy arrays out."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bnstudy.compiling import compiled
from bnstudy.config import RunConfig
from bnstudy.data import Images
from bnstudy.engines.lockstep.interface import (
    Batches,
    checked_array,
    declared,
    images_for_kernel,
    pointer,
    spec_of,
    zeroed_memory,
)
from bnstudy.engines.lockstep.parameters import (
    RUNNING_MEAN,
    RUNNING_VAR,
    TensorId,
    tensors_of,
    unsupported,
)
from bnstudy.engines.lockstep.random_draws import draw_counts
from bnstudy.errors import ConfigError
from bnstudy.networks import layers_with_weights

SOURCE = Path(__file__).parent / "cpp" / "kernel.cpp"


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
    return declared(library)


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
            images=pointer(self._images),
            labels=pointer(self._labels),
            order=pointer(order),
            count=n,
            first=first,
            last=last,
            rates=pointer(rates),
            draws=pointer(draws),
            draws_stride=0 if draws is None else draws.shape[1],
            noise=pointer(noise),
            noise_stride=0 if noise is None else noise.shape[1],
            losses=pointer(losses),
            correct=pointer(correct),
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

    def phase_seconds(self) -> dict[str, float]:
        """Return the time in each phase of training."""
        seconds = self._library.lockstep_seconds(self._open())
        phases = ("gathering", "forward", "backward")
        return {phase: float(seconds[number]) for number, phase in enumerate(phases)}

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
