"""From a plan to a full store: plan minus store -> jobs -> worker processes -> store.

A worker writes its runs into the store itself, under their claims.  So two
launchers on one store share the work, and a process that is killed loses no more
than the job it was doing.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from bnstudy.data import Dataset
from bnstudy.engines.optimizers import check_optimizer
from bnstudy.errors import BnstudyError, ConfigError, PlanMismatchError, StoreError
from bnstudy.plan import Plan
from bnstudy.runs.jobs import (
    Job,
    RunResult,
    WorkerSetup,
    choose_engine,
    image_passes,
    make_trainer,
    plan_jobs,
)
from bnstudy.runs.processes import TICK_SECONDS, Pool, collect, refuse_while_starting
from bnstudy.runs.progress import Listener, Progress, Workload
from bnstudy.runs.provenance import commit, machine, versions
from bnstudy.runs.registration import freeze
from bnstudy.runs.shared_data import SharedDataset
from bnstudy.runs.store import FINISHED, RunKey, Store, identify
from bnstudy.runs.tables import read_tables

# image-passes per second and worker, evaluation included; used until a run was timed
ASSUMED_RATES = {"reference": 10_000.0, "lockstep": 40_000.0}


@dataclass
class Summary:
    """Result of a call of :func:`run_study`.

    Attributes
    ----------
    trained, skipped
        Runs trained now, and runs that were there before.
    failed
        One line for each run that failed.
    left
        Runs that are still to be trained.
    interrupted
        Whether Ctrl-C ended it.
    wall_seconds
        Time that the call took.
    """

    trained: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    left: int = 0
    interrupted: bool = False
    wall_seconds: float = 0.0


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_study(
    plan: Plan,
    store: Store,
    dataset: Dataset,
    *,
    workers: int | None = None,
    device: str = "cpu",
    engine: str = "auto",
    dry_run: bool = False,
    listener: Listener | None = None,
) -> Summary:
    """Train every run of a plan that the store does not have.

    Parameters
    ----------
    plan, store
        The runs there should be, and those there are.
    dataset
        The images that the plan names; workers train on these tensors as they are now.
    workers
        Number of processes, each with one thread.  If None, one per core; with the
        lockstep engine on a GPU, one.
    device
        A torch device.
    engine
        ``reference``; ``lockstep``; or ``auto``: lockstep where it is
        available, supports the arm and has at least four seeds to train.
    dry_run
        Only report what would be done; nothing is trained or written.
    listener
        Receives notes, the workload of a dry run, and progress.

    Returns
    -------
    Summary
        Also if Ctrl-C ended the call, or runs failed.

    Raises
    ------
    ConfigError
        If ``workers`` is below 1, there is no such device or engine, or worker processes
        cannot import the program that calls this.
    StoreError
        If the disk is full; finished runs stay.
    PlanMismatchError
        If the images are not those of the plan, or the store holds the runs of another plan.
    RunFailedError
        If no worker process can start.
    """
    refuse_while_starting()
    check_workers(workers)
    check_device(device)
    check_images(plan, dataset)
    for planned in plan.experiments:
        for arm in planned.arms:
            check_optimizer(arm.config)
    started, listener = time.perf_counter(), listener or Listener()
    # experiments may share a run: it is trained once, for the last of them
    keys = list(
        {key.id: key for run in plan.runs for key in [identify(run, plan.data.digest)]}.values()
    )
    statuses = store.statuses(keys)
    todo = [key for key in keys if statuses[key.id] not in FINISHED]
    engine = choose_engine(engine, device, listener.note)
    count = workers or (1 if engine != "reference" and device != "cpu" else cores())
    costs = {key.id: image_passes(key.run.arm.config, plan.data) for key in todo}
    jobs = plan_jobs(todo, engine, device, plan.data)
    # the longest first: at the end no worker waits long for another
    jobs.sort(key=lambda job: -expected_seconds(job, costs, ASSUMED_RATES))
    if dry_run:
        listener.planned(workload(plan, store, keys, statuses, jobs, costs, count))
        return Summary(skipped=len(keys) - len(todo), left=len(todo))
    try:
        freeze(store.root, plan)
        for key in todo:
            if statuses[key.id] == "damaged":
                aside = store.set_aside(key).relative_to(store.root)
                listener.note(f"damaged run kept aside as {aside}, training it again")
        summary = Summary(skipped=len(keys) - len(todo))
        if todo:
            shared = SharedDataset(dataset, store.root)
            setup = WorkerSetup(store.root, shared, device, origin(dataset, device))
            try:
                _train(jobs, costs, setup, min(count, len(jobs)), summary, listener)
            finally:
                shared.close()
    except OSError as error:
        if isinstance(error, BnstudyError):
            raise
        raise StoreError(f"{store.root} cannot be written ({error.strerror})") from None
    summary.wall_seconds = time.perf_counter() - started
    return summary


def check_workers(workers: int | None) -> None:
    """Refuse a number of worker processes below 1.

    Raises
    ------
    ConfigError
        Naming the number.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")


def check_images(plan: Plan, dataset: Dataset) -> None:
    """Refuse images that are not those of the plan.

    Raises
    ------
    PlanMismatchError
        With both checksums.
    """
    digest = dataset.digest
    if digest != plan.data.digest:
        raise PlanMismatchError(
            f"the images must be those that the plan was made for ({plan.data.name}, sha256 "
            f"{plan.data.digest[:12]}...), got {dataset.name} with {digest[:12]}...: give "
            "those, or make the plan with DataIdentity.of(dataset)"
        )


def check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises
    ------
    ConfigError
        Naming the device.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(f"there is no device {device!r} here: choose cpu") from None


def origin(dataset: Dataset, device: str) -> dict[str, Any]:
    """Return the provenance that all runs of a call share."""
    accelerator = {}
    if torch.device(device).type == "cuda":
        accelerator = {"accelerator": torch.cuda.get_device_name(device)}
    return {
        "device": device,
        **accelerator,
        "threads": 1,
        "data": {"source": dataset.source, "sample": dataset.is_sample},
        "git": commit(),
        "versions": versions(),
        "machine": machine(),
    }


def workload(
    plan: Plan,
    store: Store,
    keys: list[RunKey],
    statuses: Mapping[str, str],
    jobs: list[Job],
    costs: Mapping[str, int],
    workers: int,
) -> Workload:
    """Return what would be trained, and an estimate of the time it takes."""
    by_experiment = {
        planned.experiment.name: Counter(
            statuses[key.id] for key in keys if key.run.experiment == planned.experiment.name
        )
        for planned in plan.experiments
    }
    rates, measured = measured_rates(plan, store)
    seconds = [expected_seconds(job, costs, rates) for job in jobs]
    stacks = sum(job.engine == "lockstep" for job in jobs)
    return Workload(
        statuses=by_experiment,
        runs=len(costs),
        stacks=stacks,
        single_runs=len(jobs) - stacks,
        image_passes=sum(costs.values()),
        workers=workers,
        # no sooner than the longest job, however many workers there are
        seconds=max(sum(seconds) / workers, max(seconds, default=0.0)),
        measured=measured,
    )


def expected_seconds(job: Job, costs: Mapping[str, int], rates: Mapping[str, float]) -> float:
    """Return the time that a job takes one worker, at image-passes per second by engine."""
    return sum(costs[key.id] for key in job.keys) / rates[job.engine]


def measured_rates(plan: Plan, store: Store) -> tuple[dict[str, float], bool]:
    """Return image-passes per second of one worker by engine, and whether any was measured."""
    runs = read_tables(store, plan).runs
    if "images_per_second" not in runs or not (runs["status"] != "missing").any():
        return ASSUMED_RATES, False
    found = runs.groupby("engine")["images_per_second"].median().dropna()
    measured = {str(engine): float(rate) for engine, rate in found.items()}
    return {**ASSUMED_RATES, **measured}, True


def _train(
    jobs: list[Job],
    costs: Mapping[str, int],
    setup: WorkerSetup,
    workers: int,
    summary: Summary,
    listener: Listener,
) -> None:
    """Give out jobs and collect their results until no run is left."""
    pending, elsewhere = deque(jobs), deque[Job]()
    started, done, passes = time.perf_counter(), list[int](), sum(costs.values())

    def tell() -> None:
        seconds = time.perf_counter() - started
        listener.progressed(Progress(len(done), len(costs), sum(done), passes, seconds))

    tell()
    attempts: Counter[Job] = Counter()
    summary.left = sum(len(job.keys) for job in jobs)
    pool = Pool(workers, make_trainer, setup)
    try:
        while summary.left:
            for job, results in collect(pool, pending, attempts):
                if results is None:
                    results = [RunResult("failed", "its process was killed (out of memory?)")]
                    results *= len(job.keys)
                for key, result in zip(job.keys, results, strict=True):
                    if result.kind == "elsewhere":
                        elsewhere.append(Job((key,), "reference"))
                    else:
                        _count(key, result, summary)
                        done.append(costs[key.id])
                tell()
            if not pending and elsewhere and pool.idle:
                # another launcher trains it: ask again until it is done, or train it here
                pending.append(elsewhere.popleft())
                time.sleep(TICK_SECONDS)
    except KeyboardInterrupt:
        summary.interrupted = True
    finally:
        pool.close()


def _count(key: RunKey, result: RunResult, summary: Summary) -> None:
    """Add the result of a run to the summary.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    if result.kind == "no-space":
        raise StoreError(
            f"the disk is full: {result.reason}; finished runs are kept, free some "
            "space and run the same command again"
        )
    summary.left -= 1
    if result.kind == "failed":
        summary.failed.append(f"{name_of(key)}: {result.reason}")
    else:
        summary.trained += 1


def name_of(key: RunKey) -> str:
    """Name a run for a person."""
    return f"{key.run.experiment}, arm {key.run.arm.name}, seed {key.run.seed}"
