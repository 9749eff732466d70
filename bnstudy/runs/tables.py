"""Tables of a study: the runs of a store, concatenated in the order of the plan.

Every row begins with the experiment, arm and seed that it belongs to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bnstudy.engines.run_record import CURVE_COLUMNS, MEASURE_COLUMNS, NORM_COLUMNS
from bnstudy.errors import StoreError
from bnstudy.plan import Plan
from bnstudy.runs.store import Store, identify

KEY_COLUMNS = ["experiment", "arm", "seed"]
RUN_COLUMNS = [
    *KEY_COLUMNS,
    "status",
    "id",
    "steps",
    "steps_per_epoch",
    "weights_digest",
    "order_digest",
]
CATEGORICAL = ("probe", "layer", "tensor", "stat")  # columns of few values in many rows


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
        :class:`~bnstudy.engines.run_record.Record`), experiment, arm and seed first.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    norms: pd.DataFrame
    measures: pd.DataFrame


def read_tables(store: Store, plan: Plan) -> Tables:
    """Return the runs of a plan as tidy tables.

    Parameters
    ----------
    store
        The runs there are.
    plan
        The runs there should be.

    Raises
    ------
    DamagedRunError
        If a file of a finished run was cut or edited.
    StoreError
        If the arms of a seed are not paired.
    """
    folders, read = store.folders(), {}
    rows, curves, norms = [], ConcatenatedTable(CURVE_COLUMNS), ConcatenatedTable(NORM_COLUMNS)
    measures = ConcatenatedTable(MEASURE_COLUMNS, CATEGORICAL)
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
            result = store.result(key, folder)
            provenance = flatten(store.provenance(folder))
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
    read.clear()  # the tables below take as much memory again
    return Tables(runs, curves.to_frame(), norms.to_frame(), measures.to_frame())


class ConcatenatedTable:
    """One table of the runs' tables of one kind.

    There are thousands of small files: Arrow's own reader takes a third of the time
    of pandas', which then gets one large table.

    Parameters
    ----------
    columns
        Columns of the kind, in order.
    categorical
        Text columns of few values in millions of rows.  They are read as
        dictionaries, and they and the keys become categories in alphabetical
        order.
    """

    def __init__(self, columns: tuple[str, ...], categorical: tuple[str, ...] = ()) -> None:
        self._columns, self._categorical = [*KEY_COLUMNS, *columns], categorical
        self._tables: list[pa.Table] = []

    def read(self, path: Path) -> pa.Table:
        """Return one run's table."""
        file = pq.ParquetFile(path, read_dictionary=list(self._categorical))
        return file.read(use_threads=False).replace_schema_metadata()

    def append(self, table: pa.Table, where: Mapping[str, Any]) -> None:
        """Add one run's table, with the experiment, arm and seed it belongs to."""
        for name, value in where.items():
            column = pa.repeat(value, len(table))
            if self._categorical and isinstance(value, str):
                first = pa.array(np.zeros(len(table), dtype=np.int32))
                column = pa.DictionaryArray.from_arrays(first, [value])
            table = table.append_column(name, column)
        self._tables.append(table)

    def to_frame(self) -> pd.DataFrame:
        """Return all rows, and free the runs' tables, which take as much memory again."""
        if not self._tables:
            return pd.DataFrame(columns=self._columns)
        joined = pa.concat_tables(self._tables, promote_options="permissive").unify_dictionaries()
        self._tables.clear()
        frame = joined.to_pandas(split_blocks=True, self_destruct=True)
        del joined
        pa.default_memory_pool().release_unused()
        for name in frame.columns[frame.dtypes == "category"]:
            column = frame[name].cat
            # the order of first appearance depends on which runs are there
            frame[name] = column.reorder_categories(sorted(column.categories))
        return frame[self._columns]


def refuse_broken_pairs(plan: Plan, runs: pd.DataFrame) -> None:
    """Refuse arms of one seed that did not start from the same weights and order of images.

    Orders are compared among arms that train on the same number of images.

    Raises
    ------
    StoreError
        Naming the seed.
    """
    sizes = {
        (planned.experiment.name, arm.name): (arm.config.train_split, arm.config.train_images)
        for planned in plan.experiments
        for arm in planned.arms
    }
    there = runs[runs["status"] != "missing"].copy()
    keys = zip(there["experiment"], there["arm"], strict=True)
    there["size"] = [str(sizes[key]) for key in keys]
    for by, column in ((["seed"], "weights_digest"), (["seed", "size"], "order_digest")):
        kinds = there.groupby(by)[column].nunique()
        if (kinds > 1).any():
            first = kinds[kinds > 1].index[0]
            seed = first[0] if isinstance(first, tuple) else first
            what = "initial weights" if column == "weights_digest" else "order of images"
            raise StoreError(
                f"the arms of seed {seed} must share their {what}, but do not: "
                "the store mixes runs that are no pairs, use a fresh one"
            )


def distinct_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of runs, each run once: arms and experiments may share one.

    Every count and sum of runs is taken over these, so that one missing run is one.
    """
    if "id" not in runs:
        return runs
    return runs[runs["id"].isna() | ~runs.duplicated("id")]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names: {"git": {"dirty": x}} -> {"git.dirty": x}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
