"""Forked processes: the same results as without them, and none left when something fails.

The scripts run in processes of their own, which have one thread like the command line.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from bnstudy.report import parallel
from bnstudy.runs.runner import cores

two_cores = pytest.mark.skipif(
    sys.platform != "linux" or cores() < 2, reason="forking is for Linux and two cores"
)


def script(body: str) -> list[str]:
    """A program whose ``me`` tells the first process from its forks."""
    head = """
        import os, time
        from bnstudy.report.parallel import map_forked
        me = os.getpid()
    """
    return [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(body)]


def output(body: str) -> str:
    done = subprocess.run(script(body), capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.stdout


@two_cores
def test_forked_processes_give_the_results_in_order():
    said = output("""
        def make(number):
            time.sleep(0.05)
            return number, os.getpid() == me
        made = map_forked(make, 12)
        print([number for number, _ in made] == list(range(12)), {mine for _, mine in made})
    """)
    assert said == "True {False}\n"


@two_cores
def test_pages_of_a_killed_process_are_made_here():
    said = output("""
        def make(number):
            time.sleep(0.05)
            if os.getpid() != me:
                os._exit(1)
            return number
        print(map_forked(make, 6))
    """)
    assert said == "[0, 1, 2, 3, 4, 5]\n"


@two_cores
def test_without_free_processes_everything_is_made_here():
    said = output("""
        import gc
        def fork():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        os.fork = fork
        print(map_forked(str, 3), gc.get_freeze_count())
    """)
    assert said == "['0', '1', '2'] 0\n"


@two_cores
def test_forked_processes_end_with_the_first_one():
    body = """
        def make(number):
            os.write(1, b"begun\\n")
            time.sleep(0.5)
            return bytes(300_000)  # more than a pipe holds
        map_forked(make, 20)
    """
    running = subprocess.Popen(script(body), stdout=subprocess.PIPE, start_new_session=True)
    assert [running.stdout.readline() for _ in range(2)] == [b"begun\n"] * 2
    running.kill()
    running.communicate(timeout=5)  # until nobody has the pipe open


def test_a_process_that_may_have_no_children_is_not_forked(monkeypatch):
    monkeypatch.setattr(parallel.current_process(), "_config", {"daemon": True})
    assert not parallel.can_fork()


@two_cores
def test_an_error_is_raised_here_and_no_process_is_left():
    said = output("""
        import multiprocessing
        def make(number):
            raise ValueError(f"page {number}")
        try:
            map_forked(make, 4)
        except ValueError as error:
            print(error, multiprocessing.active_children())
    """)
    assert said.startswith("page ")
    assert said.endswith(" []\n")


@two_cores
def test_ctrl_c_ends_all_and_one_reports_it():
    body = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
        def make(number):
            os.write(1, b"begun\\n")
            time.sleep(60)
        map_forked(make, 2)
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(script(body), text=True, start_new_session=True, **pipes)
    assert [running.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert errors.count("KeyboardInterrupt") == 1
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)


def test_a_process_of_several_threads_is_not_forked(monkeypatch):
    monkeypatch.setattr(parallel, "get_context", None)  # would raise
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert not parallel.can_fork()
        assert parallel.map_forked(lambda number: number * number, 3) == [0, 1, 4]
    finally:
        stop.set()
        thread.join()


def test_one_piece_of_work_is_done_here(monkeypatch):
    monkeypatch.setattr(parallel, "get_context", None)
    assert parallel.map_forked(lambda number: (number, time.thread_time() > 0), 1) == [(0, True)]
    assert parallel.map_forked(str, 0) == []
