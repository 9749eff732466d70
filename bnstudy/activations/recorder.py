"""The recorder: hooks that watch a model learn without changing what it learns.

Steps count optimizer steps done: what is seen before the first one is step 0.
A pass through the model is training if the model is in training mode and
gradients are on, evaluation if it is in evaluation mode; any other pass is
left alone, as are recomputations of checkpoints and function transforms.
"""

import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from bnstudy.activations.attaching import Attachment, remove
from bnstudy.activations.bn import BatchNorms
from bnstudy.activations.hooks import GradientHook, Switch
from bnstudy.activations.layer import is_batch_norm, read_norm, uses_batch
from bnstudy.activations.meter import Meter, Place, WatchWarning
from bnstudy.activations.moments import MomentsMeter
from bnstudy.activations.nested import inputs, tensors
from bnstudy.activations.parameters import LABELS, ParameterWatch, learning_rates
from bnstudy.activations.recording import Recording
from bnstudy.activations.rules import RULES, Rule
from bnstudy.activations.schedule import When, by_mode
from bnstudy.activations.selection import Layers, Target, compiled, named, select, unwrap
from bnstudy.activations.shift import Probe
from bnstudy.activations.statistics import Statistic, resolve
from bnstudy.activations.table import MODES, Plan, Table
from bnstudy.activations.wiring import Wiring
from bnstudy.errors import WatchError

CAPACITY = 65_536
Sink = Callable[[pd.DataFrame], None]


class Recorder:
    """What :func:`watch` returns; use it in ``with``, or call :meth:`close`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        *,
        every: When | Mapping[str, When],
        layers: Layers,
        tensors: str,
        stats: str | Statistic | Iterable[str | Statistic],
        grads: bool,
        params: bool,
        bn: bool,
        scaler: Any,
        probe: Any,
        sinks: Iterable[Sink],
        keep: int | None,
    ) -> None:
        self._root, self._model = unwrap(model), model
        self._optimizer, self._scaler = optimizer, scaler
        self._schedule = by_mode(every)
        self._which, self._grads = tensors, grads
        self._sinks = list(sinks)
        self._probe = None if probe is None else Probe(self._root, probe, layers)
        self._probed = -1
        chosen = select(self._root, layers)
        self._watched = len(chosen)
        norms = [Target(n, m) for n, m in named(self._root) if bn and is_batch_norm(m)]
        self._table = Table(CAPACITY, keep, poured=bool(self._sinks))
        held = [Target(n, m) for n, m in named(self._root) if params and _owns(m)]
        self._targets = [*chosen, *norms, *held]
        self._norms = range(len(chosen), len(chosen) + len(norms))
        self._meter = Meter(self._table, self._targets, resolve(stats))
        self._parameters = self._hold(len(chosen) + len(norms))
        self.wiring = Wiring()
        self._switch, self._inside, self._mode = Switch(), False, "train"
        self._step, self._trained, self._closed, self._paused = 0, False, False, False
        self._dues: dict[str, bool] = {}  # of this step: a schedule is asked once
        self._passes = dict.fromkeys(MODES, 0)
        self._calls: dict[tuple[int, str], int] = {}
        self._awaiting: dict[tuple[int, str], list[Place]] = {}
        self._moments = MomentsMeter(self._meter)
        self._events, self._warned = 0, set[str]()
        self._hooks = Attachment(self, self._switch)
        self._remove = weakref.finalize(self, remove, self._hooks.handles, self._hooks.scouts)
        self._attach()

    # -- attaching and detaching

    def _attach(self) -> None:
        """Attach every hook, or none."""
        hooks = self._hooks
        try:
            hooks.root(self._model)
            for index in self._norms:  # before the layer's own output replaces what feeds it
                hooks.after(index, self._targets[index].module, "_normalized")
            for index, target in enumerate(self._targets[: self._watched]):
                if self._which in ("in", "both"):
                    hooks.before(index, target.module, "_input")
                if self._which in ("out", "both"):
                    hooks.after(index, target.module, "_output")
            if self._norms:
                number = self._table.layers.number
                hooks.neighbours((number(n), m) for n, m in named(self._root))
            if self._optimizer is not None:
                hooks.optimizer(self._optimizer)
        except BaseException:
            self._remove()
            raise
        finally:
            hooks.done()
        self._rest()

    def _hold(self, first: int) -> list[tuple[int, str, ParameterWatch]]:
        return [
            (index, name, ParameterWatch(parameter))
            for index, target in enumerate(self._targets[first:], start=first)
            for name, parameter in target.module.named_parameters(recurse=False)
            if not isinstance(parameter, nn.UninitializedParameter)
        ]

    def close(self) -> None:
        """Take every hook off and hand the last rows to the sinks; may be called twice."""
        self._remove()
        if not self._closed:
            self._closed = True
            self._pour()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- time

    @property
    def step(self) -> int:
        """Optimizer steps done; set it to resume a count."""
        return self._step

    @step.setter
    def step(self, value: int) -> None:
        self._step, self._trained = value, False
        self._new_step()

    def pause(self) -> None:
        """Record nothing until :meth:`resume`; steps are counted on."""
        self._paused = True
        self._rest()

    def resume(self) -> None:
        """Record again."""
        self._paused = False
        self._rest()

    def _new_step(self) -> None:
        self._table.settle()
        if self._events:
            remove(self._hooks.scouts)
        self._dues.clear()
        self._passes = dict.fromkeys(MODES, 0)
        self._calls.clear()
        self._awaiting.clear()
        self._events = 0
        self._rest()

    def _due(self, mode: str | None) -> bool:
        if mode is None or self._paused:
            return False
        known = self._dues.get(mode)
        if known is None:
            known = self._dues[mode] = bool(self._schedule[mode](self._step))
        return known

    def _rest(self) -> None:
        """Between passes, listen if anything could be due: parts may be called alone."""
        self._switch.on = self._due("train") or self._due("eval")

    def _mode_of_pass(self) -> str | None:
        if not self._root.training:
            return "eval"
        return "train" if torch.is_grad_enabled() else None

    def _begin(self, _index: int, _module: nn.Module, _args: Any, _kwargs: Any) -> None:
        if torch._C._current_graph_task_id() != -1:  # a checkpoint runs the model again
            return
        mode = self._mode_of_pass()
        if mode == "train" and self._optimizer is None:
            if self._trained:
                self._pour_if_asked()
                self._step += 1
                self._new_step()
            self._trained = True
        self._inside, self._mode = True, mode or ""
        self._calls.clear()
        self._switch.on = self._due(mode)
        if mode is not None:
            self._passes[mode] += 1
        if (
            self._probe is not None
            and mode == "train"
            and self._due(mode)
            and self._probed != self._step
        ):
            self._probed = self._step
            self._probe.observe(self._step)

    def _end(self, *_unused: Any) -> None:
        if torch._C._current_graph_task_id() == -1:
            self._inside = False
            self._rest()

    def _admitted(self, index: int, module: nn.Module) -> str | None:
        """Return the mode if a call of a layer belongs to the recording now."""
        if module is not self._targets[index].module:
            self._warn_once("a copy of the model shares its hooks; the copy is not recorded")
            return None
        if torch._C._current_graph_task_id() != -1:
            return None
        mode = self._mode if self._inside else self._mode_of_pass()
        return mode or None

    def _place(self, index: int, mode: str, call: int, tensor: str) -> Place:
        number = max(self._passes[mode] - 1, 0)
        return Place(self._step, MODES.index(mode), number, index, call, tensor)

    def _call(self, index: int, kind: str) -> int:
        call = self._calls.get((index, kind), 0)
        self._calls[index, kind] = call + 1
        self._events += 1
        return call

    # -- what the hooks call

    def _input(self, index: int, module: nn.Module, args: Any, kwargs: Any) -> None:
        mode = self._admitted(index, module)
        if mode is None or not self._due(mode):
            return
        call = self._call(index, "in")
        for name, tensor in inputs(args, kwargs):
            self._meter.measure(self._place(index, mode, call, name), "in", tensor)

    def _output(self, index: int, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        mode = self._admitted(index, module)
        if mode is None:
            self._recomputed(index, output)
            return
        if not self._due(mode):
            return
        call = self._call(index, "out")
        for name, tensor in tensors(output, "out"):
            place = self._place(index, mode, call, name)
            self._meter.measure(place, "out", tensor)
            if self._grads and mode == "train":
                self._await_gradient(place._replace(tensor="grad" + name[3:]), tensor)

    def _await_gradient(self, place: Place, tensor: Tensor) -> None:
        if tensor.requires_grad and not tensor.is_leaf:
            tensor.register_hook(GradientHook(self, place))
        elif not torch.is_grad_enabled():  # reentrant checkpoint: its second run has gradients
            self._awaiting.setdefault((place.layer, place.tensor), []).append(place)

    def _recomputed(self, index: int, output: Any) -> None:
        if not self._awaiting:
            return
        for name, tensor in tensors(output, "out"):
            places = self._awaiting.pop((index, "grad" + name[3:]), [])
            if len(places) == 1 and tensor.requires_grad:
                tensor.register_hook(GradientHook(self, places[0]))
            elif places:
                why = "called more than once inside reentrant checkpoints: whose it is is unknown"
                self._meter.note(self._targets[index].name, "grad", why)

    def _gradient(self, place: Place, gradient: Tensor) -> None:
        if not self._closed:
            self._meter.measure(place, "grad", gradient, self._loss_scale())

    def _loss_scale(self) -> Tensor | float:
        if self._scaler is None or not self._scaler.is_enabled():
            return 1.0
        scale = getattr(self._scaler, "_scale", None)  # on the device: get_scale() would wait
        return float(self._scaler.get_scale()) if scale is None else scale

    def _producer(self, layer: int, _module: nn.Module, _args: Any, output: Any) -> None:
        self.wiring.leaves(self._table.layers.texts[layer], "producer", output)

    def _activation(self, layer: int, _module: nn.Module, args: Any) -> None:
        self.wiring.enters(self._table.layers.texts[layer], "activation", args)

    def _normalized(
        self, index: int, module: nn.Module, args: Any, _kwargs: Any, output: Any
    ) -> None:
        mode = self._admitted(index, module)
        if mode != "train" or not self._due(mode):
            return
        target = self._targets[index]
        self.wiring.enters(target.name, "norm", args)
        self.wiring.leaves(target.name, "norm", output)
        if not uses_batch(module):
            self._meter.note(target.name, "norm", "it normalizes by its running statistics")
            return
        place = self._place(index, mode, self._call(index, "norm"), "norm")
        self._moments.measure(place, module, args, output)

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._parameters or not self._due("train"):
            return
        rates, scale = learning_rates(optimizer), getattr(optimizer, "grad_scale", None)
        for _, _, watched in self._parameters:
            watched.before_step(rates.get(id(watched.parameter), torch.nan), scale)

    def _after_step(self, _optimizer: torch.optim.Optimizer) -> None:
        if self._due("train"):
            if not self._events:
                self._explain_silence()
            self._measure_parameters()
            self._check_replaced()
            self._pour_if_asked()
        self._step += 1
        self._new_step()

    def _measure_parameters(self) -> None:
        plan = self._table.plan(Plan.of(LABELS))
        for index, name, watched in self._parameters:
            place = self._place(index, "train", 0, name)._replace(forward=0)
            numbers = watched.after_step()
            self._table.add(self._meter.key(place, plan), numbers, watched.parameter.device)

    # -- what goes wrong

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            warnings.warn(text, WatchWarning, stacklevel=3)

    def _explain_silence(self) -> None:
        if compiled(self._model):
            self._warn_once(
                "the model was compiled and run before watch(): its compiled code has no hooks; "
                "call watch() before the first pass, or torch._dynamo.reset() after watch()"
            )
        else:
            self._warn_once(
                f"no watched layer was called before step {self._step} of the optimizer: "
                "are passes made through another copy of the model, or by .forward()?"
            )

    def _check_replaced(self) -> None:
        there = {id(module) for module in self._root.modules()}
        for target in self._targets:
            if id(target.module) not in there:
                self._warn_once(
                    f"{target.name} was replaced after watch() and is recorded no more: "
                    "close this recorder and call watch() again"
                )

    def _pour_if_asked(self) -> None:
        if self._sinks:
            self._pour()

    def _pour(self) -> None:
        fresh = self._table.flush()
        if not self._sinks or not fresh:
            return
        frame = self._table.frame(fresh)
        for sink in list(self._sinks):
            try:
                sink(frame)
            except Exception as error:
                self._sinks.remove(sink)
                self._warn_once(f"a sink is off from step {self._step}: {error}")

    def recording(self) -> Recording:
        """Return everything recorded so far, apart from the model."""
        self._pour()
        info = {
            "kinds": {t.name: type(t.module).__name__ for t in self._targets},
            "producers": dict(self.wiring.producers),
            "followers": dict(self.wiring.followers),
            "norms": {
                self._targets[i].name: {"eps": norm.eps, "momentum": norm.momentum}
                for i in self._norms
                for norm in [read_norm(self._targets[i].module)]
            },
            "notes": [[*where, why] for where, why in self._meter.notes.items()],
            "steps": self._step,
        }  # fmt: skip
        return Recording(self._table.frame(self._table.blocks), info)

    def frame(self, stat: str | None = None, **options: Any) -> pd.DataFrame:
        """Return rows recorded so far: :meth:`Recording.frame`."""
        return self.recording().frame(stat, **options)

    def summary(self) -> pd.DataFrame:
        """Return first, last and extreme values so far: :meth:`Recording.summary`."""
        return self.recording().summary()

    def tail(self, steps: int = 3) -> pd.DataFrame:
        """Return the rows of the last recorded steps."""
        return self.recording().tail(steps)

    def report(self, rules: Iterable[Rule] = RULES) -> pd.DataFrame:
        """Say in plain words what stands out: :meth:`Recording.report`."""
        return self.recording().report(rules)

    def plot(self, layer: str | None = None, what: str = "quantiles", **options: Any) -> Axes:
        """Draw one picture: :meth:`Recording.plot`."""
        return self.recording().plot(layer, what, **options)

    def save(self, path: str | Path) -> None:
        """Write everything recorded so far to a file: :meth:`Recording.save`."""
        self.recording().save(path)

    @property
    def bn(self) -> BatchNorms:
        """What was recorded, and can be measured now, about batch normalization."""
        return BatchNorms(self.recording(), self._model)

    def shift(self) -> pd.DataFrame:
        """Return how inputs changed on the probe batch: :meth:`Probe.frame`.

        Raises
        ------
        WatchError
            If ``watch`` was given no probe.
        """
        if self._probe is None:
            raise WatchError("covariate shift needs a fixed batch: watch(..., probe=batch)")
        return self._probe.frame()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "paused" if self._paused else "recording"
        return (
            f"Recorder({self._watched} layers, {len(self._norms)} BN, step {self._step}, {state})"
        )


def _owns(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
