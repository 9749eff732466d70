"""The pool of worker processes: what it collects, replaces, and leaves as it was."""

import os
import signal
import sys

import pytest

from bnstudy.errors import ConfigError, RunFailedError
from bnstudy.runs.processes import ENVIRONMENT, Pool, check_importable, worker_environment


def doubler(setup):
    def do(job):
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return job * setup

    return do


def test_a_pool_knows_which_job_died_and_replaces_the_worker():
    pool = Pool(2, doubler, 2)
    try:
        collected = {}
        for job in (3, "die"):
            pool.give(pool.idle[0], job)
        while len(collected) < 2:
            collected |= dict(pool.results(1.0))
        assert collected == {3: 6, "die": None}
        pool.give(pool.idle[-1], 5)
        while 5 not in collected:
            collected |= dict(pool.results(1.0))
        assert collected[5] == 10
    finally:
        pool.close()


def test_the_environment_of_workers_is_put_back():
    before = dict(os.environ)
    with worker_environment():
        assert {name: os.environ[name] for name in ENVIRONMENT} == ENVIRONMENT
    assert dict(os.environ) == before


def broken(setup):
    raise ValueError("no such\nthing")


def killed(setup):
    os.kill(os.getpid(), signal.SIGKILL)


def gone(setup):
    os._exit(3)


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (broken, "ValueError: no such thing"),
        (killed, "it was killed by SIGKILL (out of memory?)"),
        (gone, "it ended with status 3, see its own message above"),
    ],
)
def test_a_pool_whose_workers_cannot_start_says_why_at_once(make, cause):
    pool = Pool(2, make, None)
    try:
        pool.give(pool.idle[0], 1)
        with pytest.raises(RunFailedError) as refusal:
            pool.results(60.0)
        assert str(refusal.value) == (f"no worker process gets as far as its first job: {cause}")
    finally:
        pool.close()


def test_a_program_that_is_no_file_cannot_be_imported_by_workers(monkeypatch):
    main = type(sys)("__main__")
    main.__file__, main.__spec__ = "<stdin>", None
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(ConfigError) as refusal:
        check_importable()
    assert str(refusal.value) == (
        "worker processes import the program that starts them, got '<stdin>', which is no file: "
        "save the program as one, or train in this process with workers=1 where that is offered"
    )
