"""From a tensor to numbers in the table: which statistics, and what to do when one fails."""

import math
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.nested import refusal
from bnstudy.activations.selection import Target
from bnstudy.activations.statistics import Bound, Site, Statistic
from bnstudy.activations.table import Plan, Table, width
from bnstudy.activations.view import Images, Numbers, View

KEPT = 1 << 14  # values of samples that a measurement may keep until the end of the step


class WatchWarning(UserWarning):
    """Something is not recorded as asked, and training goes on."""


class Place(NamedTuple):
    """When and where a tensor was seen: step, mode, pass, layer, call, and its name."""

    step: int
    mode: int
    forward: int
    layer: int
    call: int
    tensor: str


class Planned(NamedTuple):
    """What is measured at a site: the table's plan, the statistics, and what these need."""

    number: int
    bound: list[Bound]
    limits: tuple[float, float] | None
    later: bool
    samples: tuple[int, ...]


class Meter:
    """Measures tensors of some layers with some statistics.

    Parameters
    ----------
    table
        Where the numbers go.
    targets
        The layers, by their index.
    stats
        The statistics, of which each layer takes those that have a meaning there.
    """

    def __init__(self, table: Table, targets: Sequence[Target], stats: Sequence[Statistic]) -> None:
        self.table, self.targets, self.stats = table, targets, stats
        self.notes: dict[tuple[str, str], str] = {}
        self._layers = [table.layers.number(target.name) for target in targets]
        self._plans: dict[tuple[int, str, tuple[int, ...]], Planned] = {}
        self._every = tuple(range(len(stats)))
        self._spaced = any(statistic.due for statistic in stats)
        self._now = (-1, self._every)
        self._last: tuple[weakref.ref[Tensor], int, Images] | None = None

    def measure(self, place: Place, kind: str, tensor: Tensor, scale: Tensor | float = 1.0) -> None:
        """Add the statistics of a tensor, divided by ``scale``, or a note on why it has none."""
        why = refusal(tensor)
        if why:
            self.note(self.targets[place.layer].name, place.tensor, why)
            return
        seen, tensor = tensor, tensor.detach()
        unit = self.targets[place.layer].unit
        if unit is not None and tensor.dim() > 1:
            tensor = tensor.select(1, unit)
        kind_of_device = "cpu" if tensor.is_cpu else tensor.device.type
        if torch.is_autocast_enabled(kind_of_device):
            with torch.autocast(kind_of_device, enabled=False):
                images = self._add(place, kind, tensor, scale)
        else:
            images = self._add(place, kind, tensor, scale)
        self._remember(seen, images if unit is None and kind != "grad" else None)

    def _remember(self, tensor: Tensor, images: Images | None) -> None:
        """Keep the sums of images: a BN layer is often called with what was measured last."""
        self._last = None
        if images is not None and tensor.dim() > 2 and not tensor.is_inference():
            self._last = weakref.ref(tensor), tensor._version, images

    def images_of(self, tensor: Tensor) -> Images | None:
        """Return the sums of images of a tensor, if it was measured last and not changed since."""
        if self._last is not None:
            reference, version, images = self._last
            if reference() is tensor and tensor._version == version:
                return images
        return None

    def _add(self, place: Place, kind: str, tensor: Tensor, scale: Tensor | float) -> Images | None:
        """Measure, or what can wait until the end of the step later; return the sums of images."""
        if not (isinstance(scale, float) and scale == 1.0):
            tensor = tensor.float() / scale if tensor.dtype != torch.float64 else tensor / scale
        planned = self._plan(place, kind)
        bound, labels = planned.bound, self.table.plans[planned.number].stats
        if not bound:
            return None
        view = View(tensor, labels, planned.limits, planned.samples)
        key = self.key(place, planned.number)
        later, images = False, None
        try:
            later = planned.later and view.keep(planned.samples)
            now = [each for each in bound if not each.later] if later else bound
            found = [each.measure(view) for each in now]
            complete = sum(map(width, found)) == sum(len(each.labels) for each in now)
            if kind != "grad" and tensor.dim() > 2:
                images = view.sums.images_at_hand
        except Exception:  # a user's statistic may raise anything
            complete = False
        if not complete:
            self.table.add(key, self._one_by_one(place, bound, view), tensor.device)
        elif later:
            view.let_go()
            make = partial(self._rest, place, bound, tuple(bound), view, list(map(_own, found)))
            self.table.add_later(key, make, tensor.device)
        else:
            self.table.add(key, found, tensor.device)
        return images

    def _rest(
        self,
        place: Place,
        bound: list[Bound],
        asked: Sequence[Bound],
        view: View,
        found: list[Numbers],
    ) -> list[Numbers]:
        """Return what was found, and between it what could wait; ``bound`` as it is by now."""
        parts, there = [], iter(found)
        for index, each in enumerate(asked):
            if each.later:
                part, why = _tried(each, view)
                if why:
                    bound[index] = self._off(place, each, why)
                    part = [math.nan] * len(each.labels)
                parts.append(part)
            else:
                parts.append(next(there))
        return parts

    def key(self, place: Place, plan: int) -> tuple[int, ...]:
        """Return the place as the numbers of the table's FIELDS, all but the order."""
        layer = self._layers[place.layer]
        return (*place[:3], layer, place.call, self.table.tensors.number(place.tensor), plan)

    def _due(self, step: int) -> tuple[int, ...]:
        """Return which statistics are measured on a step."""
        if not self._spaced:
            return self._every
        if self._now[0] != step:
            dues = [statistic.due for statistic in self.stats]
            self._now = step, tuple(i for i, due in enumerate(dues) if due is None or due(step))
        return self._now[1]

    def _plan(self, place: Place, kind: str) -> Planned:
        layer, which = place.layer, self._due(place.step)
        known = self._plans.get((layer, kind, which))
        if known is not None:
            return known
        site = Site(self.targets[layer].module, kind)
        bound = [b for b in (self.stats[i].bind(site) for i in which) if b is not None]
        number = self.table.plan(Plan.of([label for b in bound for label in b.labels]))
        limits = next((b.limits for b in bound if b.limits), None)
        waiting = [each for each in bound if each.later]
        samples = tuple(sorted({each.sample for each in waiting if each.sample}))
        planned = Planned(number, bound, limits, len(waiting) > 0 and sum(samples) <= KEPT, samples)
        self._plans[layer, kind, which] = planned
        return planned

    def _one_by_one(self, place: Place, bound: list[Bound], view: View) -> list[Numbers]:
        """Measure again, turning off for good what fails: its numbers are NaN from then on."""
        parts: list[Numbers] = []
        for index, statistic in enumerate(bound):
            part, why = _tried(statistic, view)
            if why:
                bound[index] = self._off(place, statistic, why)
                part = bound[index].measure(view)
            parts.append(part)
        return parts

    def _off(self, place: Place, statistic: Bound, why: str) -> Bound:
        """Warn that a statistic fails, and return one of NaN in its place."""
        self.warn(place, f"{statistic.labels[0]!r} is off from here: {why}")
        return Bound(statistic.labels, _missing(len(statistic.labels)))

    def warn(self, place: Place, text: str) -> None:
        """Warn of what happened at a layer."""
        name = self.targets[place.layer].name
        warnings.warn(f"{name}, step {place.step}: {text}", WatchWarning, stacklevel=2)

    def note(self, layer: str, tensor: str, why: str) -> None:
        """Remember, once, why something is not recorded."""
        self.notes.setdefault((layer, tensor), why)


def _tried(statistic: Bound, view: View) -> tuple[Numbers, str]:
    """Return what a statistic gives, and what is wrong with that, if anything."""
    try:
        part = statistic.measure(view)
    except Exception as error:
        return math.nan, f"{type(error).__name__}: {error}"
    asked = len(statistic.labels)
    given = width(part)
    return part, "" if given == asked else f"it gave {given} numbers for {asked} labels"


def _own(part: Any) -> Any:
    """Copy what a statistic gave: it may be a view of a tensor that changes, or be used again."""
    if isinstance(part, Tensor):
        return part.detach().clone()
    if isinstance(part, list | tuple):
        return [_own(each) for each in part]
    return part.copy() if isinstance(part, np.ndarray) else part


def _missing(count: int) -> Callable[[View], Tensor]:
    return lambda view: view.wide.new_full((count,), torch.nan)
