"""Training images per second of stacked seeds on a GPU.

LeNet with batch normalization and without, at five batch sizes and three numbers of seeds.
An epoch is timed from drawing the orders to reading the scores; sending the data, recording
the graphs and evaluation are left out.  After a first epoch that is not counted come
``--repeats`` of them, and the table has their median and range.  A cell for which there is no
memory says so.

Run it: ``make bench-gpu``, which first runs the tests of the stacked tensors, and then tests
whether final accuracies are those of the reference; or ``python -m benchmarks.gpu`` alone.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch

from bnstudy import data
from bnstudy.config import RunConfig, stream
from bnstudy.engines.lockstep.gpu import Stack
from bnstudy.networks import build

BATCH_SIZES = (4, 16, 64, 256, 1024)
SEEDS = (16, 64, 256)
NORMS = ("bn", "none")


def rates(
    dataset: data.Dataset,
    norm: str,
    batch_size: int,
    seeds: int,
    options: argparse.Namespace,
) -> list[float]:
    """Train epochs; return the images per second of each but the first."""
    n = min(options.steps * batch_size, len(dataset.train_images))
    config = RunConfig(norm=norm, batch_size=batch_size, train_split="all", train_images=n)
    train = data.split(dataset, config).train
    orders = [stream(seed, "order") for seed in range(seeds)]
    stack = Stack(
        config, [build(config, seed) for seed in range(seeds)], train, device=options.device
    )
    steps = len(data.batches(len(train), batch_size))
    found = []
    for _ in range(options.repeats + 1):
        started = time.perf_counter()
        stack.start_epoch(np.stack([rng.permutation(len(train)) for rng in orders]))
        stack.train(0, steps, np.full(steps, 0.1, np.float32))
        losses, _ = stack.scores()  # waits
        found.append(losses.shape[1] * len(train) / (time.perf_counter() - started))
    stack.close()
    return found[1:]


def cell(found: Sequence[float]) -> str:
    """Return median and range of rates, in thousands."""
    return (
        f"{statistics.median(found) / 1e3:,.0f}k ({min(found) / 1e3:,.0f}-{max(found) / 1e3:,.0f})"
    )


def main() -> None:
    """Measure and print the table, a line as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400, help="of an epoch, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--data", default="auto")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("error: there is no CUDA device here")
    name = torch.cuda.get_device_name(options.device) if on_gpu else options.device
    print(f"Training images/s, median and range of {options.repeats} epochs; {name}, ", end="")
    print(f"torch {torch.__version__}\n")
    print("| norm | batch |" + "".join(f" {seeds} seeds |" for seeds in options.seeds))
    print("|---|---|" + "---|" * len(options.seeds))
    dataset = data.load(options.data)
    for norm in NORMS:
        for batch_size in options.batch_sizes:
            cells = []
            for seeds in options.seeds:
                try:
                    cells.append(cell(rates(dataset, norm, batch_size, seeds, options)))
                except torch.cuda.OutOfMemoryError:
                    cells.append("no memory")
                if on_gpu:
                    torch.cuda.empty_cache()
            print(f"| {norm} | {batch_size} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
