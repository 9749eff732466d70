"""Training a stack: up to sixteen seeds of one arm in one program.

Same streams and same records as the reference trainer, which it shares no code
with but what lies below both; the kernel does the arithmetic.
"""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import Images, Splits, batches, epoch_order, evaluation_steps
from bnstudy.errors import ConfigError
from bnstudy.lenet import lenet, refuse_lone_image
from bnstudy.lockstep.kernel import LANES, UNITS, Kernel, unsupported
from bnstudy.record import (
    CURVE_COLUMNS,
    Record,
    curve_frame,
    digest_order,
    digest_weights,
    norm_frame,
)


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
    nets = [lenet(config, seed) for seed in seeds]
    digests = [digest_weights(net) for net in nets]
    lanes = [Lane(seed) for seed in seeds]
    kernel = Kernel(config, min(config.batch_size, n), nets)
    try:
        train_seconds = _train(kernel, config, lanes, splits)
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


def _train(kernel: Kernel, config: RunConfig, lanes: list[Lane], splits: Splits) -> float:
    """Train all epochs; return the seconds spent in training steps."""
    n, seconds = len(splits.train), 0.0
    slices = batches(n, config.batch_size)
    sizes = [where.stop - where.start for where in slices]
    images, labels = arrays(splits.train)
    orders = [stream(lane.seed, "order") for lane in lanes]
    dropout = [stream(lane.seed, "dropout") for lane in lanes]
    ends = evaluation_steps(len(slices), config.evaluations_per_epoch)
    for epoch in range(config.epochs):
        drawn = [epoch_order(rng, n) for rng in orders]
        for lane, order in zip(lanes, drawn, strict=True):
            lane.order_digest = lane.order_digest or digest_order(order)
        orders_of_lanes = _padded(np.stack([order.numpy() for order in drawn]))
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            before = time.perf_counter()
            # masks are those of one batch, so with dropout the kernel is called for each
            cuts = range(first, last + 1) if config.dropout else (first, last)
            for start, stop in itertools.pairwise(cuts):
                steps = [Step(epoch * len(slices) + b, len(slices)) for b in range(start, stop)]
                rates = np.array([[config.rate_at(step)] * LANES for step in steps], np.float32)
                masks = _masks(config, dropout, sizes[start]) if config.dropout else (None, None)
                losses, correct = kernel.train(
                    images, labels, orders_of_lanes, start, stop, rates, masks
                )
                for number, lane in enumerate(lanes):
                    lane.add(losses[:, number], correct[:, number], sizes[start:stop])
            seconds += time.perf_counter() - before
            if all(lane.diverged for lane in lanes):
                return seconds
            step = Step(epoch * len(slices) + last, len(slices))
            _evaluate(kernel, lanes, splits, step, epoch * n + slices[last - 1].stop)
    return seconds


def arrays(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels as the kernel takes them: uint8, contiguous."""
    return (
        np.ascontiguousarray(images.images.numpy()),
        np.ascontiguousarray(images.labels.numpy().astype(np.uint8)),
    )


def _padded(lanes: np.ndarray) -> np.ndarray:
    """Repeat the first lane until there are sixteen."""
    return np.ascontiguousarray(lanes[[i if i < len(lanes) else 0 for i in range(LANES)]])


def _masks(
    config: RunConfig, streams: list[np.random.Generator], size: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Draw each lane's masks of one batch, layer by layer as the reference does."""
    last_only = config.dropout_placement == "after-last-norm"
    drawn = [
        [
            rng.random((size, units), dtype=np.float32) >= config.dropout
            for name, units in UNITS.items()
            if name == "dropout4" or not last_only
        ]
        for rng in streams
    ]
    stacked = [
        np.ascontiguousarray(np.moveaxis(_padded(np.stack(layer)), 0, -1)).astype(np.uint8)
        for layer in zip(*drawn, strict=True)
    ]
    return (None, stacked[0]) if last_only else (stacked[0], stacked[1])


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
