"""IDX files, the format of MNIST, parsed so that every fault is named.

The format (LeCun, Cortes & Burges 1998): two zero bytes, a type byte (8 for
unsigned bytes), the number of axes, the size of each axis as a big-endian
32-bit integer, then the values.
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnstudy.errors import DataCorruptError

UNSIGNED_BYTES = 8


def read_bytes(path: Path) -> bytes:
    """Return the uncompressed bytes of a file, gzipped or not.

    Raises
    ------
    DataCorruptError
        If it is a broken gzip file, or cannot be read.
    """
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataCorruptError(
            f"{path} must be a whole gzip file, got a cut or damaged one ({error}): "
            "fetch the data again"
        ) from None
    except MemoryError:
        raise DataCorruptError(
            f"{path} must fit into memory, got more than there is: use fewer images, or a machine "
            "with more memory"
        ) from None
    except OSError as error:
        raise DataCorruptError(
            f"{path} must be readable, got {error.strerror!r} from the system: "
            "see to its permissions and its disk"
        ) from None


def encode(values: Tensor) -> bytes:
    """Return unsigned bytes of any shape as the content of an IDX file."""
    shape = np.array(values.shape, dtype=">u4").tobytes()
    header = bytes((0, 0, UNSIGNED_BYTES, values.ndim))
    return header + shape + values.contiguous().numpy().tobytes()


def sha256(content: bytes) -> str:
    """Return the sha256 of some bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def parse(content: bytes, name: str, axes: int) -> Tensor:
    """Parse the bytes of an IDX file of unsigned bytes.

    Parameters
    ----------
    content
        The uncompressed file.
    name
        Name of the file in errors.
    axes
        Number of axes it must have: 3 for images, 1 for labels.

    Returns
    -------
    torch.Tensor
        uint8, of the shape that the file states.

    Raises
    ------
    DataCorruptError
        If magic number, number of axes or size are wrong.
    """
    header = 4 + 4 * axes
    magic = bytes((0, 0, UNSIGNED_BYTES, axes))
    if content[:4] != magic:
        raise DataCorruptError(
            f"{name} must begin with the IDX magic number {magic.hex()} ({axes} axes of unsigned "
            f"bytes), got {content[:4].hex() or 'nothing'}: it is another file, "
            "fetch the data again"
        )
    if len(content) < header:
        raise DataCorruptError(f"{name} ends within its header: it was cut, fetch the data again")
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4"))
    expected = header + math.prod(shape)
    if len(content) != expected or expected == header:  # no values at all: no images
        cut = len(content) < expected
        fault = "cut" if cut else "empty" if expected == header else "longer than it says"
        raise DataCorruptError(
            f"{name} states {' x '.join(map(str, shape))} values, {expected} bytes in all, got "
            f"{len(content)}: it is {fault}, fetch the data again"
        )
    # a copy: torch wants a buffer that it may write to
    return torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8).reshape(shape)
