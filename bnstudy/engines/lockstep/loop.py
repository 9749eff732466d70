"""Training a stack: several seeds of one arm in one program.

Same streams and same records as the reference trainer, with which it shares
only the modules below both.  The arithmetic is done by a :class:`Program`:
the compiled kernel on the CPU, stacked tensors on a GPU.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import nn

from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import Images, Splits, batches, epoch_orders, evaluation_steps, scale
from bnstudy.engines.lockstep.cpu import Kernel, lane_count
from bnstudy.engines.lockstep.gpu import Stack
from bnstudy.engines.lockstep.parameters import unsupported
from bnstudy.engines.lockstep.random_draws import RandomDraws
from bnstudy.engines.observer import ScheduledObserver, Training
from bnstudy.engines.phases import PhaseClock
from bnstudy.engines.run_record import (
    CURVE_COLUMNS,
    Record,
    curve_frame,
    digest_order,
    digest_weights,
    norm_frame,
)
from bnstudy.errors import ConfigError
from bnstudy.networks import build, refuse_lone_image
from bnstudy.networks.norm import has_running_statistics


class Program(Protocol):
    """K networks of one arm that train at once.

    A network whose loss is not finite takes no further step and keeps its
    state; the others go on.
    """

    def start_epoch(self, orders: np.ndarray) -> None:
        """Set each seed's order of the training images: int64 (K, n)."""

    def train(
        self,
        first: int,
        last: int,
        rates: np.ndarray,
        draws: np.ndarray | None,
        noise: np.ndarray | None,
    ) -> None:
        """Train on the batches [first, last) of the epoch, perhaps after the call has returned.

        Parameters
        ----------
        first, last
            Counted from 0.  With draws or noise at most
            :attr:`~bnstudy.engines.lockstep.random_draws.DrawCounts.batches_at_once`.
        rates
            float32 (last - first,): the learning rates.
        draws
            With dropout, the uniform numbers of its masks: float32 (K, count), for
            each batch and each dropout layer (images, units).
        noise
            With noisy BN: float32 (K, count), for each batch and each normalization
            layer the scales, then the shifts, (images, channels) each.
        """

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of the batches since the last call, (batches, K) each.

        Mean losses before the step, and numbers of correctly classified images.
        """

    def evaluate(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return mean loss and accuracy over images by running statistics, (K,) each."""

    def evaluate_population(
        self, population: Images, images: Images
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the same by the statistics of a population; the running ones are restored."""

    def phase_seconds(self) -> dict[str, float]:
        """Return the time in each phase of training, as far as the program can tell."""

    def take(self, lane: int, net: nn.Module) -> None:
        """Copy a seed's parameters and running moments into a network."""

    def close(self) -> None:
        """Free the memory; the object must not be used afterwards."""


MakeProgram = Callable[[RunConfig, Sequence[nn.Module], Images], Program]


@dataclass
class Lane:
    """Progress of one seed of a stack.

    ``loss``, ``correct`` and ``images`` are sums since the last evaluation point,
    ``last_loss`` is the loss of the last batch.
    """

    seed: int
    observers: Sequence[ScheduledObserver] = ()
    steps: int = 0
    diverged: bool = False
    loss: float = 0.0
    correct: int = 0
    images: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    order_digest: str = ""
    last_loss: float = math.nan

    def add(self, losses: np.ndarray, correct: np.ndarray, sizes: Sequence[int]) -> None:
        """Count batches up to the first whose loss is not finite."""
        for batch_loss, batch_correct, size in zip(losses, correct, sizes, strict=True):
            if self.diverged or not math.isfinite(batch_loss):
                self.diverged = True
                return
            self.steps += 1
            self.loss += float(batch_loss) * size
            self.correct += int(batch_correct)
            self.images += size
            self.last_loss = float(batch_loss)

    def training_score(self) -> tuple[float, float]:
        """Return mean loss and accuracy since the last call, and start new sums."""
        score = self.loss / self.images, self.correct / self.images
        self.loss, self.correct, self.images = 0.0, 0, 0
        return score


def train_stack(
    config: RunConfig,
    seeds: Sequence[int],
    splits: Splits,
    *,
    device: str = "cpu",
    observers: Sequence[Sequence[ScheduledObserver]] = (),
) -> list[Record]:
    """Train one arm with several seeds in lockstep.

    Parameters
    ----------
    config
        The arm.
    seeds
        On the CPU any number: as many at once as the kernel has lanes. Elsewhere all at
        once, as many as there is memory for.
    splits
        The images of ``bnstudy.data.split(dataset, config)``.
    device
        ``cpu`` for the compiled kernel, another torch device for stacked tensors.
    observers
        For each seed its observers, called at their steps with a copy of the
        network on the CPU.

    Returns
    -------
    list of Record
        One per seed, in their order.  A lane that diverges stops where the
        reference would; the others go on.  Times are those of the stack, divided
        by the number of seeds.

    Raises
    ------
    ConfigError
        If the kernel is not available, the engine cannot train such runs, an epoch
        would have a batch of one image and the normalization needs more, or there
        are no seeds.
    """
    if device != "cpu":
        return train_by(partial(Stack, device=device), config, seeds, splits, observers)
    size = lane_count()
    records = []
    for start in range(0, max(1, len(seeds)), size):
        part = slice(start, start + size)
        records += train_by(Kernel, config, seeds[part], splits, observers[part])
    return records


def train_by(
    make: MakeProgram,
    config: RunConfig,
    seeds: Sequence[int],
    splits: Splits,
    observers: Sequence[Sequence[ScheduledObserver]] = (),
) -> list[Record]:
    """Train as :func:`train_stack` does, by a program of the caller's choice."""
    if not seeds:
        raise ConfigError("a stack holds at least 1 seed, got none")
    device = "cpu" if make is Kernel else "other"
    if reason := unsupported(config, shape=splits.shape, classes=splits.classes, device=device):
        raise ConfigError(f"the lockstep engine cannot train this: {reason}")
    clock = PhaseClock()
    n = len(splits.train)
    refuse_lone_image(config, n)
    with clock("building"):
        nets: list[nn.Module] = [build(config, seed, splits) for seed in seeds]
        digests = [digest_weights(net) for net in nets]
        program = make(config, nets, splits.train)
    per_seed = observers or [()] * len(seeds)
    lanes = [Lane(seed, own) for seed, own in zip(seeds, per_seed, strict=True)]
    try:
        _train(program, config, lanes, nets, splits, clock)
        clock.split("training", program.phase_seconds())
        for number, net in enumerate(nets):
            program.take(number, net)
    finally:
        program.close()
    phase_seconds = clock.seconds(runs=len(seeds))
    return [
        Record(
            status="diverged" if lane.diverged else "done",
            steps=lane.steps,
            steps_per_epoch=len(batches(n, config.batch_size)),
            curve=curve_frame(lane.rows),
            norms=norm_frame(net),
            weights_digest=weights_digest,
            order_digest=lane.order_digest,
            phase_seconds=phase_seconds,
        )
        for lane, net, weights_digest in zip(lanes, nets, digests, strict=True)
    ]


def _train(
    program: Program,
    config: RunConfig,
    lanes: list[Lane],
    nets: list[nn.Module],
    splits: Splits,
    clock: PhaseClock,
) -> None:
    """Train all epochs."""
    n = len(splits.train)
    slices = batches(n, config.batch_size)
    orders = [epoch_orders(stream(lane.seed, "order"), n, config) for lane in lanes]
    draws = RandomDraws(config, [lane.seed for lane in lanes], nets)
    ends = evaluation_steps(len(slices), config.evaluations_per_epoch)
    observed = {s for lane in lanes for each in lane.observers for s in each.steps(len(slices))}
    if 0 in observed:
        with clock("probes"):
            _observe(program, config, lanes, nets, splits, Step(0, len(slices)), None)
    for epoch in range(config.epochs):
        with clock("drawing"):
            drawn = [next(each) for each in orders]
        for lane, order in zip(lanes, drawn, strict=True):
            lane.order_digest = lane.order_digest or digest_order(order)
        program.start_epoch(np.stack([order.numpy() for order in drawn]))
        # the program runs without a stop up to the next evaluation or observed step
        within = {count - epoch * len(slices) for count in observed} & set(range(1, len(slices)))
        stops = sorted(within.union(ends))
        for first, last in zip([0, *stops[:-1]], stops, strict=True):
            for start in range(first, last, draws.counts.batches_at_once):
                stop = min(last, start + draws.counts.batches_at_once)
                sizes = [where.stop - where.start for where in slices[start:stop]]
                steps = [Step(epoch * len(slices) + b, len(slices)) for b in range(start, stop)]
                rates = np.array([config.rate_at(step) for step in steps], np.float32)
                with clock("drawing"):
                    numbers = draws.draw(sizes)
                with clock("training"):
                    program.train(start, stop, rates, *numbers)
            with clock("training"):  # waits for a program that trains in the background
                losses, correct = program.scores()
            sizes = [where.stop - where.start for where in slices[first:last]]
            for number, lane in enumerate(lanes):
                lane.add(losses[:, number], correct[:, number], sizes)
            if all(lane.diverged for lane in lanes):
                return
            step = Step(epoch * len(slices) + last, len(slices))
            if step.count in observed:
                batch = [order[slices[last - 1]] for order in drawn]
                with clock("probes"):
                    _observe(program, config, lanes, nets, splits, step, batch)
            if last in ends:
                images_seen = epoch * n + slices[last - 1].stop
                _evaluate(program, config, lanes, nets[0], splits, step, images_seen, clock)


def _observe(
    program: Program,
    config: RunConfig,
    lanes: list[Lane],
    nets: list[nn.Module],
    splits: Splits,
    step: Step,
    batch: Sequence[torch.Tensor] | None,
) -> None:
    """Call the observers of every lane that has not diverged.

    ``batch`` holds for each lane the indices of the images it last trained on.
    """
    # as in the reference, the optimizer still has the learning rate of the step just made
    before = Step(max(0, step.count - 1), step.per_epoch)
    for number, lane in enumerate(lanes):
        if lane.diverged:
            continue
        program.take(number, nets[number])
        optimizer = torch.optim.SGD(nets[number].parameters(), lr=config.rate_at(before))
        where = torch.empty(0, dtype=torch.int64) if batch is None else batch[number]
        images, labels = scale(splits.train.images[where]), splits.train.labels[where]
        training = Training(nets[number], optimizer, images, labels, lane.last_loss)
        for observer in lane.observers:
            if step.count in observer.steps(step.per_epoch):
                observer(step, training)


def _evaluate(
    program: Program,
    config: RunConfig,
    lanes: list[Lane],
    net: nn.Module,
    splits: Splits,
    step: Step,
    images_seen: int,
    clock: PhaseClock,
) -> None:
    """Append a row to every lane that has not diverged; ``net`` is any network of the arm."""
    no_score = np.full(len(lanes), np.nan), np.full(len(lanes), np.nan)
    validation = test = population = no_score
    with clock("readings"):
        if len(splits.validation):
            validation = program.evaluate(splits.validation)
        if config.tests_at(step):
            test = population = program.evaluate(splits.test)
    if config.tests_at(step) and any(has_running_statistics(layer) for layer in net.modules()):
        with clock("population readings"):
            population = program.evaluate_population(splits.population, splits.test)
    for number, lane in enumerate(lanes):
        if lane.diverged:
            continue
        measured = [
            float(values[number]) for pair in (validation, test, population) for values in pair
        ]
        values = (step.count, step.epoch, images_seen, *lane.training_score(), *measured)
        lane.rows.append(dict(zip(CURVE_COLUMNS, values, strict=True)))
