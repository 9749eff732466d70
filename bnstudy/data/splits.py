"""Which images a run trains, validates and tests on, and in which order."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bnstudy.config import RunConfig
from bnstudy.data.sources import Dataset
from bnstudy.errors import ConfigError

CLASSES = 10
VALIDATION_ONE_IN = 12


@dataclass(frozen=True)
class Images:
    """Images with their labels.

    Attributes
    ----------
    images
        uint8 (n, 28, 28).
    labels
        int64 (n,), 0..9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """The images of a run.

    Attributes
    ----------
    train
        The only ones that gradients come from.
    validation
        Held out of training; targets are read on them.  Empty when a run
        trains on everything.
    test
        Only reported.
    population
        Those of ``train`` that population statistics are computed over.
    """

    train: Images
    validation: Images
    test: Images
    population: Images


def split(dataset: Dataset, config: RunConfig) -> Splits:
    """Pick the images of a run, without chance: the same for every seed.

    Validation is one image in twelve of each class, in the order of the file:
    5,000 of 60,000.  Where a run asks for fewer images, each class gives an
    equal part, its first ones; 0 stands for all.  On the bundled sample,
    asking for more than there is gives what there is; so does asking for more
    population images than are trained on.

    Raises
    ------
    ConfigError
        If more images are asked for than the whole data set has.
    """
    labels = dataset.train_labels.numpy()
    held_out = _one_in(labels, VALIDATION_ONE_IN)
    everything = np.arange(len(labels))
    train = everything if config.train_split == "all" else everything[~held_out]
    validation = everything[:0] if config.train_split == "all" else everything[held_out]

    def part(name: str, where: np.ndarray, of: np.ndarray) -> np.ndarray:
        count = getattr(config, name)
        capped = dataset.is_sample or name == "population_images"
        if count > len(where) and len(where) and not capped:
            raise ConfigError(
                f"{name} can be at most {len(where)}, got {count}: ask for fewer, or 0 for all"
            )
        return where if count == 0 or count >= len(where) else where[first_of_each(of, count)]

    train = part("train_images", train, labels[train])
    validation = part("validation_images", validation, labels[validation])
    population = part("population_images", train, labels[train]) if len(train) else train
    test_labels = dataset.test_labels.numpy()
    test = part("test_images", np.arange(len(test_labels)), test_labels)
    return Splits(
        train=_pick(dataset.train_images, dataset.train_labels, train),
        validation=_pick(dataset.train_images, dataset.train_labels, validation),
        test=_pick(dataset.test_images, dataset.test_labels, test),
        population=_pick(dataset.train_images, dataset.train_labels, population),
    )


def _one_in(labels: np.ndarray, k: int) -> np.ndarray:
    """Mark the images 0, k, 2k, ... of each class: (n,) -> bool (n,)."""
    return rank_in_class(labels) % k == 0


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Return for each image how many of its class stand before it: (n,) -> (n,)."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        where = labels == label
        ranks[where] = np.arange(where.sum())
    return ranks


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the places of ``count`` images, classes in equal parts, in the order they stand.

    Classes 0, 1, ... give one more each where ten does not divide ``count``,
    and where a class has too few, the others make up for it.
    """
    by_rank = np.lexsort((labels, rank_in_class(labels)))
    return np.sort(by_rank[:count])


def _pick(images: Tensor, labels: Tensor, where: np.ndarray) -> Images:
    places = torch.from_numpy(where)
    return Images(images[places], labels[places].long())


def scale(images: Tensor) -> Tensor:
    """Return images in 0..1: uint8 (n, 28, 28) -> float32 (n, 1, 28, 28)."""
    return images.unsqueeze(1).float().div_(255.0)


def epoch_order(rng: np.random.Generator, n: int) -> Tensor:
    """Draw the order of the next epoch: int64 (n,), each image once."""
    return torch.from_numpy(rng.permutation(n))


def epoch_orders(rng: np.random.Generator, n: int, config: RunConfig) -> Iterator[Tensor]:
    """Draw the order of one epoch after the other: int64 (n,), each image once.

    With ``fixed`` batch-mates the first epoch decides which images share a batch;
    later ones draw the order of the whole batches, and a partial one stays last.
    """
    order = epoch_order(rng, n)
    whole = n - n % config.batch_size
    while True:
        yield order
        if config.batch_mates == "fixed":
            blocks = order[:whole].view(-1, config.batch_size)
            order = torch.cat((blocks[epoch_order(rng, len(blocks))].flatten(), order[whole:]))
        else:
            order = epoch_order(rng, n)


def batches(n: int, batch_size: int) -> list[slice]:
    """Return where the batches of n images lie in their order; a partial last one is kept."""
    return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


def evaluation_steps(steps_per_epoch: int, per_epoch: int) -> list[int]:
    """Return after which steps of an epoch (1-based) it is evaluated.

    ``per_epoch`` of them, evenly spread, the last the end of the epoch; fewer
    when the epoch has fewer steps.
    """
    steps = {math.ceil(steps_per_epoch * k / per_epoch) for k in range(1, per_epoch + 1)}
    return sorted(steps)
