"""Data sets in memory: what is refused, and an identity that follows the content."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from bnstudy.data import DataIdentity, Dataset, from_arrays
from bnstudy.errors import DataError
from tests.data.files import patterns, refusal


def arrays(**changes: object) -> dict[str, object]:
    return {**patterns(classes=3, train=4, test=2, shape=(6, 5)), **changes}


def made(**changes: object) -> Dataset:
    return from_arrays("mine", **arrays(**changes))


# What is taken ------------------------------------------------------------------------


def test_tensors_and_numpy_arrays_make_the_same_data_set() -> None:
    theirs = {name: np.asarray(tensor) for name, tensor in arrays().items()}
    assert from_arrays("mine", **theirs).digest == made().digest
    assert made().classes == ("0", "1", "2")
    assert made().shape == (1, 6, 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.flip(2).contiguous().flip(2),
        lambda images: images.transpose(1, 2).contiguous().transpose(1, 2),
        lambda images: images.numpy()[:, ::-1].copy()[:, ::-1],
        lambda images: images.unsqueeze(1),
    ],
    ids=["flipped", "strided", "negative", "channel"],
)
def test_layout_in_memory_does_not_matter(change) -> None:
    found = made(train_images=change(arrays()["train_images"]))
    assert found.digest == made().digest
    assert found.train_images.is_contiguous()


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "<u2", "i1"])
def test_labels_of_any_integer_type_are_the_same_labels(dtype: str) -> None:
    labels = np.asarray(arrays()["train_labels"]).astype(dtype)
    assert made(train_labels=labels).digest == made().digest


def test_read_only_arrays_and_lists_are_taken() -> None:
    images = np.asarray(arrays()["train_images"])
    images.flags.writeable = False
    labels = arrays()["train_labels"].tolist()
    assert made(train_images=images, train_labels=labels).digest == made().digest


# What is refused ----------------------------------------------------------------------

GOOD = arrays()
IMAGES, LABELS = GOOD["train_images"], GOOD["train_labels"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": IMAGES / 255},
            "train_images must be bytes (uint8) in 0..255, got float32: if they are in 0..1, give "
            "(images * 255).round().to(torch.uint8), or .astype('uint8') in numpy",
        ),
        (
            {"test_images": GOOD["test_images"].long().numpy()},
            "test_images must be bytes (uint8) in 0..255, got int64: if all are in 0..255, give "
            "images.to(torch.uint8), or .astype('uint8') in numpy",
        ),
        (
            {"train_images": torch.zeros(12, 32, 30, 3, dtype=torch.uint8)},
            "train_images must have the shape (n, channels, height, width), got (12, 32, 30, 3) "
            "with the channels last: give images.permute(0, 3, 1, 2), or .transpose(0, 3, 1, 2) "
            "in numpy",
        ),
        (
            {"train_images": IMAGES.flatten(1)},
            "train_images must have the shape (n, height, width) or (n, channels, height, width), "
            "got (12, 30): reshape them",
        ),
        (
            {"train_images": IMAGES[:0], "classes": ("a", "b", "c")},
            "train_images must hold images, got the shape (0, 6, 5): give at least one image of at "
            "least one pixel",
        ),
        (
            {"train_images": np.array(["a", "b"])},
            "train_images must be a tensor of numbers on the cpu, got ndarray of <U1: "
            "bnstudy.data.from_arrays takes tensors and numpy arrays",
        ),
        (
            {"train_labels": LABELS[:-1]},
            "train_images and train_labels must be as many, got 12 images and 11 labels: give each "
            "image one label",
        ),
        (
            {"train_labels": torch.nn.functional.one_hot(LABELS)},
            "train_labels must have the shape (n,), got (12, 3): one-hot labels become numbers by "
            "labels.argmax(1), a column by labels.flatten()",
        ),
        (
            {"train_labels": LABELS.float()},
            "train_labels must be integers, got float32: give labels.long(), or .astype(int) in "
            "numpy",
        ),
        (
            {"train_labels": LABELS - 1, "classes": ("a", "b", "c")},
            "train_labels must be from 0 to 2 for 3 classes, got -1: number the classes from 0, or "
            "name them all",
        ),
        (
            {"test_labels": GOOD["test_labels"] + 1, "classes": ("a", "b", "c")},
            "test_labels must be from 0 to 2 for 3 classes, got 3: number the classes from 0, or "
            "name them all",
        ),
        (
            {"train_labels": LABELS * 2, "classes": tuple("abcde")},
            "every class needs training images, got none of b, d: number the labels from 0 without "
            "gaps, or name only the classes there are",
        ),
        (
            {"test_images": torch.zeros(6, 5, 6, dtype=torch.uint8)},
            "training and test images must have one shape, got (channels, height, width) = "
            "(1, 6, 5) and (1, 5, 6): resize or pad them",
        ),
        (
            {"train_labels": LABELS * 0, "test_labels": GOOD["test_labels"] * 0},
            "a data set needs at least 2 classes, got 1: there is nothing to tell apart, add "
            "images of another class",
        ),
        (
            {"classes": ("cat", "dog", "cat")},
            "each class needs a name of its own, got 'cat' twice: rename one",
        ),
        (
            {"classes": "abc"},
            "classes must be a sequence of names, got 'abc': give one name per class",
        ),
        (
            {"classes": ("cat", "dog\x1b[2J", "cow")},
            "classes must be printable names without spaces around them, got "
            "('cat', 'dog\\x1b[2J', 'cow'): give a sequence such as ('cat', 'dog')",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused(changes: dict[str, object], message: str) -> None:
    assert refusal(lambda: made(**changes), DataError) == message


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\nb", " a", "a ", "x" * 61, 3])
def test_a_name_must_fit_a_folder_and_a_page(name: object) -> None:
    message = refusal(lambda: from_arrays(name, **arrays()), DataError)
    assert message == (
        "the name of a data set must be at most 60 letters, digits, spaces and '._+-', a letter or "
        f"digit first, got {name!r}: choose one with name=... (--data-name)"
    )


def test_changing_a_field_is_checked_too() -> None:
    message = refusal(lambda: dataclasses.replace(made(), train_images=IMAGES / 255), DataError)
    assert "must be bytes (uint8) in 0..255, got float32" in message


# Identity -----------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["train_images", "train_labels", "test_images", "test_labels"])
def test_the_digest_follows_a_change_in_place(role: str) -> None:
    dataset = made(**{name: tensor.clone() for name, tensor in arrays().items()})
    before = dataset.digest
    getattr(dataset, role)[-1] = 0
    after = dataset.digest
    assert after != before
    fresh = {name: getattr(dataset, name) for name in arrays()}
    assert from_arrays("other", **fresh).digest == after


def test_the_digest_follows_the_shape() -> None:
    turned = {
        name: tensor.reshape(-1, 5, 6) if "images" in name else tensor
        for name, tensor in arrays().items()
    }
    assert made(**turned).digest != made().digest


def test_an_identity_knows_how_many_images_are_held_out_and_what_guessing_gives() -> None:
    identity = DataIdentity.of(from_arrays("mine", **patterns(classes=4, train=13, test=2)))
    # one in twelve of each class, the first of them first: two of thirteen
    assert (identity.train_images, identity.validation_images, identity.test_images) == (44, 8, 8)
    assert identity.chance == 0.25
    assert identity.guessing_loss == pytest.approx(math.log(4))
