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
a user as a traceback.
"""


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
