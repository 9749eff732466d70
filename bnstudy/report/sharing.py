"""Work shared out between this process and a fork of it, which sees the same tables.

The pages of a report need the same 200 MB of tables and do not need each other.  A fork has
the tables at once and without a copy; what it made comes back through a pipe.  Nothing
depends on the helper: what it does not deliver is made here.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import current_process, get_context, parent_process
from multiprocessing.connection import Connection
from typing import TypeVar

from bnstudy.runs.runner import cores

PATIENCE = 60.0  # seconds that the helper has for what it still has in hand at the end
Made = TypeVar("Made")


def can_fork() -> bool:
    """Return whether a helper is of use and safe: a fork of several threads may wait for ever."""
    alone = threading.active_count() == 1 and not current_process().daemon
    return alone and sys.platform == "linux" and cores() > 1


def shared_out(make: Callable[[int], Made], count: int) -> list[Made]:
    """Return ``make(0), ..., make(count - 1)``, made by two processes where there can be two.

    Parameters
    ----------
    make
        Gives the same for the same number in a fork of this process; its results can be
        pickled.
    count
        How many.

    Raises
    ------
    Exception
        What ``make`` raises here.
    """
    if count < 2 or not can_fork():
        return [make(number) for number in range(count)]
    context = get_context("fork")
    # Two processes read one pipe, a number of four bytes each time, until it is empty.
    queue, numbers = os.pipe()
    os.set_blocking(numbers, False)
    os.write(numbers, b"".join(number.to_bytes(4) for number in range(count)))
    os.close(numbers)
    ear, mouth = context.Pipe(duplex=False)
    helper = context.Process(target=_help, args=(make, queue, ear, mouth), daemon=True)
    made: dict[int, Made] = {}
    try:
        gc.freeze()  # a collection would write to every object, and each page of memory be copied
        with suppress(OSError):  # no process or memory to be had: then without a helper
            helper.start()
        mouth.close()
        _work(make, queue, made)
        with suppress(EOFError, OSError):
            if ear.poll(PATIENCE):
                made |= ear.recv()
        return [made[number] if number in made else make(number) for number in range(count)]
    finally:
        gc.unfreeze()
        os.close(queue)
        ear.close()
        if helper.pid is not None:
            helper.kill()
            helper.join()


def _work(make: Callable[[int], Made], queue: int, made: dict[int, Made]) -> None:
    launcher = parent_process()
    while (launcher is None or launcher.is_alive()) and (taken := os.read(queue, 4)):
        number = int.from_bytes(taken)
        made[number] = make(number)


def _help(make: Callable[[int], Made], queue: int, ear: Connection, mouth: Connection) -> None:
    ear.close()  # so that nobody listens when the first process is gone
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches both; one of them says so
    made: dict[int, Made] = {}
    with suppress(Exception):  # it will be raised again where it can be told
        _work(make, queue, made)
    with suppress(Exception):  # nobody listens any more, or it cannot be sent
        mouth.send(made)
