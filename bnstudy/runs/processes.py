"""Worker processes that outlive neither their launcher nor their own death.

A small pool instead of ``concurrent.futures``, where one killed worker breaks the
pool and loses every job in progress, and the workers of a killed launcher train
on unseen.  Here a worker that dies is replaced and only its job is lost, and a
worker whose launcher dies ends at once.  If no worker gets as far as its first job,
none ever will: the pool says why instead of trying again.
"""

import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, current_process, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from bnstudy.errors import BnstudyError, ConfigError, RunFailedError

ATTEMPTS = 3  # at a job whose worker dies
TICK_SECONDS = 0.5
UNGUARDED = 97  # exit status of a worker that would start workers while it is itself starting
# One thread per process, and an allocator that keeps its pages: with glibc's
# defaults a training step at batch 256 faults in some 10 MB every time.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "GLIBC_TUNABLES": ":".join(
        (
            "glibc.malloc.mmap_threshold=4294967296",
            "glibc.malloc.trim_threshold=4294967296",
            "glibc.malloc.top_pad=268435456",
            "glibc.malloc.hugetlb=1",
        )
    ),
}


@contextmanager
def worker_environment() -> Iterator[None]:
    """Give the processes that are started within it :data:`ENVIRONMENT`."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def refuse_while_starting() -> None:
    """End a worker process that is just importing the program which started it.

    A program that trains when it is imported would start workers in each worker.  It is
    called first of all by whatever trains, so that none of the work is done twice.
    """
    # multiprocessing itself tells a process that is starting by this attribute
    if getattr(current_process(), "_inheriting", False):
        raise SystemExit(UNGUARDED)


def check_importable() -> None:
    """Refuse a main program that worker processes cannot import, such as one from stdin.

    Raises
    ------
    ConfigError
        If it has the name of a file that is not there.
    """
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if spec is None and file is not None and not os.path.isfile(file):
        raise ConfigError(
            f"worker processes import the program that starts them, got {str(file)!r}, which is "
            "no file: save the program as one, or train in this process with workers=1 where "
            "that is offered"
        )


@dataclass
class Worker:
    """A process, the pipe to it, the job it is doing (None when idle), whether it has started."""

    process: SpawnProcess
    pipe: Connection
    job: Any = None
    started: bool = False


class Pool:
    """Processes, each of which does one job at a time.

    Parameters
    ----------
    count
        Number of processes.
    make
        Function that is called once in each process with ``setup`` and returns the
        function that does a job.  It must be importable, and ``setup``, jobs and
        results picklable.
    setup
        Argument of ``make``.

    Raises
    ------
    ConfigError
        If the main program cannot be imported by processes.
    """

    def __init__(self, count: int, make: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
        refuse_while_starting()
        check_importable()
        # not "fork": a forked child of a process with threads, such as torch's, may hang
        self._context = get_context("spawn")
        self._make, self._setup = make, setup
        self._any_started = False
        with worker_environment():
            self.workers = [self._start() for _ in range(count)]

    def _start(self) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._make, self._setup), daemon=True
        )
        process.start()
        theirs.close()  # else the pipe would stay open, and a dead worker go unnoticed
        return Worker(process, ours)

    @property
    def idle(self) -> list[Worker]:
        """Workers without a job."""
        return [worker for worker in self.workers if worker.job is None]

    def give(self, worker: Worker, job: Any) -> None:
        """Give an idle worker a job; :meth:`results` notices if the worker is dead."""
        worker.job = job
        try:
            worker.pipe.send(job)
        except OSError:
            worker.process.kill()

    def results(self, timeout: float) -> list[tuple[Any, Any]]:
        """Wait for jobs to end, at most ``timeout`` seconds.

        Returns
        -------
        list of (job, result)
            The result is None if the worker died; it was replaced.

        Raises
        ------
        ConfigError
            If the main program starts workers when it is imported.
        RunFailedError
            If a worker ended before its first job, and none ever got further.
        """
        ready = connection.wait([worker.pipe for worker in self.workers], timeout)
        collected = [self._collect(each) for each in list(self.workers) if each.pipe in ready]
        return [found for found in collected if found is not None]

    def _collect(self, worker: Worker) -> tuple[Any, Any] | None:
        """Return a job and its result; None if the worker only says that it has started."""
        try:
            started, message = worker.pipe.recv()
        except (EOFError, OSError):  # it died
            started, message = False, ""
        if not started:
            return self._replace(worker, cause=message)
        if not worker.started:
            worker.started = self._any_started = True
            return None
        job, worker.job = worker.job, None
        return job, message

    def _replace(self, worker: Worker, cause: str) -> tuple[Any, Any] | None:
        """Start another process for one that died; return the job that was lost, if any."""
        worker.process.join()
        worker.pipe.close()
        if not self._any_started:
            raise _start_failure(worker.process.exitcode, cause)
        with worker_environment():
            self.workers[self.workers.index(worker)] = self._start()
        return None if worker.job is None else (worker.job, None)

    def close(self) -> None:
        """Kill all processes, whatever they are doing."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()


def _start_failure(status: int | None, cause: str) -> BnstudyError:
    """Return the error for a worker that ended before its first job."""
    if status == UNGUARDED:
        return ConfigError(
            "worker processes import the program that starts them, and this one trains when it is "
            "imported: put that part under if __name__ == '__main__':, or train in this process "
            "with workers=1 where that is offered"
        )
    if status is not None and status < 0:
        cause = f"it was killed by {signal.Signals(-status).name} (out of memory?)"
    cause = cause or f"it ended with status {status}, see its own message above"
    return RunFailedError(f"no worker process gets as far as its first job: {cause}")


def collect(pool: Pool, pending: deque[Any], attempts: Counter[Any]) -> list[tuple[Any, Any]]:
    """Give pending jobs to idle workers, and wait for some to end.

    Parameters
    ----------
    pool
        The processes.
    pending
        Jobs to do.  One whose worker died is put back, up to :data:`ATTEMPTS` times.
    attempts
        How often a worker has died of each job; it is counted here.

    Returns
    -------
    list of (job, result)
        The result is None for a job that is given up.
    """
    for worker in pool.idle:
        if pending:
            pool.give(worker, pending.popleft())
    ended = []
    for job, result in pool.results(TICK_SECONDS):
        attempts[job] += result is None
        if result is None and attempts[job] < ATTEMPTS:
            pending.append(job)
        else:
            ended.append((job, result))
    return ended


def one_line(error: Exception) -> str:
    """Return an error as one line, with its kind if it was not foreseen."""
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, BnstudyError) else f"{type(error).__name__}: {text}"


def _serve(pipe: Connection, make: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
    """Do jobs until the pipe closes."""
    # Ctrl-C goes to every process of the terminal; the launcher alone decides what it ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        do = make(setup)
    except Exception as error:
        pipe.send((False, one_line(error)))
        return
    pipe.send((True, None))
    try:
        while True:
            pipe.send((True, do(pipe.recv())))
    except (EOFError, BrokenPipeError):
        return


def _end_with_launcher() -> None:
    launcher = parent_process()
    if launcher is not None:
        connection.wait([launcher.sentinel])
        os._exit(1)
