"""What a measure is: a named function from a run, and options, to one number.

Every measure follows the same rule for a run that diverged: it stays, with the value
of a network that guesses, or censored at the horizon.  Add one with :func:`measure`,
from inside or outside the package.
"""

import inspect
import math
from collections.abc import Callable, Mapping

from bnstudy.errors import ConfigError, NotMeasuredError, find
from bnstudy.judging.measures.run import Reading, Run
from bnstudy.plan import Option

Measure = Callable[..., Reading]
MEASURES: dict[str, Measure] = {}


def measure(name: str) -> Callable[[Measure], Measure]:
    """Register a measure under a name that claims and exhibits can use.

    Raises
    ------
    ConfigError
        If the name is taken.
    """

    def register(function: Measure) -> Measure:
        if name in MEASURES:
            raise ConfigError(f"there is a measure {name!r} already: choose another name")
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
        If there is no such measure, or it does not take these options.
    NotMeasuredError
        If the run does not hold what it reads.
    """
    asked = name, *sorted(options.items())
    if asked not in run.readings:
        run.readings[asked] = find_measure(name, options)(run, **options)
    reading = run.readings[asked]
    if not math.isfinite(reading.value):
        raise NotMeasuredError(f"{name} is not finite")
    return reading
