"""Tensors that modules take and give, and one of them as statistics see it."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.reading.compiled_functions import readable
from bnstudy.activations.reading.compiled_reader import CompiledReader
from bnstudy.activations.reading.device_reader import DeviceReader
from bnstudy.activations.reading.numpy_reader import PlainReader
from bnstudy.activations.reading.reader import Number, Reader, computed_once, stride

Numbers = Number | Sequence[Number] | np.ndarray


def tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of a nested value and its name: ``out``, ``out.0``, ``out.hidden``.

    Tuples, lists, mappings, data classes and named tuples are entered; any
    other object is passed over.

    Examples
    --------
    >>> x = torch.zeros(2)
    >>> [name for name, _ in tensors((x, {"hidden": x, "text": "word"}), "out")]
    ['out.0', 'out.1.hidden']
    """
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, f"{name}.{key}")
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for key in value._fields:
            yield from tensors(getattr(value, key), f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from tensors(item, f"{name}.{index}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from tensors(getattr(value, item.name), f"{name}.{item.name}")


def inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors a module was called with: ``in``, or ``in.0``, ``in.mask``, ...."""
    if len(args) == 1 and not kwargs:
        yield from tensors(args[0], "in")
        return
    for index, item in enumerate(args):
        yield from tensors(item, f"in.{index}")
    for key, item in kwargs.items():
        yield from tensors(item, f"in.{key}")


def refusal(tensor: Tensor) -> str:
    """Return the reason why a tensor has no statistics, or nothing if it has."""
    if tensor.is_nested:
        return "a nested tensor has no common shape"
    if tensor.layout != torch.strided:
        return "a sparse tensor has no dense values"
    if tensor.is_complex():
        return "complex values have no order"
    if not tensor.is_floating_point():
        return f"{str(tensor.dtype).removeprefix('torch.')} values are labels or indices"
    if tensor.numel() == 0:
        return "it is empty"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "it is inside a function transform such as vmap"
    return ""


def reader_of(
    wide: Tensor,
    flat: Tensor,
    wanted: tuple[str, ...] = (),
    limits: tuple[float, float] | None = None,
    samples: tuple[int, ...] = (),
) -> CompiledReader | PlainReader:
    """Return the reader of a tensor on a CPU, the compiled one if possible.

    Parameters
    ----------
    wide, flat, wanted, limits, samples
        As :class:`~bnstudy.activations.reading.compiled_reader.CompiledReader` takes them.
    """
    if type(wide) is Tensor and readable(flat):
        return CompiledReader(wide, flat, wanted, limits, samples)
    return PlainReader(wide)


def root(a: Number) -> Number:
    """Return the square root of a, of at least 0 but for rounding."""
    if isinstance(a, Tensor):
        return a.clamp_min(0.0).sqrt()
    return a if a != a else math.sqrt(max(a, 0.0))


class MeasuredTensor:
    """One tensor, and the parts of it that several statistics need, each computed once.

    Half precisions are widened to float32 before anything is squared.

    Parameters
    ----------
    tensor
        Of any float dtype and shape, with at least one value.
    wanted
        Labels that will be asked for: some are found in the same pass as the moments.
    limits
        Between which the share of values will be asked for, if any.
    samples
        Sizes of the samples that will be asked for.

    Attributes
    ----------
    tensor
        The tensor, detached.
    count
        Number of its values.
    on_host
        Whether the tensor is on a CPU, where numbers are Python floats and nothing waits.

    Examples
    --------
    >>> x = MeasuredTensor(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    >>> x.mean, x.variance, x.sums.extremes
    (3.0, 3.5, (1.0, 6.0))
    """

    def __init__(
        self,
        tensor: Tensor,
        wanted: Iterable[str] = (),
        limits: tuple[float, float] | None = None,
        samples: tuple[int, ...] = (),
    ) -> None:
        self.tensor = tensor.detach()
        self.count = tensor.numel()
        self.on_host = tensor.is_cpu
        self._announced = tuple(wanted), limits, samples
        self._sampled: dict[int, np.ndarray] = {}

    @computed_once
    def wide(self) -> Tensor:
        """The tensor in float32, or in float64 if it is so."""
        wide = self.tensor if self.tensor.dtype == torch.float64 else self.tensor.float()
        return wide.resolve_neg()  # memory as it reads

    @computed_once
    def flat(self) -> Tensor:
        """All values in the order of memory, (count,); a view of ``wide`` where it is dense."""
        x = self.wide
        if x.is_contiguous():
            return x.view(-1)
        if x.dim() in (4, 5):  # channels last
            last = x.movedim(1, -1)
            if last.is_contiguous():
                return last.view(-1)
        # an expanded tensor may be reshaped to one whose values share memory: copy that
        return x.reshape(-1).contiguous()

    @computed_once
    def sums(self) -> Reader:
        """The reader, which finds what takes a pass through all values."""
        if self.on_host:
            return reader_of(self.wide, self.flat, *self._announced)
        return DeviceReader(self.wide, self.flat)

    def number(self, value: Any) -> Number:
        """Return one number, of a tensor or an array, as a float on a CPU, else in float64."""
        return float(value) if self.on_host else value.double()

    @property
    def mean(self) -> Number:
        """Mean of all values."""
        return self.sums.moments[0]

    @property
    def variance(self) -> Number:
        """Biased variance."""
        return self.sums.moments[1]

    @property
    def deviation(self) -> Number:
        """Biased standard deviation."""
        return root(self.variance)

    @property
    def rms(self) -> Number:
        """Root mean square."""
        return root(self.variance + self.mean * self.mean)

    @property
    def known_finite(self) -> bool:
        """True if all values are known to be finite without waiting for a device."""
        return self.on_host and math.isfinite(self.mean)

    def sample(self, size: int) -> Tensor:
        """Return at most ``size`` values, evenly spaced in memory, always the same positions."""
        return self.flat[:: stride(self.count, size)]

    def sample_on_host(self, size: int) -> np.ndarray:
        """Return a copy of :meth:`sample` of a tensor on a CPU, made once for all who ask."""
        if size not in self._sampled:
            taken = self.sums.sampled(size)
            self._sampled[size] = self.sample(size).numpy().copy() if taken is None else taken
        return self._sampled[size]

    def keep(self, samples: Iterable[int]) -> bool:
        """Find all that statistics may ask for later; return whether that is possible."""
        if not (self.on_host and self.sums.keep()):
            return False
        for size in samples:
            self.sample_on_host(size)
        return True

    def let_go(self) -> None:
        """Forget the tensor, after :meth:`keep`."""
        self.sums.let_go()
        del self.tensor, self.wide, self.flat

    def rows(self, samples: int, channels: int) -> Tensor:
        """Return a matrix of samples by channels for a covariance, (<= samples, <= channels).

        The positions of a feature map are samples of its channels.  Rows and
        columns are evenly spaced.
        """
        x = self.wide if self.tensor.dim() > 1 else self.wide.reshape(-1, 1)
        columns = x[:, :: -(-x.shape[1] // channels)]
        if x.dim() == 2:
            return columns[:: stride(len(x), samples)]
        image, position = _positions(len(x), math.prod(x.shape[2:]), samples, x.device)
        return columns.flatten(2)[image, :, position]


@lru_cache(maxsize=256)
def _positions(images: int, each: int, samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return image and position of evenly spaced values of one channel."""
    with torch.inference_mode(False):  # kept for later calls, which may be outside
        chosen = torch.arange(0, images * each, stride(images * each, samples), device=device)
        return chosen // each, chosen % each
