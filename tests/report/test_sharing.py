"""Work shared with a fork: the same results whoever makes them, and whatever becomes of the fork.

In processes of their own, which have one thread, as the command line has.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from bnstudy.report import sharing
from bnstudy.runs.runner import cores

two_cores = pytest.mark.skipif(
    sys.platform != "linux" or cores() < 2, reason="a helper is for Linux and two cores"
)


def script(body: str) -> list[str]:
    """A program whose ``me`` tells the process that began from its helper."""
    head = """
        import os, time
        from bnstudy.report.sharing import shared_out
        me = os.getpid()
    """
    return [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(body)]


def output(body: str) -> str:
    done = subprocess.run(script(body), capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.stdout


@two_cores
def test_two_processes_make_what_one_would_in_its_order():
    said = output("""
        def make(number):
            time.sleep(0.05)
            return number, os.getpid() == me
        made = shared_out(make, 12)
        print([number for number, _ in made] == list(range(12)), {mine for _, mine in made})
    """)
    assert said == "True {False, True}\n"


@two_cores
@pytest.mark.parametrize("end", ["os._exit(1)", "raise ValueError", "return lambda: 0"])
def test_what_a_helper_does_not_deliver_is_made_here(end):
    said = output(f"""
        def make(number):
            time.sleep(0.05)
            if os.getpid() != me:
                {end}
            return number
        print(shared_out(make, 6))
    """)
    assert said == "[0, 1, 2, 3, 4, 5]\n"


@two_cores
def test_a_helper_that_hangs_is_given_up_and_killed_whatever_it_ignores():
    said = output("""
        import signal
        from bnstudy.report import sharing
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sharing.PATIENCE = 0.2
        def make(number):
            time.sleep(0.05 if os.getpid() == me else 40)
            return number
        started = time.monotonic()
        print(shared_out(make, 4), time.monotonic() - started < 20)
    """)
    assert said == "[0, 1, 2, 3] True\n"


@two_cores
def test_without_a_process_to_be_had_everything_is_made_here():
    said = output("""
        import gc
        def fork():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        os.fork = fork
        print(shared_out(str, 3), gc.get_freeze_count())
    """)
    assert said == "['0', '1', '2'] 0\n"


@two_cores
def test_a_helper_makes_nothing_for_a_process_that_is_gone():
    body = """
        def make(number):
            os.write(1, b"begun\\n")
            time.sleep(0.5)
            return bytes(300_000)  # more than a pipe holds
        shared_out(make, 20)
    """
    running = subprocess.Popen(script(body), stdout=subprocess.PIPE, start_new_session=True)
    assert [running.stdout.readline() for _ in range(2)] == [b"begun\n"] * 2
    running.kill()
    running.communicate(timeout=5)  # until nobody has the pipe open


def test_a_process_that_may_have_no_children_is_not_forked(monkeypatch):
    monkeypatch.setattr(sharing.current_process(), "_config", {"daemon": True})
    assert not sharing.can_fork()


@two_cores
def test_an_error_is_raised_here_and_no_helper_is_left():
    said = output("""
        import multiprocessing
        def make(number):
            raise ValueError(f"page {number}")
        try:
            shared_out(make, 4)
        except ValueError as error:
            print(error, multiprocessing.active_children())
    """)
    assert said.startswith("page ")
    assert said.endswith(" []\n")


@two_cores
def test_ctrl_c_ends_both_and_one_says_so():
    body = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
        def make(number):
            os.write(1, b"begun\\n")
            time.sleep(60)
        shared_out(make, 2)
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
    monkeypatch.setattr(sharing, "get_context", None)  # would raise
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert not sharing.can_fork()
        assert sharing.shared_out(lambda number: number * number, 3) == [0, 1, 4]
    finally:
        stop.set()
        thread.join()


def test_one_piece_of_work_is_done_here(monkeypatch):
    monkeypatch.setattr(sharing, "get_context", None)
    assert sharing.shared_out(lambda number: (number, time.thread_time() > 0), 1) == [(0, True)]
    assert sharing.shared_out(str, 0) == []
