"""Which learning rate needs the fewest steps at each batch size, on pilot seeds?

Prints the rates that ``experiments/batch_speed.py`` holds, and the medians they were chosen
by.  Nothing is stored, and no claim uses these seeds.

Run it: ``python -m experiments.tuning`` (about 10 minutes on 2 cores).
"""

from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
import torch

from bnstudy.data import load, split
from bnstudy.lockstep import LANES, train_stack
from bnstudy.study import PROFILES
from experiments.batch_speed import LABELS, SIZES, TARGET, settings

RATES = (0.05, 0.15, 0.45, 1.35)
SEEDS = range(1_000, 1_000 + LANES)


def median_steps(arm: tuple[str, int, float]) -> float:
    """Return the median over pilot seeds of steps to the target; infinite where most miss it."""
    torch.set_num_threads(1)
    config = settings(PROFILES["standard"], *arm)
    steps = []
    for record in train_stack(config, SEEDS, split(load(), config)):
        there = record.curve[record.curve["validation_accuracy"] >= TARGET]
        steps.append(np.inf if there.empty else there["step"].iloc[0])
    return float(np.median(steps))


def main() -> None:
    """Print the medians, and the best rate of each kind and batch size."""
    arms = list(product(LABELS, SIZES["standard"], RATES))
    with ProcessPoolExecutor(max_workers=2) as workers:
        found = dict(zip(arms, workers.map(median_steps, arms), strict=True))
    print("norm  batch " + " ".join(f"{rate:>8g}" for rate in RATES) + "  best")
    for norm, size in product(LABELS, SIZES["standard"]):
        medians = [found[norm, size, rate] for rate in RATES]
        best = RATES[int(np.argmin(medians))]
        print(f"{norm:<5} {size:>5} " + " ".join(f"{m:>8g}" for m in medians) + f"  {best:g}")


if __name__ == "__main__":
    main()
