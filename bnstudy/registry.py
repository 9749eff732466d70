"""Registries: words, as a config writes them, and the things they stand for."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from bnstudy.errors import ConfigError, find, unknown

Made = TypeVar("Made")
Factory = TypeVar("Factory", bound=Callable[..., Any])


class Registry(Generic[Made]):
    """Things that a config names by a word: ``name``, or ``name:option=value,option=value``.

    Parameters
    ----------
    kind
        What a word stands for, as errors name it: ``network``.
    given
        Names of the arguments that every factory gets before its options.
    declared
        Names whose factories are registered by a module that needs torch, so that configs
        with them are valid without it.
    """

    def __init__(self, kind: str, given: Sequence[str], declared: Sequence[str] = ()) -> None:
        self.kind, self._given = kind, tuple(given)
        self._factories: dict[str, Callable[..., Made] | None] = dict.fromkeys(declared)

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def register(self, name: str, *, replace: bool = False) -> Callable[[Factory], Factory]:
        """Return a decorator that registers a factory under a name.

        Parameters
        ----------
        name
            Lower-case letters, digits and dashes.
        replace
            Whether to replace an earlier registration of the name, as when the cell of a
            notebook runs again.  Those of the package are never replaced: what their words
            mean is part of every plan and report.

        Raises
        ------
        ConfigError
            If the name is taken or holds other characters, or the factory cannot be called
            as it will be.
        """
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(name)):
            raise ConfigError(
                f"the name of a {self.kind} is lower-case letters, digits and dashes, got {name!r}"
            )

        def decorator(factory: Factory) -> Factory:
            taken = self._factories.get(name)
            if taken is not None and is_own(taken):
                raise ConfigError(
                    f"there is a {self.kind} {name!r} already, one of the package: choose another "
                    "name"
                )
            if taken is not None and not replace:
                raise ConfigError(
                    f"there is a {self.kind} {name!r} already: choose another name, or pass "
                    "replace=True"
                )
            self._check(name, factory)
            self._factories[name] = factory
            return factory

        return decorator

    def _check(self, name: str, factory: object) -> None:
        """Refuse a factory that no config could call."""
        rule = f"{self.kind} {name!r} is made by factory({', '.join((*self._given, '**options'))})"
        if not (
            inspect.isroutine(factory) or inspect.isclass(factory) or isinstance(factory, partial)
        ):
            raise ConfigError(f"{rule}, got {factory!r}: pass a function or a class")
        shown = getattr(factory, "__qualname__", repr(factory))
        try:
            signature = inspect.signature(factory)
            signature.bind(*self._given)
        except (TypeError, ValueError) as error:  # ValueError: a builtin without a signature
            raise ConfigError(
                f"{rule} with a default for each option, got {shown}: {error}"
            ) from None
        if any(each.kind is each.POSITIONAL_ONLY for each in self._options(factory)):
            raise ConfigError(f"{rule}, got {shown}{signature}: take options by name")

    def _options(self, factory: Callable[..., Any]) -> list[inspect.Parameter]:
        """Return the parameters of a factory that are options."""
        parameters = [*inspect.signature(factory).parameters.values()]
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        later = [each for each in parameters if each.kind in positional][len(self._given) :]
        return [*later, *(each for each in parameters if each.kind is each.KEYWORD_ONLY)]

    def factory(self, word: str) -> Callable[..., Made] | None:
        """Return the factory of a word; None of a declared one whose module is not imported.

        Raises
        ------
        ConfigError
            If the name is unknown.
        """
        return find(self.kind, str(word).partition(":")[0], self._factories)

    def parse(self, word: str) -> tuple[str, dict[str, Any]]:
        """Split ``name:key=value,key=value`` into its name and options.

        Raises
        ------
        ConfigError
            If the name or an option is unknown, or an option has no value or two.
        """
        name, _, text = str(word).partition(":")
        factory = self.factory(word)
        options: dict[str, Any] = {}
        for part in filter(None, text.split(",")):
            key, equals, value = part.partition("=")
            if not equals or not value:
                raise ConfigError(f"an option of {name!r} is written key=value, got {part!r}")
            if key in options:
                raise ConfigError(f"an option is given once, got {key!r} twice in {word!r}")
            options[key] = _number_or_text(value)
        if factory is not None and options:
            self._check_options(name, factory, options)
        return name, options

    def _check_options(
        self, name: str, factory: Callable[..., Any], options: dict[str, Any]
    ) -> None:
        parameters = inspect.signature(factory).parameters.values()
        if any(each.kind is each.VAR_KEYWORD for each in parameters):
            return
        taken = [each.name for each in self._options(factory)]
        for key in options:
            if not taken:
                raise ConfigError(
                    f"{self.kind} {name!r} takes no options, got {key!r}: leave it out"
                )
            if key not in taken:
                raise ConfigError(unknown(f"{name} option", key, taken))

    def make(self, word: str, *given: Any) -> Made:
        """Return what the factory of a word makes of the given arguments and its options.

        Raises
        ------
        ConfigError
            As :meth:`parse`, or if an option's value is impossible.
        """
        name, options = self.parse(word)
        factory = self._factories[name]
        if factory is None:
            raise ConfigError(f"{self.kind} {name!r} is declared, but its module is not imported")
        try:
            return factory(*given, **options)
        except TypeError as error:  # a value of the wrong type reaches the factory's arithmetic
            raise ConfigError(f"{self.kind} {word!r} cannot be made: {error}") from None


def is_own(factory: Callable[..., Any]) -> bool:
    """Return whether a factory is one of the package."""
    return str(getattr(factory, "__module__", "")).split(".")[0] == "bnstudy"


def _number_or_text(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
