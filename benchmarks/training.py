"""Training images per second: bnstudy's two engines beside the notes' loop.

All contestants train LeNet with batch normalization, batches of 256, SGD at
0.9, on the same images in the same session, turn by turn, so that a slow
minute of the machine hits all of them.  The notes' loop is their code as
printed: torchvision's data set, ``ToTensor`` per image, a DataLoader with four
worker processes, metrics as Python floats.  Evaluation is left out everywhere.

Run it: ``make bench``, or ``python -m benchmarks.training --repeats 5``.
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

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision import transforms

from bnstudy import data
from bnstudy.config import RunConfig
from bnstudy.lenet import lenet
from bnstudy.lockstep import available, train_stack
from bnstudy.training import train
from bnstudy.workers import worker_environment

CONFIG = RunConfig(
    norm="bn",
    epochs=1,
    train_split="all",
    test_images=1_000,
    population_images=1_000,
    evaluations_per_epoch=1,
)


def write_idx(folder: Path, name: str, array: np.ndarray) -> None:
    """Write one uncompressed IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    (folder / name).write_bytes(header + array.tobytes())


def torchvision_copy(dataset: data.Dataset, root: Path) -> None:
    """Lay the images out as torchvision's FashionMNIST class expects them."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, tensor in (
        ("train-images-idx3-ubyte", dataset.train_images),
        ("train-labels-idx1-ubyte", dataset.train_labels),
        ("t10k-images-idx3-ubyte", dataset.test_images),
        ("t10k-labels-idx1-ubyte", dataset.test_labels),
    ):
        write_idx(folder, name, tensor.numpy())


def notes_loop(
    root: Path, workers: int, *, batch_size: int = 256, norm: str = "scratch", images: int = 60_000
) -> float:
    """Train one epoch over some images as the notes do; return images per second."""
    whole = torchvision.datasets.FashionMNIST(root, train=True, transform=transforms.ToTensor())
    part = torch.utils.data.Subset(whole, range(images))
    loader = torch.utils.data.DataLoader(part, batch_size, shuffle=True, num_workers=workers)
    net = lenet(RunConfig(norm=norm), seed=0)
    optimizer, criterion = torch.optim.SGD(net.parameters(), lr=0.9), nn.CrossEntropyLoss()
    metric = [0.0, 0.0, 0.0]
    started = time.perf_counter()
    for X, y in loader:
        logits = net(X)
        optimizer.zero_grad()
        loss = criterion(logits, y)
        loss.backward()
        optimizer.step()
        correct = float((logits.argmax(1) == y).sum())
        added = (float(loss.detach() * len(y)), correct, float(len(y)))
        metric = [total + more for total, more in zip(metric, added, strict=True)]
    return images / (time.perf_counter() - started)


def _train_alone(dataset_folder: str, seed: int) -> float:
    torch.set_num_threads(1)
    dataset = data.load(source="folder", folder=Path(dataset_folder))
    return train(CONFIG, seed, data.split(dataset, CONFIG)).train_seconds


def _train_stack(dataset_folder: str, first_seed: int) -> float:
    dataset = data.load(source="folder", folder=Path(dataset_folder))
    seeds = range(16 * first_seed, 16 * first_seed + 16)
    return train_stack(CONFIG, seeds, data.split(dataset, CONFIG))[0].train_seconds


def bnstudy_loop(train_one: Callable[[str, int], float], folder: Path, processes: int) -> float:
    """Train one epoch in each of some processes at once; return images per second in all."""
    with (
        worker_environment(),
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):
        seconds = list(pool.map(train_one, [str(folder)] * processes, range(processes)))
    return sum(60_000 / each for each in seconds)


def measure(contestants: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Let each contestant run in turn, ``repeats`` times around."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            rates[name].append(run())
    return rates


def main() -> None:
    """Measure and print the table."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # that is the point
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", default="auto")
    options = parser.parse_args()
    dataset = data.load(source=options.data)
    if dataset.is_sample:
        raise SystemExit("error: the benchmark needs the whole data set: make bench DATA=<folder>")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        torchvision_copy(dataset, root)
        raw = root / "FashionMNIST" / "raw"
        contestants = {
            "the notes' loop, DataLoader with 4 workers": lambda: notes_loop(root, 4),
            "bnstudy reference, 1 process": lambda: bnstudy_loop(_train_alone, raw, 1),
            "bnstudy reference, 2 processes": lambda: bnstudy_loop(_train_alone, raw, 2),
        }
        if available()[0]:
            contestants |= {
                "bnstudy lockstep, 16 seeds in 1 process": lambda: bnstudy_loop(
                    _train_stack, raw, 1
                ),
                "bnstudy lockstep, 2 x 16 seeds in 2 processes": lambda: bnstudy_loop(
                    _train_stack, raw, 2
                ),
            }
        rates = measure(contestants, options.repeats)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"LeNet + BN, batch 256, training images/s, {options.repeats} interleaved repeats")
    print(f"{platform.machine()}, {cores} cores, torch {torch.__version__}\n")
    print("| contestant | median | min - max | times the notes' loop |")
    print("|---|---|---|---|")
    baseline = statistics.median(next(iter(rates.values())))
    for name, values in rates.items():
        median = statistics.median(values)
        spread = f"{min(values):,.0f} - {max(values):,.0f}"
        print(f"| {name} | {median:,.0f} | {spread} | {median / baseline:.1f} |")


if __name__ == "__main__":
    main()
