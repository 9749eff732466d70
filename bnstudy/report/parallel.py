"""Pages of a report made by forked processes, which see the tables without a copy.

Making the pages takes nearly all the time of a report.  They need the same 200 MB
of tables and do not depend on each other.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process, get_context, parent_process
from typing import Any, TypeVar

from bnstudy.runs.runner import cores

Made = TypeVar("Made")
_task: Callable[[int], Any]  # of a forked process; a closure cannot be pickled, but is inherited


def can_fork() -> bool:
    """Return whether forking is useful and safe: a fork of several threads may deadlock."""
    single = threading.active_count() == 1 and not current_process().daemon
    return single and sys.platform == "linux" and cores() > 1


def map_forked(make: Callable[[int], Made], count: int) -> list[Made]:
    """Return ``make(0), ..., make(count - 1)``, made by forked processes where possible.

    Parameters
    ----------
    make
        Gives the same for the same number in a fork of this process; its results can be
        pickled.
    count
        Number of results.

    Raises
    ------
    Exception
        As ``make`` raises it.
    """
    if count > 1 and can_fork():
        gc.freeze()  # a collection would write to every object, and so copy each page of memory
        try:
            with ProcessPoolExecutor(
                min(cores(), count), get_context("fork"), _start, (make,)
            ) as pool:
                return list(pool.map(_run, range(count)))
        except (BrokenProcessPool, OSError):
            pass  # a process was killed, or none could be started: without them, then
        finally:
            gc.unfreeze()
    return [make(number) for number in range(count)]


def _start(make: Callable[[int], Any]) -> None:
    """Prepare a forked process."""
    global _task
    _task = make
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # Ctrl-C reaches all processes of the terminal; only the first reports it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone: a pool's process would wait forever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(number: int) -> Any:
    return _task(number)
