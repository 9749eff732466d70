"""Training a stack: up to sixteen seeds of one arm in one program.

Same streams and same records as the reference trainer, which it shares no code
with but what lies below both; the kernel does the arithmetic.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import Images, Splits, batches, epoch_order, evaluation_steps
from bnstudy.errors import ConfigError
from bnstudy.lenet import LAYERS, lenet, norm_layers, refuse_lone_image
from bnstudy.lockstep.kernel import LANES, Kernel, unsupported
from bnstudy.norm import NoisyBatchNorm
from bnstudy.record import (
    CURVE_COLUMNS,
    Record,
    curve_frame,
    digest_order,
    digest_weights,
    norm_frame,
)

UNITS = [LAYERS[name][2] for name in ("fc1", "fc2")]
DRAWN_AT_ONCE = 1 << 20  # random numbers of a lane for one call of the kernel: 4 MB


@dataclass
class Lane:
    """One seed of a stack, as far as it has come.

    ``loss`` and ``correct`` are sums since the last evaluation point.
    """

    seed: int
    steps: int = 0
    diverged: bool = False
    loss: float = 0.0
    correct: int = 0
    images: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    order_digest: str = ""

    def add(self, losses: np.ndarray, correct: np.ndarray, sizes: Sequence[int]) -> None:
        """Count batches up to the first whose loss is not finite."""
        for loss, right, size in zip(losses, correct, sizes, strict=True):
            if self.diverged or not math.isfinite(loss):
                self.diverged = True
                return
            self.steps += 1
            self.loss += float(loss) * size
            self.correct += int(right)
            self.images += size

    def training_score(self) -> tuple[float, float]:
        """Return mean loss and accuracy since the last call."""
        score = self.loss / self.images, self.correct / self.images
        self.loss, self.correct, self.images = 0.0, 0, 0
        return score


def train_stack(config: RunConfig, seeds: Sequence[int], splits: Splits) -> list[Record]:
    """Train one arm with several seeds in lockstep.

    Parameters
    ----------
    config
        The arm.
    seeds
        1 to 16 of them.
    splits
        The images of ``bnstudy.data.split(dataset, config)``.

    Returns
    -------
    list of Record
        One a seed, in their order.  A lane that diverges stops where the
        reference would; the others go on.  Times are those of the stack,
        divided by its seeds.

    Raises
    ------
    ConfigError
        If the kernel is not available or cannot train such runs, or an epoch
        would hold a batch of one image and the normalization needs more.
    """
    if not 1 <= len(seeds) <= LANES:
        raise ConfigError(f"a stack holds 1 to {LANES} seeds, got {len(seeds)}")
    if reason := unsupported(config):
        raise ConfigError(f"the lockstep engine cannot train this: {reason}")
    started = time.perf_counter()
    n = len(splits.train)
    refuse_lone_image(config, n)
    nets: list[nn.Module] = [lenet(config, seed) for seed in seeds]
    digests = [digest_weights(net) for net in nets]
    lanes = [Lane(seed) for seed in seeds]
    kernel = Kernel(config, min(config.batch_size, n), nets)
    try:
        train_seconds = _train(kernel, config, lanes, nets, splits)
        for number, net in enumerate(nets):
            kernel.take(number, net)
    finally:
        kernel.close()
    wall_seconds = time.perf_counter() - started
    return [
        Record(
            status="diverged" if lane.diverged else "done",
            steps=lane.steps,
            steps_per_epoch=len(batches(n, config.batch_size)),
            curve=curve_frame(lane.rows),
            norms=norm_frame(net),
            weights_digest=weights_digest,
            order_digest=lane.order_digest,
            train_seconds=train_seconds / len(seeds),
            wall_seconds=wall_seconds / len(seeds),
        )
        for lane, net, weights_digest in zip(lanes, nets, digests, strict=True)
    ]


def _train(
    kernel: Kernel, config: RunConfig, lanes: list[Lane], nets: list[nn.Module], splits: Splits
) -> float:
    """Train all epochs; return the seconds spent in training steps."""
    n, seconds = len(splits.train), 0.0
    slices = batches(n, config.batch_size)
    images, labels = arrays(splits.train)
    orders = [stream(lane.seed, "order") for lane in lanes]
    chance = Chance(config, [lane.seed for lane in lanes], nets)
    ends = evaluation_steps(len(slices), config.evaluations_per_epoch)
    for epoch in range(config.epochs):
        drawn = [epoch_order(rng, n) for rng in orders]
        for lane, order in zip(lanes, drawn, strict=True):
            lane.order_digest = lane.order_digest or digest_order(order)
        orders_of_lanes = _padded(np.stack([order.numpy() for order in drawn]))
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            before = time.perf_counter()
            for start in range(first, last, chance.batches_at_once):
                stop = min(last, start + chance.batches_at_once)
                sizes = [where.stop - where.start for where in slices[start:stop]]
                steps = [Step(epoch * len(slices) + b, len(slices)) for b in range(start, stop)]
                rates = np.array([[config.rate_at(step)] * LANES for step in steps], np.float32)
                losses, correct = kernel.train(
                    images, labels, orders_of_lanes, start, stop, rates, *chance.draw(sizes)
                )
                for number, lane in enumerate(lanes):
                    lane.add(losses[:, number], correct[:, number], sizes)
            seconds += time.perf_counter() - before
            if all(lane.diverged for lane in lanes):
                return seconds
            step = Step(epoch * len(slices) + last, len(slices))
            _evaluate(kernel, lanes, splits, step, epoch * n + slices[last - 1].stop)
    return seconds


class Chance:
    """What the reference draws while it trains, drawn from the same streams in the same order.

    Parameters
    ----------
    config
        The arm.
    seeds
        Of the lanes.
    nets
        Of the lanes; noisy layers have their streams.
    """

    def __init__(self, config: RunConfig, seeds: Sequence[int], nets: Sequence[nn.Module]) -> None:
        # the dropped layers in order, as in bnstudy.lenet: after fc1, unless only the last, and fc2
        units = UNITS[1:] if config.dropout_placement == "after-last-norm" else UNITS
        self._dropped = sum(units) if config.dropout else 0
        self._dropout = [stream(seed, "dropout") for seed in seeds]
        layers = [list(norm_layers(net).values()) for net in nets]
        self._noisy = [[x for x in each if isinstance(x, NoisyBatchNorm)] for each in layers]
        self._noise = 2 * sum(layer.num_features for layer in self._noisy[0])
        numbers = config.batch_size * max(self._dropped, self._noise)
        self.batches_at_once = max(1, DRAWN_AT_ONCE // numbers) if numbers else sys.maxsize

    def draw(self, sizes: Sequence[int]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Draw for batches of these sizes; return ``draws`` and ``noise`` of the kernel."""
        draws = noise = None
        if self._dropped:
            # one call gives the numbers of one call for each batch and layer
            draws = np.empty((LANES, self._dropped * sum(sizes)), np.float32)
            for row, rng in zip(draws, self._dropout, strict=False):
                rng.random(out=row, dtype=np.float32)
            draws[len(self._dropout) :] = draws[0]
        if self._noise:
            drawn = [
                np.concatenate(
                    [part.ravel() for n in sizes for layer in each for part in layer.draw(n)]
                )
                for each in self._noisy
            ]
            noise = _padded(np.stack(drawn))
        return draws, noise


def arrays(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels as the kernel takes them: uint8, contiguous."""
    return (
        np.ascontiguousarray(images.images.numpy()),
        np.ascontiguousarray(images.labels.numpy().astype(np.uint8)),
    )


def _padded(lanes: np.ndarray) -> np.ndarray:
    """Repeat the first lane until there are sixteen."""
    return np.ascontiguousarray(lanes[[i if i < len(lanes) else 0 for i in range(LANES)]])


def _evaluate(
    kernel: Kernel, lanes: list[Lane], splits: Splits, step: Step, images_seen: int
) -> None:
    """Append a row to every lane that is still training."""
    nothing = np.full(LANES, np.nan), np.full(LANES, np.nan)
    validation = test = population = nothing
    if len(splits.validation):
        validation = kernel.evaluate(*arrays(splits.validation))
    if step.ends_epoch:
        test_images = arrays(splits.test)
        test = kernel.evaluate(*test_images)
        population = kernel.evaluate_population(arrays(splits.population)[0], *test_images)
    for number, lane in enumerate(lanes):
        if lane.diverged:
            continue
        measured = [
            float(values[number]) for pair in (validation, test, population) for values in pair
        ]
        values = (step.count, step.epoch, images_seen, *lane.training_score(), *measured)
        lane.rows.append(dict(zip(CURVE_COLUMNS, values, strict=True)))
