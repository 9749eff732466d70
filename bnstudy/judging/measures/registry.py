"""What a measure is: a named function from a run, and options, to one number.

Every measure follows the same rule for a run that diverged: it stays, with the value
of a network that guesses, or censored at the horizon.  Add one with :func:`measure`,
from inside or outside the package.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Real

from bnstudy.errors import ConfigError, NotMeasuredError, find
from bnstudy.judging.measures.run import Reading, Run
from bnstudy.plan import Option
from bnstudy.registry import is_own

Measure = Callable[..., Reading]
MEASURES: dict[str, Measure] = {}


def measure(name: str, *, replace: bool = False) -> Callable[[Measure], Measure]:
    """Register a measure under a name that claims and exhibits can use.

    Parameters
    ----------
    name
        The word that claims and exhibits ask for it by.
    replace
        Whether to replace an earlier measure of that name, as when the cell of a notebook runs
        again.  Those of the package are never replaced.

    Raises
    ------
    ConfigError
        If the name is taken.
    """

    def register(function: Measure) -> Measure:
        if name in MEASURES and is_own(MEASURES[name]):
            raise ConfigError(
                f"there is a measure {name!r} already, one of the package: choose another name"
            )
        if name in MEASURES and not replace:
            raise ConfigError(
                f"there is a measure {name!r} already: choose another name, or pass replace=True"
            )
        MEASURES[name] = function
        return function

    return register


def find_measure(name: str, options: Mapping[str, Option]) -> Measure:
    """Return the measure of a name, if it takes these options.

    Raises
    ------
    ConfigError
        If there is no such measure, or it has no such option, or lacks one.
    """
    function = find("measure", name, MEASURES)
    try:
        inspect.signature(function).bind(None, **options)
    except TypeError as error:
        raise ConfigError(
            f"measure {name!r} does not take the options {dict(options)!r}: {error}"
        ) from None
    return function


def read(run: Run, name: str, options: Mapping[str, Option]) -> Reading:
    """Return what a measure reads of a run.

    Raises
    ------
    ConfigError
        If there is no such measure, it does not take these options, or it does not
        return a reading.
    NotMeasuredError
        If the run does not hold what it reads.
    """
    asked = name, *sorted(options.items())
    if asked not in run.readings:
        found = find_measure(name, options)(run, **options)
        if not isinstance(found, Reading) or not isinstance(found.value, Real):
            raise ConfigError(
                f"measure {name!r} must return a Reading of a number, got {found!r}: "
                "write return Reading(value)"
            )
        run.readings[asked] = found
    reading = run.readings[asked]
    if not math.isfinite(reading.value):
        raise NotMeasuredError(f"{name} is not finite")
    return reading
