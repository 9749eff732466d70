"""Splits of the images of a run, and their order in training."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bnstudy.config import RunConfig
from bnstudy.data.dataset import VALIDATION_ONE_IN, Dataset
from bnstudy.errors import ConfigError


@dataclass(frozen=True)
class Images:
    """Images with their labels.

    Attributes
    ----------
    images
        uint8 (n, height, width), or (n, channels, height, width).
    labels
        int64 (n,), from 0.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image, such as (1, 28, 28)."""
        channels = 1 if self.images.ndim == 3 else self.images.shape[1]
        return int(channels), int(self.images.shape[-2]), int(self.images.shape[-1])


@dataclass(frozen=True)
class Splits:
    """The images of a run.

    Attributes
    ----------
    train
        Images that gradients are computed from.
    validation
        Images held out of training, on which targets are read.  Empty if a run
        trains on everything.
    test
        Images whose accuracy is only reported.
    population
        The part of ``train`` that population statistics are computed over.
    classes
        Number of classes.
    """

    train: Images
    validation: Images
    test: Images
    population: Images
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image, such as (1, 28, 28)."""
        return self.train.shape

    @cached_property
    def pixel_moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the training images in 0..1, channel by channel."""
        images = self.train.images
        if images.dtype != torch.uint8:
            raise ConfigError(f"images must be bytes (uint8), got {images.dtype}")
        channels = (images.unsqueeze(1) if images.ndim == 3 else images).transpose(0, 1).flatten(1)
        # counts of the 256 values of a byte: exact, and without a copy of the images as floats
        counts = [torch.bincount(channel, minlength=256).double() for channel in channels]
        values = torch.arange(256, dtype=torch.float64) / 255.0
        mean = [float((each @ values) / each.sum()) for each in counts]
        var = [
            float((each @ (values - centre) ** 2) / each.sum())
            for each, centre in zip(counts, mean, strict=True)
        ]
        return tuple(mean), tuple(math.sqrt(each) for each in var)


def split(dataset: Dataset, config: RunConfig, *, capped: bool = False) -> Splits:
    """Select the images of a run, the same ones for every seed.

    Validation images are one in twelve of each class, in the order of the file:
    5,000 of 60,000.  If a run asks for fewer images, they are the first ones of
    each class, in equal numbers; 0 stands for all.  A run that asks for more
    population images than it trains on gets all of these.

    Parameters
    ----------
    dataset, config
        The images, and how many of them the run asks for.
    capped
        Whether a run that asks for more images than there are gets all of them, as it
        always does on a sample.

    Raises
    ------
    ConfigError
        If more images are asked for than there are, unless ``capped``.
    """
    labels = dataset.train_labels.numpy()
    held_out = _one_in(labels, VALIDATION_ONE_IN)
    everything = np.arange(len(labels))
    train = everything if config.train_split == "all" else everything[~held_out]
    validation = everything[:0] if config.train_split == "all" else everything[held_out]
    lenient = {"population_images"}
    if capped or dataset.is_sample:
        lenient |= {"train_images", "validation_images", "test_images"}

    def part(name: str, where: np.ndarray, of: np.ndarray) -> np.ndarray:
        count = getattr(config, name)
        if count > len(where) and len(where) and name not in lenient:
            raise ConfigError(
                f"{name} can be at most {len(where)}, got {count}: ask for fewer, or 0 for all"
            )
        return where if count == 0 or count >= len(where) else where[first_of_each(of, count)]

    train = part("train_images", train, labels[train])
    if not len(train):  # every class may have a single image, which is held out
        raise ConfigError(
            f"a run needs training images, but all {len(labels)} of {dataset.name} are held out "
            "for validation: add images, or set train_split='all'"
        )
    validation = part("validation_images", validation, labels[validation])
    population = part("population_images", train, labels[train])
    test_labels = dataset.test_labels.numpy()
    test = part("test_images", np.arange(len(test_labels)), test_labels)
    return Splits(
        train=_pick(dataset.train_images, dataset.train_labels, train),
        validation=_pick(dataset.train_images, dataset.train_labels, validation),
        test=_pick(dataset.test_images, dataset.test_labels, test),
        population=_pick(dataset.train_images, dataset.train_labels, population),
        classes=len(dataset.classes),
    )


def _one_in(labels: np.ndarray, k: int) -> np.ndarray:
    """Mark the images 0, k, 2k, ... of each class: (n,) -> bool (n,)."""
    return rank_in_class(labels) % k == 0


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Return for each image the number of images of its class before it: (n,) -> (n,)."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        where = labels == label
        ranks[where] = np.arange(where.sum())
    return ranks


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of ``count`` images, classes in equal parts, in ascending order.

    Classes 0, 1, ... have one more each if ``count`` is no multiple of the number of
    classes, and if a class has too few, the others make up for it.
    """
    # sorted by rank in the class, then by class: the first of each class, the second, ...
    by_rank = np.lexsort((labels, rank_in_class(labels)))
    return np.sort(by_rank[:count])


def _pick(images: Tensor, labels: Tensor, where: np.ndarray) -> Images:
    if len(where) == len(labels):  # all of them, in order: workers share the memory
        return Images(images, labels.long())
    positions = torch.from_numpy(where)
    return Images(images[positions], labels[positions].long())


def scale(images: Tensor) -> Tensor:
    """Return images in 0..1: uint8 (n, [channels,] height, width) -> float32 with channels."""
    return (images.unsqueeze(1) if images.ndim == 3 else images).float().div_(255.0)


def epoch_order(rng: np.random.Generator, n: int) -> Tensor:
    """Draw the order of the next epoch: int64 (n,), each image once."""
    return torch.from_numpy(rng.permutation(n))


def epoch_orders(rng: np.random.Generator, n: int, config: RunConfig) -> Iterator[Tensor]:
    """Draw the order of one epoch after the other: int64 (n,), each image once.

    With ``fixed`` batch-mates the first epoch decides which images share a batch;
    later ones draw the order of the full batches, and a partial one stays last.
    """
    order = epoch_order(rng, n)
    full = n - n % config.batch_size  # images in full batches
    while True:
        yield order
        if config.batch_mates == "fixed":
            blocks = order[:full].view(-1, config.batch_size)
            order = torch.cat((blocks[epoch_order(rng, len(blocks))].flatten(), order[full:]))
        else:
            order = epoch_order(rng, n)


def batches(n: int, batch_size: int) -> list[slice]:
    """Return the batches of n images as slices of their order; a partial last one is kept."""
    return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


def evaluation_steps(steps_per_epoch: int, per_epoch: int) -> list[int]:
    """Return the steps of an epoch (1-based) that are followed by an evaluation.

    There are ``per_epoch`` of them, evenly spaced, the last one at the end of the
    epoch; fewer if the epoch has fewer steps.
    """
    steps = {math.ceil(steps_per_epoch * k / per_epoch) for k in range(1, per_epoch + 1)}
    return sorted(steps)
