"""An attribute that is computed when first asked for."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class Lazy(Generic[Value]):
    """As ``functools.cached_property``, but without the lock that it takes before Python 3.12.

    A watched layer asks for several such attributes, once each, on every step, where
    each lock costs about a microsecond.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute, self._name = compute, compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> "Lazy[Value]": ...
    @overload
    def __get__(self, owner: object, kind: type) -> Value: ...
    def __get__(self, owner: object | None, kind: type) -> "Lazy[Value] | Value":
        """Compute the value and put it where it will be found instead of this."""
        if owner is None:
            return self
        value = owner.__dict__[self._name] = self._compute(owner)
        return value
