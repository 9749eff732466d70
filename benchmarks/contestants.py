"""Contestants of the training benchmark: the notes' loop, our two engines, and sgemm."""

import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision import transforms

from bnstudy import data
from bnstudy.config import RunConfig
from bnstudy.engines.lockstep import lane_count, train_stack
from bnstudy.engines.reference import train
from bnstudy.networks import build, trace

CONFIG = RunConfig(
    epochs=1,
    learning_rate=0.1,
    validation_images=10,
    test_images=10,
    population_images=10,
    evaluations_per_epoch=1,
)


def write_idx(folder: Path, name: str, array: np.ndarray) -> None:
    """Write one uncompressed IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    (folder / name).write_bytes(header + array.tobytes())


def torchvision_copy(dataset: data.Dataset, root: Path) -> Path:
    """Lay the images out as torchvision's FashionMNIST class expects them; return the folder."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, tensor in (
        ("train-images-idx3-ubyte", dataset.train_images),
        ("train-labels-idx1-ubyte", dataset.train_labels),
        ("t10k-images-idx3-ubyte", dataset.test_images),
        ("t10k-labels-idx1-ubyte", dataset.test_labels),
    ):
        write_idx(folder, name, tensor.numpy())
    return folder


def notes_loop(root: Path, workers: int, norm: str, batch_size: int) -> float:
    """Train over some images as the notes do; return images per second.

    An epoch starts the DataLoader's processes, and so does the whole one that large
    batches get; small batches get enough steps to make little of it.
    """
    images = max(4_096, min(60_000, 320 * batch_size))
    whole = torchvision.datasets.FashionMNIST(root, train=True, transform=transforms.ToTensor())
    part = torch.utils.data.Subset(whole, range(images))
    loader = torch.utils.data.DataLoader(part, batch_size, shuffle=True, num_workers=workers)
    net = build(RunConfig(norm="scratch" if norm == "bn" else norm), seed=0)
    optimizer, criterion = torch.optim.SGD(net.parameters(), lr=0.1), nn.CrossEntropyLoss()
    metric, started = [0.0, 0.0, 0.0], time.perf_counter()
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


@cache
def dataset_of(folder: str) -> data.Dataset:
    """Return the images of a folder, read once a process."""
    torch.set_num_threads(1)
    return data.load(folder=Path(folder))


def lockstep_rate(
    folder: str, norm: str, batch_size: int, process: int, network: str = "lenet"
) -> float:
    """Train as many seeds as the kernel has lanes; return images per second."""
    config = CONFIG.replace(norm=norm, batch_size=batch_size, train_images=10_240, network=network)
    splits = data.split(dataset_of(folder), config)
    lanes = lane_count()
    records = train_stack(config, range(lanes * process, lanes * (process + 1)), splits)
    return lanes * len(splits.train) / sum(record.train_seconds for record in records)


def eager_rate(
    folder: str, norm: str, batch_size: int, process: int, network: str = "lenet"
) -> float:
    """Train one network by the reference trainer; return images per second."""
    images = 4_096 if batch_size < 64 else 20_480
    config = CONFIG.replace(norm=norm, batch_size=batch_size, train_images=images, network=network)
    splits = data.split(dataset_of(folder), config)
    return len(splits.train) / train(config, process, splits).train_seconds


def sgemm_rate(folder: str, norm: str, batch_size: int, process: int) -> float:
    """Multiply matrices; return floating-point operations per second, the best of ten.

    By torch and by numpy, whose libraries differ: which one knows the processor better is
    not known beforehand.
    """
    torch.set_num_threads(1)
    side = 1024
    A = torch.ones(side, side)
    seconds = []
    for factor in (A, A.numpy()):
        for _ in range(10):
            started = time.perf_counter()
            factor @ factor
            seconds.append(time.perf_counter() - started)
    return 2.0 * side**3 / min(seconds)


def training_flops(network: str = "lenet") -> int:
    """Return the floating-point operations of a training image.

    Forward, gradient by the weights and gradient by the input cost the same;
    the images themselves need no gradient.
    """
    flops = [layer.flops for layer in trace(RunConfig(network=network)) if layer.flops]
    return 3 * sum(flops) - flops[0]


def losses_of_torch(folder: Path, norm: str, batch_size: int, steps: int) -> list[float]:
    """Return the losses of the first steps of seed 0 on images in their order, by SGD at 0.1."""
    dataset, net = dataset_of(str(folder)), build(RunConfig(norm=norm), seed=0)
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=0.1), []
    for start in range(0, steps * batch_size, batch_size):
        where = slice(start, start + batch_size)
        X = dataset.train_images[where].float().unsqueeze(1) / 255
        loss = F.cross_entropy(net(X), dataset.train_labels[where].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
