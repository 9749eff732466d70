"""A data set in memory: its images, labels, classes and identity."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from bnstudy.errors import DataError

VALIDATION_ONE_IN = 12
CHANNELS = (1, 3, 4)  # numbers of channels by which (n, height, width, channels) is recognized
LONGEST_NAME = 60


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels in memory, checked when they are put together.

    The dataclass is frozen, its tensors are not: :attr:`digest` is computed from their
    current content each time it is asked for.

    Attributes
    ----------
    name
        For example ``fashion-mnist``: letters, digits, ``.``, ``_``, ``-``, ``+`` and spaces.
    source
        Where they were read from; see :mod:`bnstudy.data.sources`.
    train_images, test_images
        uint8 (n, height, width) or (n, channels, height, width).
    train_labels, test_labels
        Integers (n,) from 0; every class has training images.
    classes
        Names of the classes, at least two.
    sample
        Name of the sample, such as ``bundled sample``, if these images are only a part of
        the data set of that name; else empty.
    notes
        Lines that a reader of a study must know about its data.
    folder
        Folder they were read from, if any; never recorded.

    Raises
    ------
    DataError
        If a tensor has another type or shape, labels and classes do not fit together, or
        there is nothing to train or test on.
    """

    name: str
    source: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    sample: str = ""
    notes: tuple[str, ...] = ()
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_classes(self.classes)
        for part in ("train", "test"):
            check_images(f"{part}_images", getattr(self, f"{part}_images"))
            check_labels(f"{part}_labels", getattr(self, f"{part}_labels"), len(self.classes))
            images, labels = (len(getattr(self, f"{part}_{kind}")) for kind in ("images", "labels"))
            if images != labels:
                raise DataError(
                    f"{part}_images and {part}_labels must be as many, got {images} images and "
                    f"{labels} labels: give each image one label"
                )
        train, test = _shape(self.train_images), _shape(self.test_images)
        if train != test:
            raise DataError(
                "training and test images must have one shape, got (channels, height, width) = "
                f"{train} and {test}: resize or pad them"
            )
        counts = torch.bincount(self.train_labels.long(), minlength=len(self.classes))
        absent = [self.classes[label] for label in (counts == 0).nonzero().flatten().tolist()]
        if absent:
            raise DataError(
                f"every class needs training images, got none of {', '.join(absent[:5])}: number "
                "the labels from 0 without gaps, or name only the classes there are"
            )

    @property
    def is_sample(self) -> bool:
        """True if these images are only a part of the data set of that name."""
        return bool(self.sample)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image, such as (1, 28, 28)."""
        return _shape(self.train_images)

    @property
    def digest(self) -> str:
        """sha256 over the current content of the four tensors, their shapes included."""
        sha = hashlib.sha256()
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            sha.update(f"{part} {len(images)} {_shape(images)}\n".encode())
            sha.update(memoryview(images.contiguous().numpy()).cast("B"))
            # little-endian 64 bit, so that the type that labels are kept in does not matter
            sha.update(labels.numpy().astype("<i8").tobytes())
        return sha.hexdigest()


@dataclass(frozen=True)
class DataIdentity:
    """Identity of the images that a plan is about.

    Attributes
    ----------
    name
        For example ``fashion-mnist``.
    digest
        :attr:`Dataset.digest` when the plan was made.
    classes
        Names of the classes.
    shape
        Channels, height and width of an image.
    train_images, validation_images, test_images
        Numbers of images there are: for training, held out for validation, and for tests.
    sample
        Name of the sample, or empty for the whole data set.
    """

    name: str
    digest: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train_images: int
    validation_images: int
    test_images: int
    sample: str = ""

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Return the identity of images in memory."""
        counts = torch.bincount(dataset.train_labels.long()).tolist()
        validation = sum(math.ceil(count / VALIDATION_ONE_IN) for count in counts)
        return cls(
            name=dataset.name,
            digest=dataset.digest,
            classes=dataset.classes,
            shape=dataset.shape,
            train_images=len(dataset.train_labels) - validation,
            validation_images=validation,
            test_images=len(dataset.test_labels),
            sample=dataset.sample,
        )

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the classes."""
        return 1.0 / len(self.classes)

    @property
    def guessing_loss(self) -> float:
        """Cross-entropy of a network that gives all classes the same probability."""
        return math.log(len(self.classes))

    def images(self, train_split: str) -> dict[str, int]:
        """Return how many images a run can have at most, by the setting that asks for them.

        With ``train_split`` ``all`` nothing is held out for validation.
        """
        held_out = self.validation_images
        if train_split == "all":
            return {"train_images": self.train_images + held_out, "test_images": self.test_images}
        return {
            "train_images": self.train_images,
            "validation_images": held_out,
            "test_images": self.test_images,
        }

    def canonical(self) -> Mapping[str, Any]:
        """Return the identity as plain data for the plan's JSON."""
        return {
            "name": self.name,
            "digest": self.digest,
            "sample": bool(self.sample),
            "classes": list(self.classes),
            "shape": list(self.shape),
            "images": {
                "train": self.train_images,
                "validation": self.validation_images,
                "test": self.test_images,
            },
        }


def check_name(name: object) -> None:
    """Refuse a name that cannot stand in the name of a folder and on a page."""
    allowed = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*", name)
    if not allowed or len(str(name)) > LONGEST_NAME or str(name).endswith(" "):
        raise DataError(
            f"the name of a data set must be at most {LONGEST_NAME} letters, digits, spaces and "
            f"'._+-', a letter or digit first, got {name!r}: choose one with name=... "
            "(--data-name)"
        )


def check_classes(classes: object) -> None:
    """Refuse class names that are too few, empty, repeated or not printable."""
    if not isinstance(classes, tuple) or not all(
        isinstance(each, str) and each.strip() == each and each.isprintable() and each
        for each in classes
    ):
        raise DataError(
            "classes must be printable names without spaces around them, got "
            f"{classes!r:.200}: give a sequence such as ('cat', 'dog')"
        )
    if len(classes) < 2:
        raise DataError(
            f"a data set needs at least 2 classes, got {len(classes)}: there is nothing to tell "
            "apart, add images of another class"
        )
    name, count = Counter(classes).most_common(1)[0]
    if count > 1:
        raise DataError(f"each class needs a name of its own, got {name!r} twice: rename one")


def check_images(role: str, images: object) -> None:
    """Refuse anything but a tensor of bytes, (n, height, width) or (n, channels, height, width)."""
    images = _require_tensor(role, images)
    if images.dtype != torch.uint8:
        dtype = str(images.dtype).removeprefix("torch.")
        remedy = (
            "if they are in 0..1, give (images * 255).round().to(torch.uint8), or "
            ".astype('uint8') in numpy"
            if images.is_floating_point()
            else "if all are in 0..255, give images.to(torch.uint8), or .astype('uint8') in numpy"
        )
        raise DataError(f"{role} must be bytes (uint8) in 0..255, got {dtype}: {remedy}")
    if images.ndim not in (3, 4):
        raise DataError(
            f"{role} must have the shape (n, height, width) or (n, channels, height, width), got "
            f"{tuple(images.shape)}: reshape them"
        )
    if 0 in images.shape:
        raise DataError(
            f"{role} must hold images, got the shape {tuple(images.shape)}: give at least one "
            "image of at least one pixel"
        )
    if images.ndim == 4 and images.shape[3] in CHANNELS and images.shape[1] not in CHANNELS:
        raise DataError(
            f"{role} must have the shape (n, channels, height, width), got {tuple(images.shape)} "
            "with the channels last: give images.permute(0, 3, 1, 2), or "
            ".transpose(0, 3, 1, 2) in numpy"
        )


def check_labels(role: str, labels: object, classes: int) -> None:
    """Refuse anything but a tensor of integers (n,) from 0 to the number of classes - 1."""
    labels = _require_tensor(role, labels)
    if labels.ndim != 1:
        raise DataError(
            f"{role} must have the shape (n,), got {tuple(labels.shape)}: one-hot labels become "
            "numbers by labels.argmax(1), a column by labels.flatten()"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        dtype = str(labels.dtype).removeprefix("torch.")
        raise DataError(
            f"{role} must be integers, got {dtype}: give labels.long(), or .astype(int) in numpy"
        )
    if not len(labels):
        raise DataError(f"{role} must hold labels, got none: give one per image")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise DataError(
            f"{role} must be from 0 to {classes - 1} for {classes} classes, got {wrong}: number "
            "the classes from 0, or name them all"
        )


def _require_tensor(role: str, values: object) -> Tensor:
    if isinstance(values, Tensor) and values.device.type == "cpu":
        return values
    given = values.device if isinstance(values, Tensor) else type(values).__name__
    dtype = f" of {values.dtype}" if isinstance(values, np.ndarray) else ""
    raise DataError(
        f"{role} must be a tensor of numbers on the cpu, got {given}{dtype}: "
        "bnstudy.data.from_arrays takes tensors and numpy arrays"
    )


def as_tensor(values: object) -> object:
    """Return a contiguous tensor on the cpu; what cannot become one, as it is, for the checks."""
    if isinstance(values, Tensor):
        return values if values.is_meta else values.detach().cpu().to_dense().contiguous()
    try:
        array = np.asarray(values)
    except ValueError:  # lists of unequal lengths
        return values
    if array.dtype.kind not in "buif" or array.dtype == np.longdouble:
        return array
    # torch takes neither foreign byte order nor negative strides, nor shares read-only memory
    dtype = np.dtype(np.int64) if array.dtype.kind == "u" and array.itemsize > 1 else array.dtype
    array = np.ascontiguousarray(array, dtype=dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def from_arrays(
    name: str,
    train_images: object,
    train_labels: object,
    test_images: object,
    test_labels: object,
    classes: object = None,
) -> Dataset:
    """Make a data set of tensors or numpy arrays of your own.

    Parameters
    ----------
    name
        Its name in plans and reports.
    train_images, test_images
        Bytes in 0..255 (uint8), (n, height, width) or (n, channels, height, width).
    train_labels, test_labels
        Integers (n,) from 0, in which every class occurs.
    classes
        Names of the classes, in the order of the labels; their numbers if not given.

    Returns
    -------
    Dataset
        With the arrays as they are, not copied unless they must be.

    Raises
    ------
    DataError
        Naming what is wrong, in one line.

    Examples
    --------
    >>> images = np.zeros((6, 8, 8), dtype=np.uint8)
    >>> labels = np.array([0, 1, 2, 0, 1, 2])
    >>> dataset = from_arrays("blank", images, labels, images, labels)
    >>> dataset.classes, dataset.shape
    (('0', '1', '2'), (1, 8, 8))
    """
    images = {"train": as_tensor(train_images), "test": as_tensor(test_images)}
    labels = {"train": as_tensor(train_labels), "test": as_tensor(test_labels)}
    if classes is None:
        classes = _numbers(labels)
    elif isinstance(classes, str) or not hasattr(classes, "__iter__"):
        raise DataError(
            f"classes must be a sequence of names, got {classes!r}: give one name per class"
        )
    return Dataset(
        name=name,
        source="arrays",
        train_images=images["train"],  # type: ignore[arg-type]  # checked by Dataset
        train_labels=labels["train"],  # type: ignore[arg-type]
        test_images=images["test"],  # type: ignore[arg-type]
        test_labels=labels["test"],  # type: ignore[arg-type]
        classes=tuple(classes),
    )


def _numbers(labels: Mapping[str, object]) -> tuple[str, ...]:
    """Name the classes by their numbers, up to the largest label."""
    largest = 0
    for part, values in labels.items():
        # every label passes here: the largest one is not known to be wrong, all else is
        check_labels(f"{part}_labels", values, 2**31)
        largest = max(largest, int(values.max()))  # type: ignore[attr-defined]
    if largest >= 2**16:
        raise DataError(
            f"labels must number the classes from 0, got {largest}: number them without gaps"
        )
    return tuple(str(number) for number in range(largest + 1))


def _shape(images: Tensor) -> tuple[int, int, int]:
    channels = 1 if images.ndim == 3 else images.shape[1]
    return int(channels), int(images.shape[-2]), int(images.shape[-1])
