"""Worker processes that outlive neither their launcher nor their own death.

A small pool instead of ``concurrent.futures``, where one killed worker breaks the
pool and loses every job in progress, and the workers of a killed launcher train
on unseen.  Here a worker that dies is replaced and only its job is lost, and a
worker whose launcher dies ends at once.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

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


@dataclass
class Worker:
    """A process, the pipe to it, and the job it is doing (None when idle)."""

    process: SpawnProcess
    pipe: Connection
    job: Any = None


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
    """

    def __init__(self, count: int, make: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
        # not "fork": a forked child of a process with threads, such as torch's, may hang
        self._context = get_context("spawn")
        self._make, self._setup = make, setup
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
        """
        busy = [worker for worker in self.workers if worker.job is not None]
        ready = connection.wait([worker.pipe for worker in busy], timeout)
        return [self._collect(worker) for worker in busy if worker.pipe in ready]

    def _collect(self, worker: Worker) -> tuple[Any, Any]:
        job, worker.job = worker.job, None
        try:
            return job, worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.pipe.close()
            with worker_environment():
                self.workers[self.workers.index(worker)] = self._start()
            return job, None

    def close(self) -> None:
        """Kill all processes, whatever they are doing."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()


def _serve(pipe: Connection, make: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
    """Do jobs until the pipe closes."""
    # Ctrl-C goes to every process of the terminal; the launcher alone decides what it ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    do = make(setup)
    try:
        while True:
            pipe.send(do(pipe.recv()))
    except (EOFError, BrokenPipeError):
        return


def _end_with_launcher() -> None:
    launcher = parent_process()
    if launcher is not None:
        connection.wait([launcher.sentinel])
        os._exit(1)
