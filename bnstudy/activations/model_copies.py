"""Copies of a model that share its weights: running one leaves the model as it was.

The copy has buffers, modes and generators of its own, and inert hooks.  The
global generators of torch, numpy and Python are put back afterwards.
"""

import copy
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from bnstudy.activations.selection import unwrap
from bnstudy.errors import WatchError

Forward = Callable[[Any, Any], Any]


def shared_copy(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model, its parameters not copied but shared."""
    inner = unwrap(model)
    # deepcopy takes what its memo holds instead of copying it
    return copy.deepcopy(inner, {id(p): p for p in inner.parameters()})


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the global generators back as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def call_with_input(model: Any, batch: Any) -> Any:
    """Run a model on a batch that is its input, or a tuple that starts with it."""
    return model(batch[0] if isinstance(batch, list | tuple) else batch)


def first_batches(loader: Iterable[Any], batches: int) -> Iterator[Any]:
    """Yield at most so many batches, at least one.

    Raises
    ------
    WatchError
        If there is none.
    """
    if batches < 1:
        raise WatchError(f"batches must be at least 1, got {batches}")
    given = islice(iter(loader), batches)
    first = next(given, None)
    if first is None:
        raise WatchError("the loader must give at least one batch, it is empty")
    yield first
    yield from given
