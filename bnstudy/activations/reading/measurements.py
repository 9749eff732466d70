"""The measurements of a recorder: numbers that wait on their device, and their long table.

A measurement is written into one preallocated buffer of the device and only its
key (step, layer, ...) is noted on the host.  When the buffer is full it is copied
in one go: that is the only moment the host waits for the device.
"""

import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bnstudy.activations.reading.tensor import Numbers

FIELDS = ("step", "mode", "forward", "layer", "call", "tensor", "labels", "order")
MODES = ("train", "eval")
WAITING = 256  # measurements whose numbers are computed later: at most 17 MB of samples
Compute = Callable[[], Sequence[Numbers]]
COLUMNS = ("step", "mode", "forward", "layer", "call", "tensor", "channel", "stat", "value")


class Occurrence(NamedTuple):
    """When and where a tensor was seen: step, mode, pass, layer, call, and its name."""

    step: int
    mode: int
    forward: int
    layer: int
    call: int
    tensor: str


class TextCodes:
    """Texts and their numbers, in order of first use."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Return the number of a text."""
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]


@dataclass(frozen=True)
class NumberLabels:
    """Statistic, and channel or -1, of each number of a measurement."""

    stats: tuple[str, ...]
    channels: tuple[int, ...]

    @classmethod
    def of_tensor(cls, stats: Sequence[str]) -> "NumberLabels":
        """Return the labels of numbers that belong to no channel."""
        return cls(tuple(stats), (-1,) * len(stats))

    @classmethod
    def of_channels(cls, stats: Sequence[str], channels: int) -> "NumberLabels":
        """Return the labels of each statistic by channel, then of ``values`` and ``images``."""
        repeated = tuple(stat for stat in stats for _ in range(channels))
        numbers = tuple(range(channels)) * len(stats)
        return cls((*repeated, "values", "images"), (*numbers, -1, -1))


@dataclass(frozen=True)
class MeasurementBlock:
    """Measurements copied to the host: ``keys`` (k, 8) by FIELDS, ``values`` (n,) in a row."""

    keys: np.ndarray
    values: np.ndarray

    def reaches(self, step: int) -> bool:
        """Return whether it holds anything of this step or a later one."""
        return bool((self.keys[:, 0] >= step).any())


class DeviceBuffer:
    """The preallocated numbers of one device.

    Parameters
    ----------
    device
        Where the numbers are computed.
    capacity
        Number of numbers that fit before they must be copied.
    """

    def __init__(self, device: torch.device, capacity: int) -> None:
        # Apple's devices have no float64
        dtype = torch.float32 if device.type == "mps" else torch.float64
        with torch.inference_mode(False):  # one made inside could not be written outside
            self.values = torch.empty(capacity, dtype=dtype, device=device)
        self.host = self.values.numpy() if device.type == "cpu" else None
        self.used = 0
        self.keys = array("q")

    def fits(self, count: int) -> bool:
        """Return whether so many more numbers fit."""
        return self.used + count <= self.values.numel()

    def add(self, key: tuple[int, ...], parts: Sequence[Numbers], count: int) -> None:
        """Write the numbers of one measurement: on a CPU runs of floats in one go."""
        if self.host is None:
            numbers = torch.cat([part.reshape(-1) for part in _flat(parts)])
            self.values[self.used : self.used + count].copy_(numbers)
        else:
            start, floats = self.used, []
            for part in _flat(parts):
                if type(part) is float:
                    floats.append(part)
                    continue
                if floats:
                    self.host[start : start + len(floats)] = floats
                    start, floats = start + len(floats), []
                array = part if isinstance(part, np.ndarray) else _on_host(part)
                self.host[start : start + array.size] = array
                start += array.size
            if floats:
                self.host[start : start + len(floats)] = floats
        self.used += count
        self.keys.extend(key)

    def take(self) -> MeasurementBlock:
        """Copy what waits to the host, and start over."""
        values = (
            self.values[: self.used].to("cpu", copy=True).numpy().astype(np.float64, copy=False)
        )
        keys = np.array(self.keys, dtype=np.int64).reshape(-1, len(FIELDS))
        self.used, self.keys = 0, array("q")
        return MeasurementBlock(keys, values)


def _on_host(part: Any) -> np.ndarray:
    """Return a tensor of a CPU, or a Python number, as (n,)."""
    if not isinstance(part, Tensor):
        return np.array([part], dtype=np.float64)
    part = part.detach().reshape(-1)
    return (part if part.dtype in (torch.float32, torch.float64) else part.double()).numpy()


def _flat(parts: Sequence[Numbers]) -> list[Any]:
    numbers: list[Any] = []
    for part in parts:
        if type(part) is not float and isinstance(part, list | tuple):
            numbers.extend(part)
        else:
            numbers.append(part)
    return numbers


def count_of(part: Numbers) -> int:
    """Return the count of the numbers that a statistic gave."""
    if type(part) is float:
        return 1
    if isinstance(part, Tensor):
        return part.numel()
    return len(part) if isinstance(part, list | tuple | np.ndarray) else 1


class Measurements:
    """All measurements of a recorder.

    Parameters
    ----------
    capacity
        Numbers that wait on a device before they are copied.
    keep
        Steps to keep in memory, or None for all: whole blocks that hold only
        older ones are dropped.
    streamed
        Whether new blocks are also handed out by :meth:`flush`.
    """

    def __init__(self, capacity: int, keep: int | None, *, streamed: bool = False) -> None:
        self.capacity, self.keep, self.streamed = capacity, keep, streamed
        self.layers, self.tensors = TextCodes(), TextCodes()
        self.labels: list[NumberLabels] = []
        self.blocks: list[MeasurementBlock] = []
        self.fresh: list[MeasurementBlock] = []
        self._labels_numbers: dict[NumberLabels, int] = {}
        self._buffers: dict[torch.device, DeviceBuffer] = {}
        self._deferred: list[tuple[tuple[int, ...], Compute, torch.device]] = []
        self._order = 0
        self._lock = threading.RLock()  # gradients of several devices arrive in threads

    def number_of(self, labels: NumberLabels) -> int:
        """Return the number under which labels are known."""
        if labels not in self._labels_numbers:  # long to hash: looked up once per layer
            self._labels_numbers[labels] = len(self.labels)
            self.labels.append(labels)
        return self._labels_numbers[labels]

    def add(self, key: tuple[int, ...], parts: Sequence[Numbers], device: torch.device) -> None:
        """Write one measurement.

        Parameters
        ----------
        key
            All FIELDS but the order.
        parts
            As many numbers as there are labels, on ``device``, or floats on a CPU.
        device
            Where the measured tensor is.
        """
        with self._lock:
            self._write((*key, self._order), parts, device)
            self._order += 1

    def add_deferred(self, key: tuple[int, ...], compute: Compute, device: torch.device) -> None:
        """Keep the turn of a measurement, whose numbers :meth:`settle` gets from ``compute()``.

        Computing them for all layers at once, at the end of a step, keeps the code in the
        near caches; in between layers it would be fetched again each time.
        """
        with self._lock:
            self._deferred.append(((*key, self._order), compute, device))
            self._order += 1
            if len(self._deferred) >= WAITING:
                self.settle()

    def settle(self) -> None:
        """Write the measurements that wait for their numbers."""
        with self._lock:
            deferred, self._deferred = self._deferred, []
            for key, compute, device in deferred:
                self._write(key, compute(), device)

    def _write(self, key: tuple[int, ...], parts: Sequence[Numbers], device: torch.device) -> None:
        count = len(self.labels[key[6]].stats)
        buffer = self._buffers.get(device)
        if buffer is None:
            buffer = self._buffers[device] = DeviceBuffer(device, max(self.capacity, count))
        if not buffer.fits(count):
            self._copy(device, count)
            buffer = self._buffers[device]
        buffer.add(key, parts, count)

    def _copy(self, device: torch.device, needed: int = 0) -> None:
        buffer = self._buffers[device]
        if buffer.used:
            block = buffer.take()
            self.blocks.append(block)
            if self.streamed:
                self.fresh.append(block)
            self._drop_before(int(block.keys[:, 0].max()))
        if needed > buffer.values.numel():
            self._buffers[device] = DeviceBuffer(device, needed)

    def _drop_before(self, step: int) -> None:
        if self.keep is not None:
            first = step - self.keep + 1
            self.blocks = [block for block in self.blocks if block.reaches(first)]

    def flush(self) -> list[MeasurementBlock]:
        """Copy what waits on all devices; return the blocks since the last flush if streamed."""
        with self._lock:
            self.settle()
            for device in self._buffers:
                self._copy(device)
            fresh, self.fresh = self.fresh, []
        return fresh

    def frame(self, blocks: list[MeasurementBlock]) -> pd.DataFrame:
        """Return a table of some blocks, one row per number, in the order they were measured."""
        if not blocks:
            return pd.DataFrame({name: [] for name in COLUMNS}).astype(
                {"step": "int64", "value": "float64"}
            )
        keys = np.concatenate([block.keys for block in blocks])
        values = np.concatenate([block.values for block in blocks])
        widths = np.array([len(labels.stats) for labels in self.labels])[keys[:, 6]]
        repeated: dict[str, Any] = {
            name: np.repeat(keys[:, i], widths) for i, name in enumerate(FIELDS)
        }
        names = TextCodes()
        codes = [np.array([names.number(s) for s in labels.stats]) for labels in self.labels]
        stats = np.concatenate([codes[number] for number in keys[:, 6]])
        channels = np.concatenate([np.array(self.labels[n].channels) for n in keys[:, 6]])
        frame = pd.DataFrame(
            {
                "step": repeated["step"],
                "mode": _category(repeated["mode"], list(MODES)),
                "forward": repeated["forward"].astype(np.int32),
                "layer": _category(repeated["layer"], self.layers.texts),
                "call": repeated["call"].astype(np.int32),
                "tensor": _category(repeated["tensor"], self.tensors.texts),
                "channel": channels.astype(np.int32),
                "stat": _category(stats, names.texts),
                "value": values,
            }
        )
        in_order = np.argsort(repeated["order"], kind="stable")
        return frame.iloc[in_order].reset_index(drop=True)


def _category(codes: np.ndarray, texts: Sequence[str]) -> pd.Categorical:
    index = pd.Index(list(texts), dtype="str")
    return pd.Categorical.from_codes(codes.astype(np.int64), categories=index)
