"""Do both engines end at the same accuracy?  Two one-sided tests over sixteen seeds.

Rounding differs between the engines, and training amplifies it, so single runs end at
other accuracies; what must agree is their mean.  For each arm the final validation
accuracies of both engines are paired by seed, and the engines are called equivalent if the
90 % confidence interval of the mean difference lies within 0.5 percentage points of zero,
which is two one-sided t tests at 5 % (Schuirmann 1987).

Run it: ``python -m benchmarks.equivalence`` (about 15 minutes on 2 cores).  With ``--device cuda``
the lockstep engine trains on a GPU; the reference trains on the cpu as ever.
"""

import argparse
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch

from bnstudy import data
from bnstudy.config import RunConfig
from bnstudy.engines.lockstep import train_stack
from bnstudy.engines.reference import train
from bnstudy.inference import difference_interval
from bnstudy.runs.processes import worker_environment
from bnstudy.runs.runner import cores

MARGIN = 0.005  # of accuracy
ARMS = {
    "none": {"norm": "none", "learning_rate": 0.9},
    "bn": {"norm": "bn", "learning_rate": 0.3},
    "bn+dropout": {"norm": "bn", "dropout": 0.5, "learning_rate": 0.3},
}
BATCH_SIZES = (256, 16)


def final_accuracy(
    source: str, device: str, engine: str, config: RunConfig, seeds: list[int]
) -> list[float]:
    """Train; return the last validation accuracy of each seed."""
    torch.set_num_threads(1)
    splits = data.split(data.load(source), config)
    if engine == "lockstep":
        records = train_stack(config, seeds, splits, device=device)
    else:
        records = [train(config, seed, splits) for seed in seeds]
    return [float(record.curve["validation_accuracy"].iloc[-1]) for record in records]


def main() -> None:
    """Train, test, print the table; exit with 1 if an arm is not equivalent."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--train-images", type=int, default=0, help="0: all")
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--data", default="auto")
    parser.add_argument("--device", default="cpu", help="of the lockstep engine")
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    found: dict[tuple[str, int], tuple[Future[list[float]], list[Future[list[float]]]]] = {}
    with (
        worker_environment(),
        ProcessPoolExecutor(options.processes, get_context("spawn")) as pool,
    ):
        for batch_size in BATCH_SIZES:
            for name, arm in ARMS.items():
                config = RunConfig(
                    **arm,
                    batch_size=batch_size,
                    epochs=options.epochs,
                    train_images=options.train_images,
                    evaluations_per_epoch=1,
                    test_images=10,
                    population_images=10,
                )
                task = final_accuracy, options.data, options.device
                single = [pool.submit(*task, "reference", config, [seed]) for seed in seeds]
                found[name, batch_size] = pool.submit(*task, "lockstep", config, seeds), single
    print(
        "| arm | batch | reference | lockstep | difference (90 % interval) | largest | equivalent |"
    )
    print("|---|---|---|---|---|---|---|")
    failed = False
    for (name, batch_size), (stack, single) in found.items():
        ours = np.array(stack.result())
        reference = np.concatenate([each.result() for each in single])
        between = difference_interval(ours, reference, confidence=0.90)
        equivalent = between.low > -MARGIN and between.high < MARGIN
        failed |= not equivalent
        mean, low, high = (100 * x for x in (between.estimate, between.low, between.high))
        print(
            f"| {name} | {batch_size} | {reference.mean():.2%} | {ours.mean():.2%} "
            f"| {mean:+.3f} ({low:+.3f} to {high:+.3f}) | {100 * abs(ours - reference).max():.2f} "
            f"| {'yes' if equivalent else 'NO'} |"
        )
    print("\nDifferences in percentage points; largest: of a single seed.")
    sys.exit(failed)


if __name__ == "__main__":
    main()
