"""Training images per second at every batch size: lockstep, torch eager and the notes' loop.

Every contestant uses two processes of one thread, or as many as ``--processes``
says; the notes' loop has its four DataLoader workers.  Contestants take turns,
so that a slow minute of the machine hits all of them.  Loading data, compiling
and evaluation are left out everywhere; drawing orders and gathering images are
in.  The floor is what the arithmetic alone would take: the floating-point
operations of a training image (1.52 million) at the rate of torch's matrix
product of 1024 x 1024, measured in the same processes, in turn with the rest.

Run it: ``python -m benchmarks.lockstep --repeats 5`` (about 10 minutes on 2 cores).
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.training import notes_loop, torchvision_copy
from bnstudy import data
from bnstudy.config import RunConfig
from bnstudy.lenet import trace
from bnstudy.lockstep import LANES, available, train_stack
from bnstudy.training import train
from bnstudy.workers import worker_environment

BATCH_SIZES = (4, 16, 64, 256, 1024)
NORMS = ("bn", "none")
CONFIG = RunConfig(
    epochs=1,
    learning_rate=0.1,
    validation_images=10,
    test_images=10,
    population_images=10,
    evaluations_per_epoch=1,
)
LOCKSTEP, EAGER, NOTES = "lockstep, 16 seeds a process", "torch eager", "the notes' loop"

_datasets: dict[str, data.Dataset] = {}


def dataset_of(folder: str) -> data.Dataset:
    """Return the images of a folder, read once a process."""
    torch.set_num_threads(1)
    if folder not in _datasets:
        _datasets[folder] = data.load(source="folder", folder=Path(folder))
    return _datasets[folder]


def lockstep_rate(folder: str, norm: str, batch_size: int, process: int) -> float:
    """Train a stack; return images per second."""
    config = CONFIG.replace(norm=norm, batch_size=batch_size, train_images=10_240)
    splits = data.split(dataset_of(folder), config)
    records = train_stack(config, range(LANES * process, LANES * (process + 1)), splits)
    return LANES * len(splits.train) / sum(record.train_seconds for record in records)


def eager_rate(folder: str, norm: str, batch_size: int, process: int) -> float:
    """Train one network by the reference trainer; return images per second."""
    images = 4_096 if batch_size < 64 else 20_480
    config = CONFIG.replace(norm=norm, batch_size=batch_size, train_images=images)
    splits = data.split(dataset_of(folder), config)
    return len(splits.train) / train(config, process, splits).train_seconds


def sgemm_rate(folder: str, norm: str, batch_size: int, process: int) -> float:
    """Multiply matrices; return floating-point operations per second, the best of ten."""
    torch.set_num_threads(1)
    side = 1024
    A = torch.ones(side, side)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        A @ A
        seconds.append(time.perf_counter() - started)
    return 2.0 * side**3 / min(seconds)


def training_flops() -> int:
    """Return the floating-point operations of a training image.

    Forward, gradient by the weights and gradient by the input cost the same;
    the images themselves need no gradient.
    """
    layers = {layer.name: layer.flops for layer in trace(RunConfig())}
    return 3 * sum(layers.values()) - layers["conv1"]


def measure(folder: Path, root: Path, processes: int, repeats: int) -> dict[tuple, list[float]]:
    """Let every contestant run in turn; return the rates of (name, norm, batch size)."""
    rates: dict[tuple, list[float]] = {}
    with (
        worker_environment(),
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):

        def together(task: Callable[..., float], norm: str, batch_size: int) -> float:
            jobs = [
                pool.submit(task, str(folder), norm, batch_size, each) for each in range(processes)
            ]
            return sum(job.result() for job in jobs)

        def notes(norm: str, batch_size: int) -> float:
            word = "scratch" if norm == "bn" else norm
            images = max(1_024, min(10_240, 100 * batch_size))
            return notes_loop(root, 4, batch_size=batch_size, norm=word, images=images)

        together(lockstep_rate, "bn", 256)  # reads the images and compiles the kernel
        for _ in range(repeats):
            rates.setdefault(("sgemm",), []).append(together(sgemm_rate, "", 0))
            for norm in NORMS:
                for batch_size in BATCH_SIZES:
                    found = {
                        LOCKSTEP: together(lockstep_rate, norm, batch_size),
                        EAGER: together(eager_rate, norm, batch_size),
                        NOTES: notes(norm, batch_size),
                    }
                    for name, rate in found.items():
                        rates.setdefault((name, norm, batch_size), []).append(rate)
    return rates


def table(rates: dict[tuple, list[float]]) -> str:
    """Return the table in Markdown: median and range of every contestant and batch size."""
    floor = statistics.median(rates[("sgemm",)]) / training_flops()

    def cell(values: list[float]) -> str:
        low, middle, high = min(values), statistics.median(values), max(values)
        return f"{middle / 1e3:.1f}k ({low / 1e3:.1f}-{high / 1e3:.1f})"

    lines = [
        f"| norm | batch | {LOCKSTEP} | {EAGER} | {NOTES} | x eager | x notes | of the floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for norm in NORMS:
        for batch_size in BATCH_SIZES:
            found = [rates[(name, norm, batch_size)] for name in (LOCKSTEP, EAGER, NOTES)]
            ours, eager, notes = (statistics.median(values) for values in found)
            cells = " | ".join(cell(values) for values in found)
            ratios = f"{ours / eager:.1f} | {ours / notes:.1f} | {ours / floor:.0%}"
            lines.append(f"| {norm} | {batch_size} | {cells} | {ratios} |")
    gigaflops = statistics.median(rates[("sgemm",)]) / 1e9
    lines += [
        "",
        f"Floor: {floor / 1e3:.0f}k images/s: {training_flops():,} operations an image at the "
        f"{gigaflops:.0f} GFLOP/s of sgemm.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # that is the point
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--data", default="auto")
    options = parser.parse_args()
    possible, reason = available()
    if not possible:
        raise SystemExit(f"error: the lockstep engine cannot be had: {reason}")
    dataset = data.load(source=options.data)
    if dataset.is_sample:
        raise SystemExit("error: the benchmark needs the whole data set: --data <folder>")
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        torchvision_copy(dataset, Path(folder))
        raw = Path(folder) / "FashionMNIST" / "raw"
        rates = measure(raw, Path(folder), options.processes, options.repeats)
    print(f"Training images/s of {options.processes} processes, median and range of ", end="")
    print(f"{options.repeats} interleaved repeats; {platform.machine()}, ", end="")
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, load before {load_before:.1f}\n")
    print(table(rates))


if __name__ == "__main__":
    main()
