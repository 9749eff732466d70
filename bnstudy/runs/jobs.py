"""Jobs: the runs that are trained together, the engine that trains them, and a worker's work.

A job is one run for the reference engine, or a stack for the lockstep engine:
as many seeds of an arm as the kernel has lanes, or more on a GPU.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from bnstudy.config import RunConfig, canonical_json
from bnstudy.data import DataIdentity, Dataset, Splits, split
from bnstudy.engines import train
from bnstudy.engines.lockstep import available, stack_size, unsupported
from bnstudy.engines.probes import all_scheduled
from bnstudy.engines.training import Options
from bnstudy.errors import ConfigError, unknown
from bnstudy.runs.processes import one_line
from bnstudy.runs.shared_data import SharedDataset
from bnstudy.runs.store import FINISHED, RunKey, Store

ENGINES = ("auto", "reference", "lockstep")
FEWEST_SEEDS = 4  # with fewer, most lanes of a stack would be idle
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Job:
    """Runs that are trained together: one, or a stack of one arm.

    Attributes
    ----------
    keys
        The runs.
    engine
        ``reference`` or ``lockstep``.
    """

    keys: tuple[RunKey, ...]
    engine: str


@dataclass(frozen=True)
class RunResult:
    """Result of an attempt to train a run.

    Attributes
    ----------
    kind
        ``trained``; ``elsewhere`` if another launcher is training it; ``failed``;
        or ``no-space`` if the disk is full.
    reason
        Cause of the last two, in one line.
    """

    kind: str
    reason: str = ""


@dataclass(frozen=True)
class WorkerSetup:
    """Settings of a worker process, sent to it once.

    Attributes
    ----------
    root
        Folder of the store that it writes to.
    dataset
        The images; a :class:`SharedDataset` arrives in the worker as a data set.
    device
        A torch device.
    provenance
        The part that all runs of a call share.
    """

    root: Path
    dataset: Dataset | SharedDataset
    device: str
    provenance: Mapping[str, Any]


def choose_engine(engine: str, device: str, note: Callable[[str], None]) -> str:
    """Return the engine that is possible here: ``auto``, ``lockstep`` or ``reference``.

    Parameters
    ----------
    engine
        The one that was asked for.
    device
        A torch device.
    note
        Receives a line if ``auto`` becomes ``reference``.

    Raises
    ------
    ConfigError
        If there is no such engine, or lockstep was asked for and is unavailable.
    """
    if engine not in ENGINES:
        raise ConfigError(unknown("engine", engine, ENGINES))
    if engine == "reference":
        return engine
    possible, reason = available(device)
    if not possible and engine == "lockstep":
        raise ConfigError(
            f"the lockstep engine is unavailable: {reason}; choose --engine reference"
        )
    if not possible:
        note(f"reference engine: the faster lockstep engine is unavailable, {reason}")
    return engine if possible else "reference"


def plan_jobs(
    keys: list[RunKey], engine: str, device: str = "cpu", data: DataIdentity | None = None
) -> list[Job]:
    """Group runs into jobs in their order, a stack at the position of its first run.

    Parameters
    ----------
    keys
        The runs.
    engine
        ``auto``, ``lockstep`` or ``reference``.
    device
        A torch device.
    data
        The images; of the shape and number of classes of Fashion-MNIST if not given.
    """
    groups: dict[tuple[str, bool], list[RunKey]] = {}
    for key in keys:
        arm = canonical_json([key.run.arm.config.canonical(), key.run.arm.probes])
        groups.setdefault((arm, key.run.arm.by_reference), []).append(key)
    jobs = []
    for group in groups.values():
        stacked = engine != "reference" and _stackable(group[0], device, data)
        if stacked and (engine == "lockstep" or len(group) >= FEWEST_SEEDS):
            size = stack_size(group[0].run.arm.config, device)
            stacks = (group[start : start + size] for start in range(0, len(group), size))
            jobs += [Job(tuple(stack), "lockstep") for stack in stacks]
        else:
            jobs += [Job((key,), "reference") for key in group]
    return jobs


def _stackable(key: RunKey, device: str, data: DataIdentity | None) -> bool:
    """Return whether the lockstep engine may and can train a run."""
    arm = key.run.arm
    return not arm.by_reference and stackable(arm.config, arm.probes, device, data)


def stackable(
    config: RunConfig, probes: Options, device: str, data: DataIdentity | Dataset | None
) -> bool:
    """Return whether the lockstep engine can train runs of these settings, probes and images."""
    if not all_scheduled(probes):
        return False
    if data is None:
        return not unsupported(config, device=device)
    classes = len(data.classes)
    return not unsupported(config, shape=data.shape, classes=classes, device=device)


def image_passes(config: RunConfig, data: DataIdentity) -> int:
    """Return how many times a run trains on an image: images per epoch times epochs."""
    there = data.images(config.train_split)["train_images"]
    return config.epochs * min(config.train_images or there, there)


def make_trainer(setup: WorkerSetup) -> Callable[[Job], list[RunResult]]:
    """Prepare a worker process; return the function that trains a job into the store."""
    torch.set_num_threads(1)
    dataset = cast(Dataset, setup.dataset)
    store = Store(setup.root)
    last: dict[str, Splits] = {}  # only the latest: arms of one size come one after the other

    def splits_of(config: RunConfig) -> Splits:
        fields = ("train_split", "train_images", "validation_images", "test_images")
        name = str([getattr(config, each) for each in (*fields, "population_images")])
        if name not in last:
            last.clear()
            last[name] = split(dataset, config, capped=True)
        return last[name]

    def trainer(job: Job) -> list[RunResult]:
        results = {key.id: RunResult("trained") for key in job.keys}
        try:
            with ExitStack() as claims:
                mine = []
                for key in job.keys:
                    if not claims.enter_context(store.claim(key)):
                        results[key.id] = RunResult("elsewhere")
                    elif store.status(key) not in FINISHED:
                        mine.append(key)
                if mine:  # of one arm, so their images are the same
                    _train_into(store, mine, splits_of(mine[0].run.arm.config), job.engine, setup)
        except OSError as error:
            kind = "no-space" if error.errno in NO_SPACE else "failed"
            reason = str(error.strerror) if kind == "no-space" else one_line(error)
            return [RunResult(kind, reason)] * len(job.keys)
        except Exception as error:  # one failed job must not end the study
            return [RunResult("failed", one_line(error))] * len(job.keys)
        return list(results.values())

    return trainer


def _train_into(
    store: Store, keys: list[RunKey], splits: Splits, engine: str, setup: WorkerSetup
) -> None:
    """Train runs of one arm and write them."""
    started, arm, seeds = time.time(), keys[0].run.arm, [key.run.seed for key in keys]
    records = train(
        arm.config, seeds, splits, probes=arm.probes, engine=engine, device=setup.device
    )
    for key, record in zip(keys, records, strict=True):
        images = record.steps / record.steps_per_epoch * len(splits.train)
        times = {
            "train_seconds": record.train_seconds,
            "wall_seconds": record.wall_seconds,
            "phase_seconds": dict(record.phase_seconds),
            "process": os.getpid(),
            "started": started,
            "finished": time.time(),
            "images_per_second": images / record.wall_seconds,
        }
        store.write(key, record, {**setup.provenance, "engine": engine, **times})
