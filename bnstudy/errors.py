"""Every error that a user can cause.

::

    BnstudyError
    ├── ConfigError          a setting that no run can have
    ├── DataError
    │   ├── DataNotFoundError    no source has the images
    │   └── DataCorruptError     a file is there, but is not what it should be
    ├── StoreError
    │   ├── DamagedRunError      a file of a finished run was cut or edited
    │   └── PlanMismatchError    the store holds the runs of another plan
    ├── NotMeasuredError     a run does not hold what a claim reads
    ├── RunFailedError       some runs crashed; the rest are kept
    ├── ReportError          nothing to report, or nowhere to write it
    └── WatchError           a module cannot be watched that way, or holds no such record

A message is one line: the invariant, what was given, the remedy.  The command
line prints it after ``error:`` and exits with status 1; nothing else may reach
a user as a traceback.  :func:`unknown` writes the line of every word that is
not among those there are.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class BnstudyError(Exception):
    """Base of every error a user can cause."""


class ConfigError(BnstudyError, ValueError):
    """A setting that no run can have."""


class DataError(BnstudyError):
    """The images cannot be used."""


class DataNotFoundError(DataError, FileNotFoundError):
    """No source has the images."""


class DataCorruptError(DataError, ValueError):
    """A data file is present, but is not what it should be."""


class StoreError(BnstudyError):
    """The store of runs cannot be used."""


class DamagedRunError(StoreError):
    """A file of a finished run was cut or edited."""


class PlanMismatchError(StoreError):
    """The store holds the runs of another plan."""


class NotMeasuredError(BnstudyError):
    """A run does not hold what a claim reads of it; the claim has no verdict then."""


class RunFailedError(BnstudyError):
    """Some runs crashed; those that finished are kept."""


class ReportError(BnstudyError):
    """There is nothing to report, or nowhere to write it."""


class WatchError(BnstudyError, ValueError):
    """A module cannot be watched that way, or a recording holds nothing of the kind."""


def unknown(kind: str, word: object, choices: Iterable[str]) -> str:
    """Return the message for a word that is not among the choices.

    Parameters
    ----------
    kind
        What the word should name, such as ``profile``.
    word
        The word that was given.
    choices
        The words there are.

    Returns
    -------
    str
        With the nearest choice, or all of them if none is near.

    Examples
    --------
    >>> unknown("profile", "quik", ["tiny", "quick"])
    "there is no profile 'quik': did you mean 'quick'?"
    >>> unknown("profile", "big", ["tiny", "quick"])
    "there is no profile 'big': choose one of tiny, quick"
    """
    known = list(choices)
    near = difflib.get_close_matches(str(word), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
    return f"there is no {kind} {word!r}: {hint}"


def find(
    kind: str, word: str, choices: Mapping[str, Value], error: type[BnstudyError] = ConfigError
) -> Value:
    """Return what a word stands for.

    Raises
    ------
    BnstudyError
        Of the type ``error``, if the word is unknown.
    """
    if word in choices:
        return choices[word]
    raise error(unknown(kind, word, choices))
