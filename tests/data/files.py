"""Files of a data set as tests write them, and the message with which bad ones are refused."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

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
