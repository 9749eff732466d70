"""The pool of worker processes: what it collects, replaces, and leaves as it was."""

import os
import signal

from bnstudy.runs.processes import ENVIRONMENT, Pool, worker_environment


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
