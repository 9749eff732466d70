"""The reference trainer: one network, one plain loop, everything else an observer.

Obviously right before fast; the lockstep engine is tested against it.  Images
are kept in memory as bytes and scaled batch by batch, randomness comes from the
run's own streams, and no gradient comes from validation or test images.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import Images, Splits, batches, epoch_orders, evaluation_steps, scale
from bnstudy.engines.observer import Observer, Training
from bnstudy.engines.optimizers import make_optimizer
from bnstudy.engines.phases import PhaseClock
from bnstudy.engines.run_record import (
    CURVE_COLUMNS,
    Record,
    curve_frame,
    digest_order,
    digest_weights,
    norm_frame,
)
from bnstudy.networks import build, norm_layers, refuse_lone_image
from bnstudy.networks.norm import has_running_statistics, set_running_statistics

EVALUATION_BATCH = 250  # stays in the cache; the result does not depend on it


class Score(NamedTuple):
    """Mean cross-entropy and share of correct images (0..1) over some images."""

    loss: float
    accuracy: float


NO_SCORE = Score(math.nan, math.nan)


@dataclass
class _RunningScore:
    """Sums since the last evaluation point: loss, correct images, images."""

    loss: float = 0.0
    correct: int = 0
    images: int = 0

    def add(self, loss: float, correct: int, images: int) -> None:
        self.loss += loss * images
        self.correct += correct
        self.images += images

    def score(self) -> Score:
        return Score(self.loss / self.images, self.correct / self.images)


def train(
    config: RunConfig,
    seed: int,
    splits: Splits,
    *,
    device: str = "cpu",
    observers: Sequence[Observer] = (),
) -> Record:
    """Train one network and record it.

    Parameters
    ----------
    config, seed
        Determine the run.
    splits
        The images of ``bnstudy.data.split(dataset, config)``.
    device
        A torch device, such as ``cpu`` or ``cuda``.
    observers
        Called in turn with the :class:`~bnstudy.config.Step` and the
        :class:`~bnstudy.engines.observer.Training`, before the first optimizer step
        and after every one.

    Returns
    -------
    Record
        Also of a run that diverged: training stops at the first loss that is
        not finite, and the record holds all measurements until then.

    Raises
    ------
    ConfigError
        If an epoch would have a batch of one image and the normalization needs
        more, or a setting is impossible.
    """
    clock = PhaseClock()
    n = len(splits.train)
    slices = batches(n, config.batch_size)
    refuse_lone_image(config, n)
    with clock("building"):
        net = build(config, seed, splits).to(device)
        weights_digest = digest_weights(net)
        optimizer = make_optimizer(config, net.parameters())
    orders, order_digest = epoch_orders(stream(seed, "order"), n, config), ""
    evaluate_at = set(evaluation_steps(len(slices), config.evaluations_per_epoch))
    step, sums = Step(0, len(slices)), _RunningScore()
    rows: list[dict[str, float]] = []
    status = "done"
    no_batch = scale(splits.train.images[:0]).to(device), splits.train.labels[:0].to(device)
    with clock("probes"):
        for observer in observers:
            observer(step, Training(net, optimizer, *no_batch, math.nan))

    for _ in range(config.epochs):
        with clock("drawing"):
            order = next(orders)
        order_digest = order_digest or digest_order(order)
        for index, where in enumerate(slices, start=1):
            with clock("gathering"):
                batch = order[where]
                images = scale(splits.train.images[batch]).to(device)
                labels = splits.train.labels[batch].to(device)
            set_learning_rate(optimizer, config.rate_at(step))
            if 0 < config.freeze_norm_step <= step.count:
                for layer in norm_layers(net).values():  # again: an evaluation resets the mode
                    layer.eval()
            with clock("forward"):
                logits = net(images)  # (N, C, H, W) -> (N, classes)
                loss = F.cross_entropy(logits, labels)
                loss_value = loss.item()  # before the step, which would spread a NaN
            if not math.isfinite(loss_value):
                status = "diverged"
                break
            with clock("backward"):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            step = Step(step.count + 1, step.per_epoch)
            correct = int((logits.argmax(dim=1) == labels).sum())
            sums.add(loss_value, correct, len(batch))
            with clock("probes"):
                for observer in observers:
                    observer(step, Training(net, optimizer, images, labels, loss_value))
            if index in evaluate_at:
                rows.append(_curve_row(net, splits, step, config, sums, clock))
                sums = _RunningScore()
        if status == "diverged":
            break

    return Record(
        status=status,
        steps=step.count,
        steps_per_epoch=step.per_epoch,
        curve=curve_frame(rows),
        norms=norm_frame(net),
        weights_digest=weights_digest,
        order_digest=order_digest,
        phase_seconds=clock.seconds(),
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def evaluate(net: nn.Module, images: Images, *, batch_size: int = EVALUATION_BATCH) -> Score:
    """Return loss and accuracy of a network over all of some images.

    In evaluation mode; the mode is restored afterwards, buffers do not change
    and no gradient is kept.

    Parameters
    ----------
    net
        From images (N, C, H, W) to logits (N, classes).
    images
        At least one.
    batch_size
        Images per forward pass: bounds the memory, does not change the result.
    """
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    loss, correct = 0.0, 0
    for where in batches(len(images), batch_size):
        logits = net(scale(images.images[where]).to(device))
        labels = images.labels[where].to(device)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(dim=1) == labels).sum())
    net.train(was_training)
    return Score(loss / len(images), correct / len(images))


@contextmanager
def population_statistics(net: nn.Module, images: Images) -> Iterator[None]:
    """Replace a network's running statistics by those of a population, within the context.

    Each normalization layer gets the mean and biased variance of its input over
    all the images at once, with dropout off and the layers before it already
    normalizing by their own population statistics: the limit of an infinitely
    long running average at these weights, for large batches (compare the precise
    BN of Wu & Johnson 2021).  Afterwards the running statistics and the mode are
    restored bit by bit.

    Parameters
    ----------
    net
        Any network with layers of :mod:`bnstudy.networks.norm` or torch's batch norms.
    images
        The population, usually of the training split.
    """
    layers = [layer for layer in net.modules() if has_running_statistics(layer)]
    before = [{name: tensor.clone() for name, tensor in layer.named_buffers()} for layer in layers]
    was_training = net.training
    handles: list[RemovableHandle] = []
    try:
        # set before the layer itself runs, so one forward pass does for all layers
        handles += [layer.register_forward_pre_hook(_take_statistics) for layer in layers]
        net.eval()
        device = next(net.parameters()).device
        with torch.no_grad():
            net(scale(images.images).to(device))
        for handle in handles:
            handle.remove()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, buffers in zip(layers, before, strict=True):
            for name, tensor in layer.named_buffers():
                tensor.copy_(buffers[name])
        net.train(was_training)


def _take_statistics(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    (X,) = inputs  # (N, C) or (N, C, H, W)
    axes = [axis for axis in range(X.dim()) if axis != 1]
    var, mean = torch.var_mean(X, axes, correction=0)  # (N, C, ...) -> (C,)
    set_running_statistics(layer, mean, var)


def _curve_row(
    net: nn.Module,
    splits: Splits,
    step: Step,
    config: RunConfig,
    sums: _RunningScore,
    clock: PhaseClock,
) -> dict[str, float]:
    train = sums.score()
    validation = test = population = NO_SCORE
    with clock("readings"):
        if len(splits.validation):
            validation = evaluate(net, splits.validation)
        if config.tests_at(step):
            test = population = evaluate(net, splits.test)
    if config.tests_at(step) and any(has_running_statistics(each) for each in net.modules()):
        with clock("population readings"), population_statistics(net, splits.population):
            population = evaluate(net, splits.test)
    # the last batch of an epoch may be smaller
    epoch, within = divmod(step.count, step.per_epoch)
    images = epoch * len(splits.train) + min(within * config.batch_size, len(splits.train))
    values = (step.count, step.epoch, images, *train, *validation)
    tests = (test.loss, test.accuracy, population.loss, population.accuracy)
    return dict(zip(CURVE_COLUMNS, (*values, *tests), strict=True))
