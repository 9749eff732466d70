"""The launcher's images in the memory of every worker process, once for all of them."""

import mmap
import tempfile
from collections.abc import Callable
from dataclasses import fields
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnstudy.data import Dataset

ALIGNMENT = 64  # bytes: a cache line


class SharedDataset:
    """A data set that is pickled for a process by reference and arrives there as a Dataset.

    Its tensors are written to a file without a name, which every process maps into its
    memory.  So workers train on what the launcher holds, whatever has become of the files it
    was read from; memory holds the images once; and the system frees the file when the last
    process that has it open ends, however it ends.

    Parameters
    ----------
    dataset
        The images.
    folder
        Where the file lies; the folder for temporary files if not given.  ``/dev/shm`` would
        be too small: 64 MB in a container.

    Raises
    ------
    OSError
        If the file cannot be written.
    """

    def __init__(self, dataset: Dataset, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by close()
        self._tensors: dict[str, tuple[str, tuple[int, ...], int]] = {}
        self._rest: dict[str, Any] = {}
        for field in fields(dataset):
            value = getattr(dataset, field.name)
            if isinstance(value, Tensor):
                array = value.contiguous().numpy()
                self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
                self._tensors[field.name] = array.dtype.str, array.shape, self._file.tell()
                self._file.write(array.data.cast("B"))
            else:
                self._rest[field.name] = value
        self._file.flush()

    def __reduce__(self) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
        """Return what a process that is being started makes the data set of."""
        return _attach, (DupFd(self._file.fileno()), self._tensors, self._rest)

    def close(self) -> None:
        """Close the file here; processes that were started keep theirs."""
        self._file.close()


def _attach(
    handle: Any, tensors: dict[str, tuple[str, tuple[int, ...], int]], rest: dict[str, Any]
) -> Dataset:
    """Return the data set that a launcher shares; called in the worker by unpickling."""
    # A private mapping: pages are shared until somebody writes to them, and torch wants a
    # buffer that it may write to.
    mapped = mmap.mmap(handle.detach(), 0, access=mmap.ACCESS_COPY)
    found: dict[str, Any] = {}
    for name, (dtype, shape, offset) in tensors.items():
        count = int(np.prod(shape))
        array = np.frombuffer(mapped, dtype=dtype, count=count, offset=offset)
        found[name] = torch.from_numpy(array.reshape(shape))
    return Dataset(**found, **rest)
