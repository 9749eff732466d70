"""From tensors and BN batches to measurements: which numbers, and what if one fails."""

import math
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.activations.batchnorm.moments import (
    CHANNEL_STATS,
    batch_moments,
    channel_state,
    deferred_channel_state,
    saved_moments,
)
from bnstudy.activations.reading.measurements import (
    Measurements,
    NumberLabels,
    Occurrence,
    count_of,
)
from bnstudy.activations.reading.reader import ImageSums
from bnstudy.activations.reading.tensor import MeasuredTensor, Numbers, refusal
from bnstudy.activations.selection import Target
from bnstudy.activations.statistics import BoundStatistic, Site, Statistic

KEPT = 1 << 14  # values of samples that a measurement may keep until the end of the step


class WatchWarning(UserWarning):
    """Something is not recorded as asked, and training goes on."""


class SiteStatistics(NamedTuple):
    """The statistics of a site, the number of their labels, and what they need."""

    labels: int
    bound: list[BoundStatistic]
    limits: tuple[float, float] | None
    later: bool
    samples: tuple[int, ...]


class Measurer:
    """Measures tensors of some layers with some statistics.

    Parameters
    ----------
    measurements
        Where the numbers go.
    targets
        The layers, by their index.
    stats
        The statistics, of which each layer takes those that have a meaning there.
    """

    def __init__(
        self, measurements: Measurements, targets: Sequence[Target], stats: Sequence[Statistic]
    ) -> None:
        self.measurements, self.targets, self.stats = measurements, targets, stats
        self.notes: dict[tuple[str, str], str] = {}
        self._layers = [measurements.layers.number(target.name) for target in targets]
        self._known: dict[tuple[int, str, tuple[int, ...]], SiteStatistics] = {}
        self._every = tuple(range(len(stats)))
        self._spaced = any(statistic.due for statistic in stats)
        self._due_at = (-1, self._every)
        self._last: tuple[weakref.ref[Tensor], int, ImageSums] | None = None

    def measure(
        self, where: Occurrence, kind: str, tensor: Tensor, scale: Tensor | float = 1.0
    ) -> None:
        """Add the statistics of a tensor, divided by ``scale``, or a note on why it has none."""
        why = refusal(tensor)
        if why:
            self.note(self.targets[where.layer].name, where.tensor, why)
            return
        # the hook's own tensor is what a BN layer may be called with next
        seen, tensor = tensor, tensor.detach()
        unit = self.targets[where.layer].unit
        if unit is not None and tensor.dim() > 1:
            tensor = tensor.select(1, unit)
        device_type = "cpu" if tensor.is_cpu else tensor.device.type
        if torch.is_autocast_enabled(device_type):  # else sums would be in half precision
            with torch.autocast(device_type, enabled=False):
                images = self._add(where, kind, tensor, scale)
        else:
            images = self._add(where, kind, tensor, scale)
        self._remember(seen, images if unit is None and kind != "grad" else None)

    def _remember(self, tensor: Tensor, images: ImageSums | None) -> None:
        """Keep the sums of images: a BN layer is often called with what was measured last."""
        self._last = None
        if images is not None and tensor.dim() > 2 and not tensor.is_inference():
            self._last = weakref.ref(tensor), tensor._version, images

    def images_of(self, tensor: Tensor) -> ImageSums | None:
        """Return the sums of images of a tensor, if it was measured last and not changed since."""
        if self._last is not None:
            reference, version, images = self._last
            if reference() is tensor and tensor._version == version:
                return images
        return None

    def _add(
        self, where: Occurrence, kind: str, tensor: Tensor, scale: Tensor | float
    ) -> ImageSums | None:
        """Measure now, or later what can wait until the end of the step; return image sums."""
        if not (isinstance(scale, float) and scale == 1.0):
            tensor = tensor.float() / scale if tensor.dtype != torch.float64 else tensor / scale
        site = self._site(where, kind)
        bound, stats = site.bound, self.measurements.labels[site.labels].stats
        if not bound:
            return None
        x = MeasuredTensor(tensor, stats, site.limits, site.samples)
        key = self.key(where, site.labels)
        later, images = False, None
        try:
            later = site.later and x.keep(site.samples)
            now = [each for each in bound if not each.later] if later else bound
            found = [each.measure(x) for each in now]
            complete = sum(map(count_of, found)) == sum(len(each.labels) for each in now)
            if kind != "grad" and tensor.dim() > 2:
                images = x.sums.images_at_hand
        except Exception:  # a user's statistic may raise anything
            complete = False
        if not complete:
            self.measurements.add(key, self._one_by_one(where, bound, x), tensor.device)
        elif later:
            x.let_go()
            # the tuple is what was asked now; the list may lose statistics that fail meanwhile
            compute = partial(self._rest, where, bound, tuple(bound), x, list(map(_copied, found)))
            self.measurements.add_deferred(key, compute, tensor.device)
        else:
            self.measurements.add(key, found, tensor.device)
        return images

    def _rest(
        self,
        where: Occurrence,
        bound: list[BoundStatistic],
        asked: Sequence[BoundStatistic],
        x: MeasuredTensor,
        found: list[Numbers],
    ) -> list[Numbers]:
        """Return the numbers found before, and those that could wait, in the order of labels."""
        parts, before = [], iter(found)
        for index, each in enumerate(asked):
            if each.later:
                part, why = _tried(each, x)
                if why:
                    bound[index] = self._off(where, each, why)
                    part = [math.nan] * len(each.labels)
                parts.append(part)
            else:
                parts.append(next(before))
        return parts

    def key(self, where: Occurrence, labels: int) -> tuple[int, ...]:
        """Return a measurement's key: the numbers of FIELDS, all but the order."""
        layer = self._layers[where.layer]
        tensor = self.measurements.tensors.number(where.tensor)
        return (*where[:3], layer, where.call, tensor, labels)

    def _due(self, step: int) -> tuple[int, ...]:
        """Return which statistics are measured on a step."""
        if not self._spaced:
            return self._every
        if self._due_at[0] != step:
            dues = [statistic.due for statistic in self.stats]
            self._due_at = step, tuple(i for i, due in enumerate(dues) if due is None or due(step))
        return self._due_at[1]

    def _site(self, where: Occurrence, kind: str) -> SiteStatistics:
        layer, due = where.layer, self._due(where.step)
        known = self._known.get((layer, kind, due))
        if known is not None:
            return known
        site = Site(self.targets[layer].module, kind)
        bound = [b for b in (self.stats[i].bind(site) for i in due) if b is not None]
        labels = NumberLabels.of_tensor([label for b in bound for label in b.labels])
        limits = next((b.limits for b in bound if b.limits), None)
        waiting = [each for each in bound if each.later]
        samples = tuple(sorted({each.sample for each in waiting if each.sample}))
        later = len(waiting) > 0 and sum(samples) <= KEPT
        made = SiteStatistics(self.measurements.number_of(labels), bound, limits, later, samples)
        self._known[layer, kind, due] = made
        return made

    def _one_by_one(
        self, where: Occurrence, bound: list[BoundStatistic], x: MeasuredTensor
    ) -> list[Numbers]:
        """Measure again, turning off for good what fails: its numbers are NaN from then on."""
        parts: list[Numbers] = []
        for index, statistic in enumerate(bound):
            part, why = _tried(statistic, x)
            if why:
                bound[index] = self._off(where, statistic, why)
                part = bound[index].measure(x)
            parts.append(part)
        return parts

    def _off(self, where: Occurrence, statistic: BoundStatistic, why: str) -> BoundStatistic:
        """Warn that a statistic fails, and return one of NaN in its place."""
        self.warn(where, f"{statistic.labels[0]!r} is off from here: {why}")
        return BoundStatistic(statistic.labels, _missing(len(statistic.labels)))

    def warn(self, where: Occurrence, text: str) -> None:
        """Warn of what happened at a layer."""
        name = self.targets[where.layer].name
        warnings.warn(f"{name}, step {where.step}: {text}", WatchWarning, stacklevel=2)

    def note(self, layer: str, tensor: str, why: str) -> None:
        """Remember, once, why something is not recorded."""
        self.notes.setdefault((layer, tensor), why)


class MomentsMeasurer:
    """Measures batches of BN layers beside the tensors of a measurer."""

    def __init__(self, measurer: Measurer) -> None:
        self._measurer = measurer
        self._labels: dict[int, int] = {}
        self._sizes: dict[tuple[int, int, torch.device], Tensor] = {}

    def measure(
        self, where: Occurrence, module: nn.Module, args: tuple[Any, ...], output: Any
    ) -> None:
        """Add moments, running moments, gamma and beta of a layer that has just normalized."""
        X, measurements = args[0], self._measurer.measurements
        channels, device = output.shape[1], output.device
        if X.dim() < 2 or X.shape[1] != channels:
            name = self._measurer.targets[where.layer].name
            self._measurer.note(name, "norm", "its input is not what it normalizes")
            return
        if where.layer not in self._labels:
            labels = NumberLabels.of_channels(CHANNEL_STATS, channels)
            self._labels[where.layer] = measurements.number_of(labels)
        sizes = self._sizes_of(output.numel() // channels, len(output), device)
        key = self._measurer.key(where, self._labels[where.layer])
        images, saved = self._measurer.images_of(X), saved_moments(output)
        compute = None if saved is None else deferred_channel_state(module, X, saved, images)
        if compute is not None:
            measurements.add_deferred(key, lambda: [*compute(), sizes], device)
            return
        moments = batch_moments(module, args, output)
        measurements.add(key, [*channel_state(module, X, moments, images), sizes], device)

    def _sizes_of(self, values: int, images: int, device: torch.device) -> Tensor:
        """Return values per channel and images of a batch, (2,), without waiting for a device."""
        key = values, images, device
        if key not in self._sizes:
            pair = [torch.full((1,), float(n), device=device) for n in (values, images)]
            self._sizes[key] = torch.cat(pair)
        return self._sizes[key]


def _tried(statistic: BoundStatistic, x: MeasuredTensor) -> tuple[Numbers, str]:
    """Return the numbers of a statistic, and the fault in them, if any."""
    try:
        part = statistic.measure(x)
    except Exception as error:
        return math.nan, f"{type(error).__name__}: {error}"
    asked = len(statistic.labels)
    given = count_of(part)
    return part, "" if given == asked else f"it gave {given} numbers for {asked} labels"


def _copied(part: Any) -> Any:
    """Copy a result: it may be a view of a tensor that changes, or be used again."""
    if isinstance(part, Tensor):
        return part.detach().clone()
    if isinstance(part, list | tuple):
        return [_copied(each) for each in part]
    return part.copy() if isinstance(part, np.ndarray) else part


def _missing(count: int) -> Callable[[MeasuredTensor], Tensor]:
    return lambda x: x.wide.new_full((count,), torch.nan)
