"""The recorder: hooks that watch a model learn without changing what it learns.

Steps count optimizer steps done: a tensor seen before the first one belongs to step 0.
A pass through the model is training if the model is in training mode and
gradients are on, evaluation if it is in evaluation mode; any other pass is
left alone, as are recomputations of checkpoints and function transforms.
"""

import warnings
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import torch
from torch import Tensor, nn

from bnstudy.activations.batchnorm.layer import is_batch_norm, read_state, uses_batch
from bnstudy.activations.batchnorm.neighbours import Neighbours
from bnstudy.activations.batchnorm.results import BatchNorms
from bnstudy.activations.clock import StepClock
from bnstudy.activations.hooks import GradientHook, HookSet, Switch, remove
from bnstudy.activations.measurer import Measurer, MomentsMeasurer, WatchWarning
from bnstudy.activations.options import WatchOptions
from bnstudy.activations.parameters import LABELS, ParameterTracker, learning_rates
from bnstudy.activations.reading.measurements import Measurements, NumberLabels, Occurrence
from bnstudy.activations.reading.tensor import inputs, tensors
from bnstudy.activations.recording import Recording
from bnstudy.activations.report_rules import RULES, Rule
from bnstudy.activations.schedule import by_mode
from bnstudy.activations.selection import Target, compiled, named, select, unwrap
from bnstudy.activations.shift import FixedBatch
from bnstudy.activations.statistics import resolve
from bnstudy.errors import WatchError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPACITY = 65_536  # numbers that wait on a device: half a MiB


class Recorder:
    """The result of :func:`~bnstudy.activations.watch`: use it in ``with``, or close it."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        options: WatchOptions,
    ) -> None:
        self._root, self._model = unwrap(model), model
        self._optimizer, self._options = optimizer, options
        switch = Switch()
        self._clock, self._hooks = StepClock(by_mode(options.every), switch), HookSet(switch)
        self._trained, self._closed = False, False  # trained: since the step was set
        self._sinks = list(options.sinks)
        self._fixed_batch = (
            None if options.probe is None else FixedBatch(self._root, options.probe, options.layers)
        )
        self._observed = -1
        chosen = select(self._root, options.layers)
        norms, owners = self._others()
        self._watched, self._targets = len(chosen), [*chosen, *norms, *owners]
        self._norms = range(len(chosen), len(chosen) + len(norms))
        self._measurements = Measurements(CAPACITY, options.keep, streamed=bool(self._sinks))
        self._measurer = Measurer(self._measurements, self._targets, resolve(options.stats))
        self._moments, self._neighbours = MomentsMeasurer(self._measurer), Neighbours()
        self._parameters = self._track(len(chosen) + len(norms))
        self._awaiting: dict[tuple[int, str], list[Occurrence]] = {}
        self._warned: set[str] = set()
        self._remove = weakref.finalize(self, remove, self._hooks.handles, self._hooks.first_step)
        self._attach()

    # -- attaching and detaching

    def _others(self) -> tuple[list[Target], list[Target]]:
        """Return the BN layers whose moments, and the modules whose parameters are recorded."""
        options, modules = self._options, list(named(self._root))
        norms = [Target(n, m) for n, m in modules if options.bn and is_batch_norm(m)]
        return norms, [Target(n, m) for n, m in modules if options.params and _owns(m)]

    def _track(self, first: int) -> list[tuple[int, str, ParameterTracker]]:
        return [
            (index, name, ParameterTracker(parameter))
            for index, target in enumerate(self._targets[first:], start=first)
            for name, parameter in target.module.named_parameters(recurse=False)
            if not isinstance(parameter, nn.UninitializedParameter)
        ]

    def _attach(self) -> None:
        """Attach every hook, or none."""
        try:
            self._attach_all()
        except BaseException:
            self._remove()
            raise
        self._clock.listen()

    def _attach_all(self) -> None:
        hooks, which = self._hooks, self._options.tensors
        hooks.root(self._model, self._begin, self._end)
        for index in self._norms:  # before the layer's own output replaces what feeds it
            hooks.after(index, self._targets[index].module, self._normalized)
        for index, target in enumerate(self._targets[: self._watched]):
            if which in ("in", "both"):
                hooks.before(index, target.module, self._input)
            if which in ("out", "both"):
                hooks.after(index, target.module, self._output)
        if self._norms:
            number = self._measurements.layers.number
            layers = [(number(name), module) for name, module in named(self._root)]
            hooks.neighbours(layers, self._producer, self._activation)
        if self._optimizer is not None:
            hooks.optimizer(self._optimizer, self._before_step, self._after_step)

    def close(self) -> None:
        """Remove every hook and hand the last rows to the sinks; may be called twice."""
        self._remove()
        if not self._closed:
            self._closed = True
            self._send_rows()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- time

    @property
    def step(self) -> int:
        """Optimizer steps done; set it to resume a count."""
        return self._clock.step

    @step.setter
    def step(self, value: int) -> None:
        self._trained = False
        self._start_step(value)

    def pause(self) -> None:
        """Record nothing until :meth:`resume`; steps are counted on."""
        self._clock.paused = True
        self._clock.listen()

    def resume(self) -> None:
        """Record again."""
        self._clock.paused = False
        self._clock.listen()

    def _start_step(self, step: int) -> None:
        self._measurements.settle()
        if self._clock.events:
            remove(self._hooks.first_step)
        self._awaiting.clear()
        self._clock.start_step(step)

    def _mode_of_pass(self) -> str | None:
        if not self._root.training:
            return "eval"
        return "train" if torch.is_grad_enabled() else None

    def _begin(self, _index: int, _module: nn.Module, _args: Any, _kwargs: Any) -> None:
        if _in_backward():  # a checkpoint runs the model again
            return
        mode = self._mode_of_pass()
        if mode == "train" and self._optimizer is None:
            if self._trained:  # without an optimizer the next pass ends the step
                self._send_rows_if_asked()
                self._start_step(self._clock.step + 1)
            self._trained = True
        self._clock.start_pass(mode)
        if self._fixed_batch is not None and mode == "train" and self._clock.due(mode):
            self._observe(self._fixed_batch)

    def _observe(self, fixed_batch: FixedBatch) -> None:
        """Send the fixed batch through the model, before the first pass of a step."""
        if self._observed != self._clock.step:
            self._observed = self._clock.step
            fixed_batch.observe(self._observed)

    def _end(self, *_unused: Any) -> None:
        if not _in_backward():
            self._clock.end_pass()

    def _admitted(self, index: int, module: nn.Module) -> str | None:
        """Return the mode if a call of a layer belongs to the recording, else None."""
        if module is not self._targets[index].module:
            self._warn_once("a copy of the model shares its hooks; the copy is not recorded")
            return None
        # the mode at the start of the pass: a layer may have another, such as frozen BN
        return None if _in_backward() else self._clock.mode(self._mode_of_pass())

    # -- actions of the hooks

    def _input(self, index: int, module: nn.Module, args: Any, kwargs: Any) -> None:
        mode = self._admitted(index, module)
        if mode is None or not self._clock.due(mode):
            return
        call = self._clock.count_call(index, "in")
        for name, tensor in inputs(args, kwargs):
            where = self._clock.occurrence(index, mode, call, name)
            self._measurer.measure(where, "in", tensor)

    def _output(self, index: int, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        mode = self._admitted(index, module)
        if mode is None:
            self._recomputed(index, output)
            return
        if not self._clock.due(mode):
            return
        call = self._clock.count_call(index, "out")
        for name, tensor in tensors(output, "out"):
            where = self._clock.occurrence(index, mode, call, name)
            self._measurer.measure(where, "out", tensor)
            if self._options.grads and mode == "train":
                self._await_gradient(where._replace(tensor="grad" + name[3:]), tensor)

    def _await_gradient(self, where: Occurrence, tensor: Tensor) -> None:
        if tensor.requires_grad and not tensor.is_leaf:
            tensor.register_hook(GradientHook(self._gradient, where))
        elif not torch.is_grad_enabled():  # reentrant checkpoint: its second run has gradients
            self._awaiting.setdefault((where.layer, where.tensor), []).append(where)

    def _recomputed(self, index: int, output: Any) -> None:
        if not self._awaiting:
            return
        for name, tensor in tensors(output, "out"):
            waiting = self._awaiting.pop((index, "grad" + name[3:]), [])
            if len(waiting) == 1 and tensor.requires_grad:
                tensor.register_hook(GradientHook(self._gradient, waiting[0]))
            elif waiting:
                why = "called more than once inside reentrant checkpoints: whose it is is unknown"
                self._measurer.note(self._targets[index].name, "grad", why)

    def _gradient(self, where: Occurrence, gradient: Tensor) -> None:
        if not self._closed:
            self._measurer.measure(where, "grad", gradient, self._loss_scale())

    def _loss_scale(self) -> Tensor | float:
        scaler = self._options.scaler
        if scaler is None or not scaler.is_enabled():
            return 1.0
        scale = getattr(scaler, "_scale", None)  # on the device: get_scale() would wait
        return float(scaler.get_scale()) if scale is None else scale

    def _producer(self, layer: int, _module: nn.Module, _args: Any, output: Any) -> None:
        self._neighbours.returned(self._measurements.layers.texts[layer], "producer", output)

    def _activation(self, layer: int, _module: nn.Module, args: Any) -> None:
        self._neighbours.called(self._measurements.layers.texts[layer], "activation", args)

    def _normalized(
        self, index: int, module: nn.Module, args: Any, _kwargs: Any, output: Any
    ) -> None:
        mode = self._admitted(index, module)
        if mode != "train" or not self._clock.due(mode):
            return
        name = self._targets[index].name
        self._neighbours.called(name, "norm", args)
        self._neighbours.returned(name, "norm", output)
        if not uses_batch(module):
            self._measurer.note(name, "norm", "it normalizes by its running statistics")
            return
        call = self._clock.count_call(index, "norm")
        where = self._clock.occurrence(index, mode, call, "norm")
        self._moments.measure(where, module, args, output)

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._parameters or not self._clock.due("train"):
            return
        rates, scale = learning_rates(optimizer), getattr(optimizer, "grad_scale", None)
        for _, _, tracker in self._parameters:
            tracker.before_step(rates.get(id(tracker.parameter), torch.nan), scale)

    def _after_step(self, _optimizer: torch.optim.Optimizer) -> None:
        if self._clock.due("train"):
            if not self._clock.events:
                self._explain_silence()
            self._measure_parameters()
            self._check_replaced()
            self._send_rows_if_asked()
        self._start_step(self._clock.step + 1)

    def _measure_parameters(self) -> None:
        labels = self._measurements.number_of(NumberLabels.of_tensor(LABELS))
        for index, name, tracker in self._parameters:
            where = self._clock.occurrence(index, "train", 0, name)._replace(forward=0)
            key, numbers = self._measurer.key(where, labels), tracker.after_step()
            self._measurements.add(key, numbers, tracker.parameter.device)

    # -- warnings, and rows to the sinks

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
                f"no watched layer was called before step {self.step} of the optimizer: "
                "are passes made through another copy of the model, or by .forward()?"
            )

    def _check_replaced(self) -> None:
        # by identity: modules may define their own equality
        present = {id(module) for module in self._root.modules()}
        for target in self._targets:
            if id(target.module) not in present:
                self._warn_once(
                    f"{target.name} was replaced after watch() and is recorded no more: "
                    "close this recorder and call watch() again"
                )

    def _send_rows_if_asked(self) -> None:
        if self._sinks:
            self._send_rows()

    def _send_rows(self) -> None:
        fresh = self._measurements.flush()
        if not self._sinks or not fresh:
            return
        frame = self._measurements.frame(fresh)
        for sink in list(self._sinks):
            try:
                sink(frame)
            except Exception as error:  # a user's sink may raise anything
                self._sinks.remove(sink)
                self._warn_once(f"a sink is off from step {self.step}: {error}")

    # -- results

    def recording(self) -> Recording:
        """Return everything recorded so far, apart from the model."""
        self._send_rows()
        info = {
            "kinds": {t.name: type(t.module).__name__ for t in self._targets},
            "producers": dict(self._neighbours.producers),
            "followers": dict(self._neighbours.followers),
            "norms": {
                target.name: {"eps": state.eps, "momentum": state.momentum}
                for target in (self._targets[i] for i in self._norms)
                for state in [read_state(target.module)]
            },
            "notes": [[*where, why] for where, why in self._measurer.notes.items()],
            "steps": self.step,
        }  # fmt: skip
        return Recording(self._measurements.frame(self._measurements.blocks), info)

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
        """Return the sentences of rules that hold: :meth:`Recording.report`."""
        return self.recording().report(rules)

    def plot(self, layer: str | None = None, what: str = "quantiles", **options: Any) -> "Axes":
        """Draw one plot: :meth:`Recording.plot`."""
        return self.recording().plot(layer, what, **options)

    def save(self, path: str | Path) -> None:
        """Write everything recorded so far to a file: :meth:`Recording.save`."""
        self.recording().save(path)

    @property
    def bn(self) -> BatchNorms:
        """Results on batch normalization, recorded and of the current model."""
        recording = self.recording()
        return BatchNorms(recording.rows, recording.info, self._model)

    def shift(self) -> pd.DataFrame:
        """Return the changes of inputs on the fixed batch: :meth:`FixedBatch.frame`.

        Raises
        ------
        WatchError
            If ``watch`` was given no probe.
        """
        if self._fixed_batch is None:
            raise WatchError("covariate shift needs a fixed batch: watch(..., probe=batch)")
        return self._fixed_batch.frame()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "paused" if self._clock.paused else "recording"
        return f"Recorder({self._watched} layers, {len(self._norms)} BN, step {self.step}, {state})"


def _in_backward() -> bool:
    """Return whether autograd runs the code, as it does to recompute checkpoints."""
    return bool(torch._C._current_graph_task_id() != -1)


def _owns(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
