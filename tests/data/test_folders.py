"""Folders of IDX files of one's own: what is read, what it is called, what is refused."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch

from bnstudy import data
from bnstudy.errors import DataCorruptError, DataError
from tests.data.files import TEST_LABELS, TRAIN_IMAGES, idx, patterns, refusal, write_folder

COLOUR = patterns(classes=4, train=3, test=2, shape=(3, 8, 8))


def test_a_folder_is_a_data_set_named_like_it(tmp_path: Path) -> None:
    tensors = patterns(classes=3, train=4, test=2)
    found = data.load(write_folder(tmp_path / "shapes", tensors, ("disc", "square", "star")))
    assert (found.name, found.source, found.sample) == ("shapes", "folder", "")
    assert found.classes == ("disc", "square", "star")
    for role, values in tensors.items():
        assert torch.equal(getattr(found, role).long(), values.long())


def test_a_name_may_be_given_and_classes_are_numbers_without_a_file(tmp_path: Path) -> None:
    found = data.load("colours", folder=write_folder(tmp_path / "shapes", COLOUR))
    assert (found.name, found.shape) == ("colours", (3, 8, 8))
    assert found.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"emnist-own-{name}",
        lambda name: name.replace("t10k", "test"),
        lambda name: name.replace("-idx", ".idx"),
    ],
)
def test_other_usual_names_of_files_are_understood(tmp_path: Path, rename) -> None:
    folder = write_folder(tmp_path / "shapes", COLOUR)
    for path in list(folder.iterdir()):
        path.rename(folder / rename(path.name))
    assert data.load(folder).digest == data.from_arrays("shapes", **COLOUR).digest


def test_gzipped_files_are_the_same_data_set(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shapes", COLOUR)
    before = data.load(folder).digest
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert data.load(folder).digest == before


def test_files_of_fashion_mnist_are_recognized_whatever_the_folder_is_called(
    tmp_path: Path, sample: data.Dataset
) -> None:
    found = data.load(Path(shutil.copytree(data.sample_folder(), tmp_path / "clothes")))
    assert (found.name, found.sample, found.digest) == (
        "fashion-mnist",
        "bundled sample",
        sample.digest,
    )


def test_a_changed_copy_of_a_known_data_set_is_taken_under_a_name_of_its_own(
    tmp_path: Path, sample: data.Dataset
) -> None:
    folder = Path(shutil.copytree(data.sample_folder(), tmp_path / "folder"))
    labels = sample.test_labels.flip(0).numpy()
    (folder / TEST_LABELS).write_bytes(idx(labels.shape, labels.tobytes()))
    assert refusal(lambda: data.load(folder), DataCorruptError).startswith(
        f"{TEST_LABELS} in {folder} must be that of Fashion-MNIST"
    )
    found = data.load("flipped", folder=folder)
    assert (found.name, found.sample) == ("flipped", "")
    assert found.digest != sample.digest


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_the_name_of_a_known_data_set_is_not_given_to_another(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / name, COLOUR)
    assert refusal(lambda: data.load(folder), DataCorruptError) == (
        f"the name {name!r} is that of a known data set, and the files in {folder} are not its "
        "files: fetch them again, or give the data set a name of its own with name=... "
        "(--data-name)"
    )


def test_two_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shapes", COLOUR)
    other = folder / f"other-{TRAIN_IMAGES}"
    shutil.copy(folder / "train-images-idx4-ubyte", other)
    assert refusal(lambda: data.load(folder), DataCorruptError) == (
        f"{folder} must hold the files of one data set, got {other.name} and "
        "train-images-idx4-ubyte: give each data set a folder of its own"
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a", "b"), "train_labels must be from 0 to 1 for 2 classes, got 3: number the classes"),
        (("a", "", "b", "c"), "classes must be printable names without spaces around them"),
        (("a", "b", "c", "d", "e"), "every class needs training images, got none of e: number"),
    ],
)
def test_names_that_do_not_fit_the_labels_are_refused(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    folder = write_folder(tmp_path / "shapes", COLOUR, lines)
    assert refusal(lambda: data.load(folder), DataError).startswith(message)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shapes", COLOUR)
    (folder / "classes.txt").write_bytes(b"\xff\xfe\xff")
    message = refusal(lambda: data.load(folder), DataError)
    assert message.startswith(f"{folder / 'classes.txt'} must be text in UTF-8, got ")


def test_verify_reads_the_files_of_ones_own_data_set(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shapes", COLOUR)
    states = data.verify(folder)
    assert len(states) == 4
    assert all(state.startswith("ok, of no known data set, sha256 ") for state in states.values())
    (folder / TEST_LABELS).write_bytes(b"cut")
    fault = data.verify(folder)[TEST_LABELS]
    assert fault.startswith(f"{TEST_LABELS} must begin with the IDX magic number 00000801")
