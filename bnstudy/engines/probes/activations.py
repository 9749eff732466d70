"""Probes that record layers with the public recorder, :func:`bnstudy.activations.watch`.

=====================  ==========================================================
``activations``        on a copy of the network, at scheduled steps: the batch of
                       the step, its gradients and the update that it makes
``fixed-activations``  on a copy, at scheduled moments: the same images each time
``recorder``           on the network itself, for the whole run
=====================  ==========================================================

The first and the last give the same rows.  A recorder in the network needs hooks that
stay there, which only the reference engine can provide; copies can be read with any
engine.  So ``recorder`` serves to prove what ``activations`` reads.

A row bears the number of optimizer steps done before the pass, as the recorder counts.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from bnstudy.activations import Statistic, histogram, watch
from bnstudy.activations.model_copies import generators_kept
from bnstudy.activations.recorder import Recorder
from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import (
    ProbedRun,
    ProbedValue,
    ScheduledProbe,
    batch_of,
    check_epochs,
    random_batch,
    steps_at,
    table,
)
from bnstudy.engines.run_record import MEASURE_COLUMNS
from bnstudy.errors import ConfigError
from bnstudy.networks import StreamDropout

Layers = str | Sequence[str] | None  # what of the options of watch a study can write down
Stats = str | Sequence[str]


class RecordedCopy:
    """A copy of a network with a recorder attached.

    Parameters
    ----------
    net
        Copied with its current weights, from which the recorder measures how far
        parameters have moved.
    gradients
        Whether passes are followed by a backward pass.
    options
        Of :func:`~bnstudy.activations.watch`.
    """

    def __init__(self, net: nn.Module, *, gradients: bool, options: Mapping[str, Any]) -> None:
        self.net = copy.deepcopy(net)  # hooks of other recorders are inert in a copy
        self._gradients = gradients
        if not gradients:  # a recorder wants gradients to be on, but the pass needs no graph
            self.net.requires_grad_(False)
        self._optimizer = _GivenStep(self.net.parameters(), {"lr": np.nan})
        self._recorder = watch(self.net, self._optimizer, **options)

    def load(self, net: nn.Module) -> None:
        """Copy parameters and buffers of a network."""
        with torch.no_grad():
            pairs = (
                zip(self.net.parameters(), net.parameters(), strict=True),
                zip(self.net.buffers(), net.buffers(), strict=True),
            )
            for mine, theirs in (pair for each in pairs for pair in each):
                mine.copy_(theirs)

    def set_modes(self, net: nn.Module) -> None:
        """Copy the mode of every layer: normalization may be frozen from some step on."""
        for mine, theirs in zip(self.net.modules(), net.modules(), strict=True):
            mine.training = theirs.training

    def switch_off_dropout(self) -> None:
        """Put dropout layers, and no others, into evaluation mode."""
        for layer in self.net.modules():
            if isinstance(layer, StreamDropout | _DropoutNd):
                layer.eval()

    def record(self, step: int, images: Tensor, labels: Tensor, rng: np.random.Generator) -> None:
        """Record a training pass, of which dropout and noise draw from ``rng``."""
        for layer in self.net.modules():
            if isinstance(getattr(layer, "rng", None), np.random.Generator):
                layer.rng = rng  # type: ignore[assignment]  # not a part of the network
        self._recorder.step = step
        self._optimizer.zero_grad()
        with generators_kept(), torch.enable_grad():
            logits = self.net(images)
            if self._gradients:
                F.cross_entropy(logits, labels).backward()

    def step_to(self, net: nn.Module, rate: float) -> None:
        """Record the optimizer step that leads from the current weights to those of ``net``."""
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.step(lambda: self.load(net))

    def close(self) -> pd.DataFrame:
        """Detach the recorder; return its rows, columns of a probe's table."""
        self._recorder.close()
        return rows_of(self._recorder)


class _GivenStep(torch.optim.Optimizer):
    """An optimizer whose step calls a function: a recorder sees the step of another one."""

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Call a function that sets the parameters."""
        if closure is not None:
            closure()


class CopyProbe(ScheduledProbe):
    """A probe that reads a copy of the run's network: subclasses implement ``measure``.

    Parameters
    ----------
    run, epochs
        As of every :class:`ScheduledProbe`.
    gradients
        Whether passes are followed by a backward pass.
    options
        Of :func:`~bnstudy.activations.watch`.
    """

    def __init__(
        self, run: ProbedRun, epochs: Sequence[float], gradients: bool, options: Mapping[str, Any]
    ) -> None:
        super().__init__(run, epochs)
        self._gradients, self._options = gradients, options
        self._copy: RecordedCopy | None = None

    def steps(self, per_epoch: int) -> Set[int]:
        """Return the scheduled steps and step 0, where the copy is made."""
        # before training: what cannot be watched is refused then, and parameters move from there
        return super().steps(per_epoch) | {0}

    def copy_of(self, net: nn.Module) -> RecordedCopy:
        """Return the copy, made at the first call."""
        if self._copy is None:
            self._copy = RecordedCopy(net, gradients=self._gradients, options=self._options)
        return self._copy

    @abstractmethod
    def measure(self, step: Step, training: Training) -> Iterable[ProbedValue]:
        """Read the copy; its recorder keeps what was read, so nothing is returned."""

    def __call__(self, step: Step, training: Training) -> None:
        """Make the copy at step 0, and measure where it is scheduled."""
        self.copy_of(training.net)
        super().__call__(step, training)

    def close(self) -> pd.DataFrame:
        """Return what was recorded."""
        return table(()) if self._copy is None else self._copy.close()


class Activations(CopyProbe):
    """Statistics of layers on the batch of a step, as a recorder attached to the network sees them.

    The pass of the scheduled step is made once more: the weights before the step, training
    mode, the batch that the step trains on, its gradients, and the update that the step made
    of the weights.  Without dropout and noise the numbers are those of the step itself; masks
    and noise are the probe's own, since the run's are used up.  A step whose loss is not finite
    is not recorded.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        Moments before the steps to record, in epochs done: 0 is the first step.  The end
        of the run stands for its last step.
    layers, tensors, stats, grads, params, bn
        Options of :func:`~bnstudy.activations.watch`; layers and statistics by name.  The
        moments of BN layers are rows of the tensor ``norm``, channel by channel.
    histogram
        Options of :func:`~bnstudy.activations.histogram`, for a histogram of layers'
        inputs only: it makes ``bins + 2`` rows per layer and recorded step.
    """

    def __init__(
        self,
        run: ProbedRun,
        epochs: Sequence[float] = (0,),
        *,
        layers: Layers = None,
        tensors: str = "out",
        stats: Stats = "default",
        histogram: Mapping[str, Any] | None = None,
        grads: bool = False,
        params: bool = False,
        bn: bool = False,
    ) -> None:
        asked = {"layers": layers, "tensors": tensors, "grads": grads, "params": params, "bn": bn}
        options = {**asked, "stats": with_histogram(stats, histogram)}
        super().__init__(run, epochs, grads or params, options)

    def steps(self, per_epoch: int) -> Set[int]:
        """Return the steps before and after which the copy takes the weights, and step 0."""
        before = steps_to_record(self.run, self.epochs, per_epoch)
        return {0} | before | {count + 1 for count in before}

    def __call__(self, step: Step, training: Training) -> None:
        """Record the step just made, and keep the weights before the next one."""
        taken = self.copy_of(training.net)
        scheduled = steps_to_record(self.run, self.epochs, step.per_epoch)
        if step.count - 1 in scheduled:
            self.measure(step, training)
        if step.count in scheduled:
            taken.load(training.net)

    def measure(self, step: Step, training: Training) -> Iterable[ProbedValue]:
        """Repeat the step just made on the copy."""
        taken, before = self.copy_of(training.net), step.count - 1
        taken.set_modes(training.net)
        rng = self.run.stream(f"activations {before}")
        taken.record(before, training.images, training.labels, rng)
        taken.step_to(training.net, training.optimizer.param_groups[0]["lr"])
        return ()


class FixedActivations(CopyProbe):
    """Statistics of layers on the same images at every moment.

    The images are one batch in training mode: normalization takes the statistics of just
    these images.  So there is no noise of small batches in the numbers, nor the lag of
    running averages, which are not used.  Dropout is off, so that its masks are not taken for
    a change of the network; the noise of noisy BN, which is what that layer does, is drawn
    at each moment from the probe's own stream.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure, in epochs done.
    count
        Number of images, at least 2; all training images if there are fewer.  They are
        drawn once per seed from the training images, by the probe's own stream: the same in
        all arms of a seed, and of the kind that the weights were fitted to.
    layers, tensors, stats, grads, bn, histogram
        As of :class:`Activations`, gradients of the loss on these images.

    Raises
    ------
    ConfigError
        If ``count`` is not a number of images of at least 2.
    """

    def __init__(
        self,
        run: ProbedRun,
        epochs: Sequence[float] = (0,),
        *,
        count: int = 512,
        layers: Layers = None,
        tensors: str = "out",
        stats: Stats = "default",
        histogram: Mapping[str, Any] | None = None,
        grads: bool = False,
        bn: bool = False,
    ) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise ConfigError(
                f"normalization needs a batch of 2 fixed images or more, got count={count!r}"
            )
        asked = {"layers": layers, "tensors": tensors, "grads": grads, "bn": bn}
        super().__init__(run, epochs, grads, {**asked, "stats": with_histogram(stats, histogram)})
        train = len(run.splits.train)
        self._where = random_batch(run.stream("fixed-activations"), train, min(count, train))

    def measure(self, step: Step, training: Training) -> Iterable[ProbedValue]:
        """Send the images through the copy at the current weights."""
        taken = self.copy_of(training.net)
        taken.load(training.net)
        taken.set_modes(training.net)
        taken.switch_off_dropout()
        images, labels = batch_of(self.run.splits.train, self._where, taken.net)
        rng = self.run.stream(f"fixed-activations {step.count}")
        taken.record(step.count, images, labels, rng)
        return ()


class AttachedRecorder:
    """The recorder attached to the network itself, for the whole run.

    Parameters
    ----------
    run, epochs, layers, tensors, stats, histogram, grads, params, bn
        As of :class:`Activations`, which gives the same rows.
    """

    def __init__(
        self,
        run: ProbedRun,
        epochs: Sequence[float] = (0,),
        *,
        layers: Layers = None,
        tensors: str = "out",
        stats: Stats = "default",
        histogram: Mapping[str, Any] | None = None,
        grads: bool = False,
        params: bool = False,
        bn: bool = False,
    ) -> None:
        check_epochs(run, epochs)
        self._run, self._epochs = run, tuple(epochs)
        asked = {"layers": layers, "tensors": tensors, "grads": grads, "params": params, "bn": bn}
        self._options: dict[str, Any] = {**asked, "stats": with_histogram(stats, histogram)}
        self._recorder: Recorder | None = None

    def __call__(self, step: Step, training: Training) -> None:
        """Attach the recorder before the first step; its own hooks do the rest."""
        if step.count == 0:
            every = steps_to_record(self._run, self._epochs, step.per_epoch)
            self._recorder = watch(training.net, training.optimizer, every=every, **self._options)

    def close(self) -> pd.DataFrame:
        """Detach; return the recording."""
        if self._recorder is None:
            return table(())
        self._recorder.close()
        return rows_of(self._recorder)


def steps_to_record(run: ProbedRun, epochs: Sequence[float], per_epoch: int) -> Set[int]:
    """Return how many steps are done before each step to record; no step follows the last."""
    last = run.config.epochs * per_epoch - 1
    return {min(count, last) for count in steps_at(epochs, per_epoch)}


def with_histogram(stats: Stats, options: Mapping[str, Any] | None) -> list[str | Statistic]:
    """Return statistics as ``watch`` takes them, with a histogram of layers' inputs if asked."""
    asked: list[str | Statistic] = [stats] if isinstance(stats, str) else list(stats)
    return asked if options is None else [*asked, inputs_histogram(options)]


def inputs_histogram(options: Mapping[str, Any]) -> Statistic:
    """Return a histogram that is recorded of layers' inputs, not of their outputs."""
    made = histogram(**options)
    return replace(made, bind=lambda site: made.bind(site) if site.kind == "in" else None)


def rows_of(recorder: Recorder) -> pd.DataFrame:
    """Return everything recorded as a probe's table."""
    rows = recorder.recording().rows
    rows = rows.astype(dict.fromkeys(("layer", "tensor", "stat"), str))
    return rows[list(MEASURE_COLUMNS[1:])].reset_index(drop=True)
