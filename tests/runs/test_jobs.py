"""Jobs: what a worker reports of them."""

import pytest

from bnstudy.engines.lockstep import available
from bnstudy.errors import ConfigError
from bnstudy.experiments import EXPERIMENTS
from bnstudy.plan import PROFILES, make_plan
from bnstudy.runs import jobs
from bnstudy.runs.store import identify
from tests.identities import FASHION
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


@pytest.mark.skipif(not available()[0], reason="no kernel here")
def test_of_the_standard_study_only_proofs_are_left_to_the_reference_engine():
    plan = make_plan(tuple(EXPERIMENTS.values()), PROFILES["standard"], FASHION)
    keys = [identify(run, plan.data.digest) for run in plan.runs]
    left = {
        (key.run.experiment, key.run.arm.name, key.run.seed)
        for job in jobs.plan_jobs(keys, "auto", data=plan.data)
        for key in job.keys
        if job.engine == "reference"
    }
    proofs = {("source", "scratch"): 4, ("activations", "none/recorded"): 2}
    proofs |= {("activations", "bn/recorded"): 2}
    assert left == {(*arm, seed) for arm, seeds in proofs.items() for seed in range(seeds)}
