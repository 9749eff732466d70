"""Files of recordings: parquet, csv, json and npz, all of which hold the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bnstudy.activations.reading.measurements import COLUMNS
from bnstudy.errors import WatchError

CATEGORIES = ("mode", "layer", "tensor", "stat")


def write(path: Path, rows: pd.DataFrame, info: dict[str, Any]) -> None:
    """Write the rows of a recording and what is known of its layers.

    Raises
    ------
    WatchError
        If the ending is none of the four.
    """
    text = json.dumps(info)
    plain = rows.astype(dict.fromkeys(CATEGORIES, "str"))
    if path.suffix == ".parquet":
        kept = rows.copy()
        kept.attrs = {"info": text}  # pandas keeps attributes in parquet files
        kept.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        head = "# " + text + "\n"
        path.write_text(head + plain.to_csv(index=False), encoding="utf-8")
    elif path.suffix == ".json":
        columns = {name: _plain(plain[name]) for name in COLUMNS}
        path.write_text(json.dumps({"info": info, "rows": columns}), encoding="utf-8")
    elif path.suffix == ".npz":
        arrays: dict[str, Any] = {name: plain[name].to_numpy() for name in COLUMNS}
        arrays = {n: a.astype(str) if n in CATEGORIES else a for n, a in arrays.items()}
        np.savez_compressed(path, info=np.array(text), **arrays)
    else:
        raise WatchError(_ending(path))


# JSON has no NaN and no infinity: null and their names stand for them.


def _plain(column: pd.Series) -> list[Any]:
    return [None if isinstance(v, float) and v != v else _finite(v) for v in column.tolist()]


def _finite(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and abs(value) == np.inf else value


def _ending(path: Path) -> str:
    return f"a recording is a .parquet, .csv, .json or .npz file, got {path.name!r}"


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows of a recording, in their types, and what is known of its layers.

    Raises
    ------
    WatchError
        If the ending is none of the four.
    """
    rows, info = _read(path)
    return _typed(rows), info


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    if path.suffix == ".parquet":
        rows = pd.read_parquet(path)
        return rows, json.loads(rows.attrs["info"])
    if path.suffix == ".csv":
        with path.open(encoding="utf-8") as lines:
            info = json.loads(next(lines).removeprefix("# "))
            return pd.read_csv(lines, keep_default_na=False, na_values={"value": [""]}), info
    if path.suffix == ".json":
        held = json.loads(path.read_text(encoding="utf-8"))
        return pd.DataFrame(held["rows"]), held["info"]
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            info = json.loads(str(arrays["info"]))
            return pd.DataFrame({name: arrays[name] for name in COLUMNS}), info
    raise WatchError(_ending(path))


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[list(COLUMNS)].copy()
    for name in CATEGORIES:
        texts = rows[name].astype(str)
        rows[name] = pd.Categorical(texts, categories=list(dict.fromkeys(texts)))
    for name in ("forward", "call", "channel"):
        rows[name] = rows[name].astype("int32")
    rows["step"], rows["value"] = rows["step"].astype("int64"), rows["value"].astype("float64")
    rows.attrs = {}
    return rows
