"""Which learning rates suit the arms of two experiments, on pilot seeds?

Prints the rates of ``batch_speed.py`` and ``final.py``, and the medians of steps and means of
errors they were chosen by.  Nothing is stored, and no claim uses these seeds.

Cost: about 15 minutes on 2 cores.

Command: ``python -m bnstudy.experiments.tuning``
"""

from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
import pandas as pd
import torch

from bnstudy.config import RunConfig
from bnstudy.data import load, split
from bnstudy.engines.lockstep import train_stack
from bnstudy.plan import PILOT_SEED, PROFILES
from bnstudy.report import text

from . import batch_speed, final

RATES = (0.05, 0.15, 0.45, 1.35)
SEEDS = range(PILOT_SEED, PILOT_SEED + 16)
NORMS = ("none", "bn")


def curves(config: RunConfig) -> list[pd.DataFrame]:
    """Return the curves of the pilot seeds."""
    torch.set_num_threads(1)
    return [record.curve for record in train_stack(config, SEEDS, split(load(), config))]


def median_steps(config: RunConfig) -> float:
    """Return the median of steps to the target of batch-speed; infinite where most miss it."""
    steps = []
    for curve in curves(config):
        reached = curve[curve["validation_accuracy"] >= batch_speed.TARGET]
        steps.append(np.inf if reached.empty else reached["step"].iloc[0])
    return float(np.median(steps))


def mean_error(config: RunConfig) -> float:
    """Return the mean error on validation images at the end; a median would hide dead networks."""
    return float(np.mean([1 - curve["validation_accuracy"].iloc[-1] for curve in curves(config)]))


def main() -> None:
    """Print the table, and the best rate of each row."""
    standard = PROFILES["standard"]
    speed = {
        f"steps {norm} B={size}": [batch_speed.settings(standard, norm, size, r) for r in RATES]
        for norm, size in product(NORMS, batch_speed.SIZES["standard"])
    }
    error = {
        f"error {norm} ReLU": [final.relu_config(standard, norm, r) for r in RATES]
        for norm in NORMS
    }
    with ProcessPoolExecutor(max_workers=2) as workers:
        print(f"{'':<18}" + "".join(f"{text.rate(rate):>9}" for rate in RATES) + "  best")
        for rows, function in ((error, mean_error), (speed, median_steps)):
            found = {name: workers.map(function, configs) for name, configs in rows.items()}
            for name, medians in found.items():
                values = list(medians)
                best = RATES[int(np.argmin(values))]
                cells = "".join(f"{text.significant(value):>9}" for value in values)
                print(f"{name:<18}{cells}  {text.rate(best)}", flush=True)


if __name__ == "__main__":
    main()
