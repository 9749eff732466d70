"""The store of a study: one folder a run, found by its content, written whole.

::

    runs/<study>/plan.json
    runs/<study>/<experiment>/<arm>/seed=007-<id>/
        spec.json  curve.parquet  norms.parquet  measures.parquet?  provenance.json
        result.json        written last: the run is done when it is there
    runs/<study>/claims/<id>    locked by the process that trains the run

The store is the only truth; tables and reports are made from it each time.
``result.json`` holds the checksum of every other file and its own, so that a
file that was cut or edited is noticed when it is read.  An id is a hash of
everything that decides the result: settings with their defaults, seed, code,
images.  A run that two experiments share is trained once, and found by its id
wherever it lies.  Nothing in a store is an absolute path: it can be moved.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bnstudy.config import canonical_json, digest
from bnstudy.data.idx import sha256
from bnstudy.engines.probes import modules_of
from bnstudy.engines.record import CURVE_COLUMNS, MEASURE_COLUMNS, NORM_COLUMNS, Record
from bnstudy.errors import DamagedRunError, PlanMismatchError, StoreError
from bnstudy.plan import Plan, PlannedRun
from bnstudy.runs.pairing import refuse_broken_pairs
from bnstudy.runs.provenance import code_digest
from bnstudy.runs.tables import KEY_COLUMNS, Stacking

FINISHED = ("done", "diverged")
MEASURE_WORDS = ("probe", "layer", "tensor", "stat")  # columns of few values in many rows
LONGEST_NAME = 80
CALIBRATION = "calibration.json"
RUN_COLUMNS = [
    *KEY_COLUMNS,
    "status",
    "id",
    "steps",
    "steps_per_epoch",
    "weights_digest",
    "order_digest",
]


@dataclass(frozen=True, eq=False)
class RunKey:
    """A planned run with what identifies its result.

    Attributes
    ----------
    run
        What the plan asks for.
    spec
        Everything the result depends on.
    id
        The first 12 hex digits of the spec's sha256.
    """

    run: PlannedRun
    spec: Mapping[str, Any]
    id: str


def identify(run: PlannedRun, data_digest: str) -> RunKey:
    """Return the key of a planned run on some images, by today's code."""
    spec = {
        "config": run.arm.config.canonical(),
        "seed": run.seed,
        "code": code_digest(),
        "data": data_digest,
    }
    if run.arm.probes:  # changing a probe retrains what it looked into, and nothing else
        code = code_digest(*modules_of(run.arm.probes))
        spec["probes"] = {"code": code, "options": dict(run.arm.probes)}
    return RunKey(run, spec, digest(spec)[:12])


@dataclass(frozen=True)
class Tables:
    """A study as tidy tables, in the order of the plan.

    Attributes
    ----------
    runs
        A row per planned run: its status (``missing`` if it is not there), id,
        steps, hashes of weights and order, and its provenance, flattened.
    curves, norms, measures
        The rows of every finished run's ``curve``, ``norms`` and ``measures`` (see
        :class:`~bnstudy.engines.record.Record`), experiment, arm and seed first.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    norms: pd.DataFrame
    measures: pd.DataFrame


class Store:
    """The runs of one study, below one folder.

    Parameters
    ----------
    root
        The folder; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    # Where things are ---------------------------------------------------------------

    def folder(self, key: RunKey) -> Path:
        """Return where a run lies, or would lie if it were written now."""
        return self._folders().get(key.id) or self._own_folder(key)

    def _own_folder(self, key: RunKey) -> Path:
        name = f"seed={key.run.seed:03d}-{key.id}"
        return self.root / key.run.experiment / folder_name(key.run.arm.name) / name

    def _folders(self) -> dict[str, Path]:
        found = sorted(self.root.glob("*/*/seed=*-*"))
        return {path.name.rsplit("-", 1)[1]: path for path in found if "." not in path.name}

    # What is there ------------------------------------------------------------------

    def status(self, key: RunKey, folder: Path | None = None) -> str:
        """Return ``done``, ``diverged``, ``missing`` or ``damaged``."""
        folder = folder or self.folder(key)
        if not (folder / "result.json").exists():
            return "missing"
        try:
            return str(self._result(key, folder)["status"])
        except DamagedRunError:
            return "damaged"

    def statuses(self, keys: list[RunKey]) -> dict[str, str]:
        """Return the status of many runs by id, looking through the store once."""
        folders = self._folders()
        return {
            key.id: self.status(key, folders[key.id]) if key.id in folders else "missing"
            for key in keys
        }

    def _result(self, key: RunKey, folder: Path) -> dict[str, Any]:
        """Return ``result.json`` after checking every file of the run."""
        result = self._json(folder / "result.json")
        stated = result.pop("sha256", None)
        if stated != digest(result) or result.get("status") not in FINISHED:
            raise self._damaged(folder / "result.json", "was edited")
        for name, checksum in result["files"].items():
            try:
                content = (folder / name).read_bytes()
            except OSError:
                raise self._damaged(folder / name, "is missing") from None
            if sha256(content) != checksum:
                raise self._damaged(folder / name, "was cut or edited")
        if self._json(folder / "spec.json") != json.loads(canonical_json(key.spec)):
            raise self._damaged(folder / "spec.json", "is that of another run")
        return result

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError):
            raise self._damaged(path, "cannot be read") from None
        if not isinstance(value, dict):
            raise self._damaged(path, "was edited")
        return value

    def _damaged(self, path: Path, fault: str) -> DamagedRunError:
        return DamagedRunError(
            f"{path.relative_to(self.root.parent)} {fault}: run the study again to train "
            "this run anew (the damaged folder is kept aside)"
        )

    # Writing ------------------------------------------------------------------------

    @contextmanager
    def claim(self, key: RunKey) -> Iterator[bool]:
        """Claim a run for this process; yields False if another process has it.

        The claim is a lock that the kernel takes back when its process ends,
        however it ends, so none is ever stale.
        """
        path = self.root / "claims" / key.id
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
            # Who opened the file before it vanishes finds the run done, or retries it.
            path.unlink(missing_ok=True)

    def write(self, key: RunKey, record: Record, provenance: Mapping[str, Any]) -> Path:
        """Write a finished run, ``result.json`` last; return its folder."""
        folder = self._own_folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        contents = {
            "spec.json": canonical_json(key.spec).encode(),
            "curve.parquet": parquet_bytes(record.curve),
            "norms.parquet": parquet_bytes(record.norms),
            "provenance.json": canonical_json(provenance).encode(),
        }
        if record.measures is not None:
            contents["measures.parquet"] = parquet_bytes(record.measures)
        for name, content in contents.items():
            write_whole(folder / name, content)
        result = {
            "status": record.status,
            "steps": record.steps,
            "steps_per_epoch": record.steps_per_epoch,
            "weights_digest": record.weights_digest,
            "order_digest": record.order_digest,
            "files": {name: sha256(content) for name, content in contents.items()},
        }
        signed = {**result, "sha256": digest(result)}
        write_whole(folder / "result.json", canonical_json(signed).encode())
        return folder

    def set_aside(self, key: RunKey) -> Path:
        """Move a damaged run out of the way; return where it now lies."""
        folder = self.folder(key)
        number = 1
        while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
            number += 1
        folder.rename(aside)
        return aside

    def freeze(self, plan: Plan) -> None:
        """Store the plan before its first run; add experiments to a stored one.

        Claims of an experiment stay as they were stored once there are runs:
        what was claimed afterwards is told from what was claimed before.

        Raises
        ------
        PlanMismatchError
            If the store holds the runs of a plan with another profile, other
            seeds or images, or other arms or targets of the same experiment.
        """
        wanted = plan.canonical()
        stored = self.stored_plan()
        if stored is not None:
            refuse_other_plan(stored, wanted, self.root.name)
            if any(self.root.glob("*/*/*/result.json")):
                wanted = with_first_claims(wanted, stored)
            planned = {each["name"] for each in wanted["experiments"]}
            others = [each for each in stored["experiments"] if each["name"] not in planned]
            wanted = {**wanted, "experiments": [*wanted["experiments"], *others]}
            wanted["experiments"].sort(key=lambda each: each["name"])
            if stored == json.loads(canonical_json(wanted)):
                return
        self.root.mkdir(parents=True, exist_ok=True)
        content = {"plan": wanted, "sha256": digest(wanted)}
        write_whole(self.root / "plan.json", canonical_json(content).encode())

    def stored_plan(self) -> dict[str, Any] | None:
        """Return the plan that was stored, or None.

        Raises
        ------
        StoreError
            If its file was cut or edited.
        """
        path = self.root / "plan.json"
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_bytes())
            plan: dict[str, Any] = stored["plan"]
            intact = digest(plan) == stored["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise StoreError(
                f"{self.root.name}/plan.json was cut or edited: put it back, or give the "
                "study another name with --study"
            )
        return plan

    # Reading ------------------------------------------------------------------------

    def tables(self, plan: Plan) -> Tables:
        """Return the study as tidy tables.

        Raises
        ------
        DamagedRunError
            If a file of a finished run was cut or edited.
        StoreError
            If the arms of a seed are not paired.
        """
        folders, read = self._folders(), {}
        rows, curves, norms = [], Stacking(CURVE_COLUMNS), Stacking(NORM_COLUMNS)
        measures = Stacking(MEASURE_COLUMNS, MEASURE_WORDS)
        for run in plan.runs:
            key = identify(run, plan.data.digest)
            where: dict[str, Any] = {
                "experiment": run.experiment,
                "arm": run.arm.name,
                "seed": run.seed,
            }
            folder = folders.get(key.id)
            if folder is None or not (folder / "result.json").exists():
                rows.append({**where, "status": "missing", "id": key.id})
                continue
            if key.id not in read:  # several experiments may share it
                result = self._result(key, folder)
                provenance = flatten(self._json(folder / "provenance.json"))
                found = {
                    kind: kind.read(folder / name)
                    for kind, name in (
                        (curves, "curve.parquet"),
                        (norms, "norms.parquet"),
                        (measures, "measures.parquet"),
                    )
                    if name in result["files"]
                }
                read[key.id] = {**result, "id": key.id, **provenance}, found
            facts, found = read[key.id]
            rows.append({**where, **facts})
            for kind, table in found.items():
                kind.append(table, where)
        runs = pd.DataFrame(rows).drop(columns="files", errors="ignore")
        runs = runs.reindex(columns=[*RUN_COLUMNS, *sorted(set(runs.columns) - set(RUN_COLUMNS))])
        refuse_broken_pairs(plan, runs)
        read.clear()
        return Tables(runs, curves.stacked(), norms.stacked(), measures.stacked())


def folder_name(text: str) -> str:
    """Return any text as the name of one folder: what a name cannot hold becomes %XX."""
    name = quote(text, safe="+=, ").replace(".", "%2E")
    if len(name) > LONGEST_NAME:
        return f"{name[:LONGEST_NAME]}-{digest(text)[:8]}"
    return name


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a table as the bytes of a Parquet file, NaN as null; the same for the same table."""
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    return buffer.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names: {"git": {"dirty": x}} -> {"git.dirty": x}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def refuse_other_plan(stored: Mapping[str, Any], wanted: Mapping[str, Any], study: str) -> None:
    """Refuse a plan that contradicts the one that runs were made for.

    Raises
    ------
    PlanMismatchError
        Naming the first part that differs.
    """
    remedy = "give the changed study another name with --study"
    for part in ("profile", "seeds", "data"):
        if stored[part] != json.loads(canonical_json(wanted[part])):
            raise PlanMismatchError(
                f"study {study!r} was begun with other {part} "
                f"({_short(stored[part])}, not {_short(wanted[part])}): {remedy}"
            )
    before = {each["name"]: each for each in stored["experiments"]}
    for experiment in wanted["experiments"]:
        name = experiment["name"]
        now = json.loads(canonical_json(experiment))
        if name in before and any(before[name][part] != now[part] for part in ("arms", "targets")):
            part = "targets" if before[name]["arms"] == experiment["arms"] else "arms"
            raise PlanMismatchError(
                f"study {study!r} was begun with other {part} of experiment {name!r}: {remedy}"
            )


def with_first_claims(wanted: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan whose experiments have the claims that were stored first, where there are."""
    first = {each["name"]: each.get("claims") for each in stored["experiments"]}
    experiments = []
    for experiment in wanted["experiments"]:
        now = experiment.get("claims")
        claims = first.get(experiment["name"], now)
        rest = {part: value for part, value in experiment.items() if part != "claims"}
        experiments.append(rest if claims is None else {**rest, "claims": claims})
    return {**wanted, "experiments": experiments}


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} seeds"
    return str(value["digest"][:8]) if isinstance(value, dict) else str(value)
