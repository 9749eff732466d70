"""Where numbers wait on their device, and the long table they become.

A measurement is written into one preallocated row of the device and only its
place (step, layer, ...) is noted on the host.  When the row is full the whole
of it is copied at once: that is the only moment the host waits for the device.
"""

import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bnstudy.activations.view import Numbers

FIELDS = ("step", "mode", "forward", "layer", "call", "tensor", "plan", "order")
MODES = ("train", "eval")
WAITING = 256  # measurements whose numbers are made later: at most 17 MB of samples
Make = Callable[[], Sequence[Numbers]]
COLUMNS = ("step", "mode", "forward", "layer", "call", "tensor", "channel", "stat", "value")


class Words:
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
class Plan:
    """What one measurement's numbers are: their statistic, and their channel or -1."""

    stats: tuple[str, ...]
    channels: tuple[int, ...]

    @classmethod
    def of(cls, labels: Sequence[str]) -> "Plan":
        """Return the plan of numbers that belong to no channel."""
        return cls(tuple(labels), (-1,) * len(labels))

    @classmethod
    def of_norm(cls, labels: Sequence[str], channels: int) -> "Plan":
        """Return the plan of each label's numbers by channel, then ``values`` and ``images``."""
        stats = tuple(label for label in labels for _ in range(channels))
        places = tuple(range(channels)) * len(labels)
        return cls((*stats, "values", "images"), (*places, -1, -1))


@dataclass(frozen=True)
class Block:
    """Measurements copied to the host: ``keys`` (k, 8) by FIELDS, ``values`` (n,) in a row."""

    keys: np.ndarray
    values: np.ndarray

    def after(self, step: int) -> bool:
        """Whether it holds anything of this step or a later one."""
        return bool((self.keys[:, 0] >= step).any())


class Row:
    """The preallocated row of one device.

    Parameters
    ----------
    device
        Where the numbers are made.
    capacity
        How many wait before they are copied.
    """

    def __init__(self, device: torch.device, capacity: int) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        with torch.inference_mode(False):  # a row made inside could not be written outside
            self.values = torch.empty(capacity, dtype=dtype, device=device)
        self.host = self.values.numpy() if device.type == "cpu" else None
        self.used = 0
        self.keys = array("q")

    def fits(self, count: int) -> bool:
        """Whether so many more numbers fit."""
        return self.used + count <= self.values.numel()

    def add(self, key: tuple[int, ...], parts: Sequence[Numbers], count: int) -> None:
        """Write the numbers of one measurement."""
        if self.host is None:
            numbers = torch.cat([part.reshape(-1) for part in _flat(parts)])
            self.values[self.used : self.used + count].copy_(numbers)
        else:
            place, floats = self.used, []
            for part in _flat(parts):
                if type(part) is float:
                    floats.append(part)
                    continue
                if floats:
                    self.host[place : place + len(floats)] = floats
                    place, floats = place + len(floats), []
                array = part if isinstance(part, np.ndarray) else _on_host(part)
                self.host[place : place + array.size] = array
                place += array.size
            if floats:
                self.host[place : place + len(floats)] = floats
        self.used += count
        self.keys.extend(key)

    def take(self) -> Block:
        """Copy what waits to the host, and start over."""
        values = (
            self.values[: self.used].to("cpu", copy=True).numpy().astype(np.float64, copy=False)
        )
        keys = np.array(self.keys, dtype=np.int64).reshape(-1, len(FIELDS))
        self.used, self.keys = 0, array("q")
        return Block(keys, values)


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


def width(part: Numbers) -> int:
    """Return how many numbers a statistic gave."""
    if type(part) is float:
        return 1
    if isinstance(part, Tensor):
        return part.numel()
    return len(part) if isinstance(part, list | tuple | np.ndarray) else 1


class Table:
    """All measurements of a recorder.

    Parameters
    ----------
    capacity
        Numbers that wait on a device before they are copied.
    keep
        Steps to keep in memory, or None for all: whole blocks that hold only
        older ones are dropped.
    poured
        Whether new blocks are also handed out by :meth:`flush`.
    """

    def __init__(self, capacity: int, keep: int | None, *, poured: bool = False) -> None:
        self.capacity, self.keep, self.poured = capacity, keep, poured
        self.layers, self.tensors = Words(), Words()
        self.plans: list[Plan] = []
        self.blocks: list[Block] = []
        self.fresh: list[Block] = []
        self._plan_numbers: dict[Plan, int] = {}
        self._rows: dict[torch.device, Row] = {}
        self._later: list[tuple[tuple[int, ...], Make, torch.device]] = []
        self._order = 0
        self._lock = threading.RLock()  # gradients of several devices arrive in threads

    def plan(self, plan: Plan) -> int:
        """Return the number of a plan."""
        if plan not in self._plan_numbers:  # few and long: found by their text once a layer
            self._plan_numbers[plan] = len(self.plans)
            self.plans.append(plan)
        return self._plan_numbers[plan]

    def add(self, key: tuple[int, ...], parts: Sequence[Numbers], device: torch.device) -> None:
        """Write one measurement: its place (all FIELDS but the order) and its numbers.

        Parameters
        ----------
        key
            All FIELDS but the order.
        parts
            As many numbers as the plan has, on ``device``, or floats on a CPU.
        device
            Where the measured tensor is.
        """
        with self._lock:
            self._write((*key, self._order), parts, device)
            self._order += 1

    def add_later(self, key: tuple[int, ...], make: Make, device: torch.device) -> None:
        """Take the place of a measurement now, and its numbers from ``make()`` in :meth:`settle`.

        What is reckoned for all layers at once, at the end of a step, finds its code in the
        near caches; in between layers it would be fetched anew each time.
        """
        with self._lock:
            self._later.append(((*key, self._order), make, device))
            self._order += 1
            if len(self._later) >= WAITING:
                self.settle()

    def settle(self) -> None:
        """Write the measurements that wait for their numbers."""
        with self._lock:
            later, self._later = self._later, []
            for key, make, device in later:
                self._write(key, make(), device)

    def _write(self, key: tuple[int, ...], parts: Sequence[Numbers], device: torch.device) -> None:
        count = len(self.plans[key[6]].stats)
        row = self._rows.get(device)
        if row is None:
            row = self._rows[device] = Row(device, max(self.capacity, count))
        if not row.fits(count):
            self._copy(device, count)
            row = self._rows[device]
        row.add(key, parts, count)

    def _copy(self, device: torch.device, needed: int = 0) -> None:
        row = self._rows[device]
        if row.used:
            block = row.take()
            self.blocks.append(block)
            if self.poured:
                self.fresh.append(block)
            self._forget(int(block.keys[:, 0].max()))
        if needed > row.values.numel():
            self._rows[device] = Row(device, needed)

    def _forget(self, step: int) -> None:
        if self.keep is not None:
            self.blocks = [block for block in self.blocks if block.after(step - self.keep + 1)]

    def flush(self) -> list[Block]:
        """Copy what waits on all devices; if poured, return what is new since the last flush."""
        with self._lock:
            self.settle()
            for device in self._rows:
                self._copy(device)
            fresh, self.fresh = self.fresh, []
        return fresh

    def frame(self, blocks: list[Block]) -> pd.DataFrame:
        """Return the rows of some blocks, one number each, in the order they were measured."""
        if not blocks:
            return pd.DataFrame({name: [] for name in COLUMNS}).astype(
                {"step": "int64", "value": "float64"}
            )
        keys = np.concatenate([block.keys for block in blocks])
        values = np.concatenate([block.values for block in blocks])
        widths = np.array([len(plan.stats) for plan in self.plans])[keys[:, 6]]
        repeated: dict[str, Any] = {
            name: np.repeat(keys[:, i], widths) for i, name in enumerate(FIELDS)
        }
        labels = Words()
        codes = [np.array([labels.number(s) for s in plan.stats]) for plan in self.plans]
        stats = np.concatenate([codes[plan] for plan in keys[:, 6]])
        channels = np.concatenate([np.array(self.plans[plan].channels) for plan in keys[:, 6]])
        frame = pd.DataFrame(
            {
                "step": repeated["step"],
                "mode": _category(repeated["mode"], list(MODES)),
                "forward": repeated["forward"].astype(np.int32),
                "layer": _category(repeated["layer"], self.layers.texts),
                "call": repeated["call"].astype(np.int32),
                "tensor": _category(repeated["tensor"], self.tensors.texts),
                "channel": channels.astype(np.int32),
                "stat": _category(stats, labels.texts),
                "value": values,
            }
        )
        in_order = np.argsort(repeated["order"], kind="stable")
        return frame.iloc[in_order].reset_index(drop=True)


def _category(codes: np.ndarray, texts: Sequence[str]) -> pd.Categorical:
    index = pd.Index(list(texts), dtype="str")
    return pd.Categorical.from_codes(codes.astype(np.int64), categories=index)
