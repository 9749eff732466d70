"""The store of a study: one folder per run, found by its content, written whole or not at all.

::

    runs/<study>/plan.json          see :mod:`bnstudy.runs.registration`
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

from bnstudy.config import ACTIVATIONS, INITS, RunConfig, canonical_json, digest
from bnstudy.data.idx import sha256
from bnstudy.engines.optimizers import OPTIMIZERS
from bnstudy.engines.probes import modules_of
from bnstudy.engines.run_record import Record
from bnstudy.errors import DamagedRunError
from bnstudy.networks import NETWORKS
from bnstudy.networks.inputs import INPUTS
from bnstudy.networks.norm import NORMS
from bnstudy.plan import PlannedRun
from bnstudy.registry import Registry
from bnstudy.runs.provenance import code_digest, plugin_digest

FINISHED = ("done", "diverged")
LONGEST_NAME = 80  # longer ones are cut, and a hash tells them apart


@dataclass(frozen=True, eq=False)
class RunKey:
    """A planned run and the id of its result.

    Attributes
    ----------
    run
        The arm of an experiment, and the seed.
    spec
        Everything the result depends on.
    id
        The first 12 hex digits of the spec's sha256.
    """

    run: PlannedRun
    spec: Mapping[str, Any]
    id: str


def identify(run: PlannedRun, data_digest: str) -> RunKey:
    """Return the key of a planned run on some images, by the current code."""
    spec = {
        "config": run.arm.config.canonical(),
        "seed": run.seed,
        "code": code_digest(),
        "data": data_digest,
    }
    if plugins := plugins_of(run.arm.config):
        spec["plugins"] = plugins
    if run.arm.probes:  # a changed probe retrains the runs that it measures, and no others
        code = code_digest(*modules_of(run.arm.probes))
        spec["probes"] = {"code": code, "options": dict(run.arm.probes)}
    return RunKey(run, spec, digest(spec)[:12])


def plugins_of(config: RunConfig) -> dict[str, str]:
    """Return the digests of what a config uses from outside the package, by setting."""
    registries: dict[str, Registry[Any]] = {
        "norm": NORMS,
        "network": NETWORKS,
        "inputs": INPUTS,
        "activation": ACTIVATIONS,
        "init": INITS,
        "optimizer": OPTIMIZERS,
    }
    found = {
        name: plugin_digest(registry.factory(getattr(config, name)))
        for name, registry in registries.items()
    }
    return {name: sha for name, sha in found.items() if sha}


class Store:
    """The runs of one study, in one folder.

    Parameters
    ----------
    root
        The folder; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    # Folders ------------------------------------------------------------------------

    def folder(self, key: RunKey) -> Path:
        """Return the folder of a run, or the one it would be written to."""
        return self.folders().get(key.id) or self._own_folder(key)

    def _own_folder(self, key: RunKey) -> Path:
        name = f"seed={key.run.seed:03d}-{key.id}"
        return self.root / key.run.experiment / folder_name(key.run.arm.name) / name

    def folders(self) -> dict[str, Path]:
        """Return the folders of all runs by id, whichever experiment trained them."""
        found = sorted(self.root.glob("*/*/seed=*-*"))
        # a dot marks a damaged run that was set aside
        return {path.name.rsplit("-", 1)[1]: path for path in found if "." not in path.name}

    # Reading ------------------------------------------------------------------------

    def status(self, key: RunKey, folder: Path | None = None) -> str:
        """Return ``done``, ``diverged``, ``missing`` or ``damaged``."""
        folder = folder or self.folder(key)
        if not (folder / "result.json").exists():
            return "missing"
        try:
            return str(self.result(key, folder)["status"])
        except DamagedRunError:
            return "damaged"

    def statuses(self, keys: list[RunKey]) -> dict[str, str]:
        """Return the status of many runs by id; the store is searched once."""
        folders = self.folders()
        return {
            key.id: self.status(key, folders[key.id]) if key.id in folders else "missing"
            for key in keys
        }

    def result(self, key: RunKey, folder: Path) -> dict[str, Any]:
        """Return ``result.json`` of a finished run after checking every file of it.

        Raises
        ------
        DamagedRunError
            If a file is missing, was cut or edited, or belongs to another run.
        """
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

    def provenance(self, folder: Path) -> dict[str, Any]:
        """Return the provenance of a run whose files :meth:`result` has checked."""
        return self._json(folder / "provenance.json")

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
            "this run again (the damaged folder is kept aside)"
        )

    # Writing ------------------------------------------------------------------------

    @contextmanager
    def claim(self, key: RunKey) -> Iterator[bool]:
        """Claim a run for this process; yields False if another process has it.

        The claim is a lock that the kernel releases when its process ends, however
        it ends, so none is ever stale.
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
            # A process that opened the file before this removes it finds the run done,
            # or trains it again.
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
        """Rename the folder of a damaged run; return its new path."""
        folder = self.folder(key)
        number = 1
        while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
            number += 1
        folder.rename(aside)
        return aside


def folder_name(text: str) -> str:
    """Return any text as the name of a folder; characters a name cannot hold become %XX."""
    name = quote(text, safe="+=, ").replace(".", "%2E")
    if len(name) > LONGEST_NAME:
        return f"{name[:LONGEST_NAME]}-{digest(text)[:8]}"
    return name


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a table as the bytes of a Parquet file, NaN as null; equal tables, equal bytes."""
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    return buffer.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, even if the power is cut."""
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
    try:  # the rename itself is on disk only when its folder is
        os.fsync(folder)
    finally:
        os.close(folder)
