"""Registries: words, as a config writes them, and the things they stand for."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
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
        Number of arguments that every factory gets before its options.
    declared
        Names whose factories are registered by a module that needs torch, so that configs
        with them are valid without it.
    """

    def __init__(self, kind: str, given: int, declared: Sequence[str] = ()) -> None:
        self.kind, self._given = kind, given
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
            Whether the name may be taken already, as it is when a notebook's cell runs
            again.

        Raises
        ------
        ConfigError
            If the name is taken or holds other characters, or the factory does not take
            the arguments that it will get.
        """
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(name)):
            raise ConfigError(
                f"the name of a {self.kind} is lower-case letters, digits and dashes, got {name!r}"
            )
        if self._factories.get(name) is not None and not replace:
            raise ConfigError(
                f"there is a {self.kind} {name!r} already: choose another name, or register it "
                "with replace=True"
            )

        def decorator(factory: Factory) -> Factory:
            try:
                inspect.signature(factory).bind_partial(*[None] * self._given)
            except TypeError as error:
                raise ConfigError(
                    f"the factory of {self.kind} {name!r} gets {self._given} arguments before its "
                    f"options: {error}"
                ) from None
            self._factories[name] = factory
            return factory

        return decorator

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
        if factory is None:
            return name, options
        parameters = list(inspect.signature(factory).parameters.values())[self._given :]
        taken = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
        for key in options:
            if not parameters:
                raise ConfigError(
                    f"{self.kind} {name!r} takes no options, got {key!r}: leave it out"
                )
            if len(taken) == len(parameters) and key not in taken:
                raise ConfigError(unknown(f"{name} option", key, taken))
        return name, options

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


def _number_or_text(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
