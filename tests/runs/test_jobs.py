"""Jobs: what a worker reports of them."""

import pytest

from bnstudy.errors import ConfigError
from bnstudy.runs import jobs
from bnstudy.runs.store import identify
from tests.plans import plan_of


def test_a_worker_reports_a_full_disk_as_such(sample, tmp_path, monkeypatch):
    plan = plan_of(sample, seeds=1)
    do = jobs.make_trainer(jobs.WorkerSetup(tmp_path, sample, "cpu", {}))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bnstudy.runs.store.write_whole", full)
    key = identify(plan.runs[0], plan.data.digest)
    assert [each.kind for each in do(jobs.Job((key,), "reference"))] == ["no-space"]


def test_an_engine_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ConfigError) as refusal:
        jobs.choose_engine("warp", "cpu", print)
    assert str(refusal.value) == (
        "there is no engine 'warp': choose one of auto, reference, lockstep"
    )
