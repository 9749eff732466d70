"""Files and data sets as tests write them, and the message with which bad ones are refused."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bnstudy import data
from bnstudy.data.idx import read_bytes
from bnstudy.data.known import FILES
from bnstudy.errors import BnstudyError

TRAIN_IMAGES = "train-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"


def idx(shape: tuple[int, ...], values: bytes, kind: int = 8) -> bytes:
    """Write an IDX file by hand."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + values


def refusal(call: Callable[[], object], kind: type[BnstudyError]) -> str:
    """Return the message of an error, which must be one line."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def raw(cache: Path) -> Path:
    """Return where torchvision keeps Fashion-MNIST below its root."""
    return cache / "FashionMNIST" / "raw"


def unpack_sample(folder: Path) -> None:
    """Put the sample's four files into a folder, uncompressed, as torchvision lays them out."""
    for file in FILES:
        (folder / file).write_bytes(read_bytes(data.sample_folder() / f"{file}.gz"))


def patterns(
    classes: int = 10, train: int = 60, test: int = 20, shape: tuple[int, ...] = (28, 28)
) -> dict[str, torch.Tensor]:
    """Return images of noise with a pattern per class, ``train`` and ``test`` of each class."""
    rng = np.random.default_rng(7)
    pattern = rng.integers(0, 156, (classes, *shape))
    tensors = {}
    for part, count in (("train", train), ("test", test)):
        labels = np.tile(np.arange(classes), count)
        noise = rng.integers(0, 100, (len(labels), *shape))
        tensors[f"{part}_images"] = torch.from_numpy((pattern[labels] + noise).astype(np.uint8))
        tensors[f"{part}_labels"] = torch.from_numpy(labels)
    return tensors


def write_folder(
    folder: Path, tensors: dict[str, torch.Tensor], classes: Sequence[str] = ()
) -> Path:
    """Write tensors as a folder of four IDX files, with class names if there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, prefix in (("train", "train"), ("test", "t10k")):
        for kind in ("images", "labels"):
            values = tensors[f"{part}_{kind}"].to(torch.uint8).numpy()
            name = f"{prefix}-{kind}-idx{values.ndim}-ubyte"
            (folder / name).write_bytes(idx(values.shape, values.tobytes()))
    if classes:
        (folder / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    return folder
