"""Many runs' tables on top of each other, each row with the experiment, arm and seed it is of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bnstudy.record import MEASURE_COLUMNS

KEY_COLUMNS = ["experiment", "arm", "seed"]
MEASURE_WORDS = ("probe", "layer", "tensor", "stat")


def stack(frames: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return some frames, which have KEY_COLUMNS already, as one."""
    wanted = [*KEY_COLUMNS, *columns]
    if not frames:
        return pd.DataFrame(columns=wanted)
    return pd.concat(frames, ignore_index=True)[wanted]


class Measures:
    """Tables of what probes saw: millions of rows of a few words, held as numbers of words."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []

    @staticmethod
    def read(path: Path) -> pa.Table:
        """Return one run's table."""
        return pq.read_table(path, read_dictionary=list(MEASURE_WORDS)).replace_schema_metadata()

    def append(self, table: pa.Table, where: Mapping[str, Any]) -> None:
        """Add one run's table, and where it belongs."""
        first = np.zeros(len(table), dtype=np.int32)
        for name, value in where.items():
            if isinstance(value, str):
                column = pa.DictionaryArray.from_arrays(pa.array(first), [value])
            else:
                column = pa.array(first + value)
            table = table.append_column(name, column)
        self._tables.append(table)

    def stacked(self) -> pd.DataFrame:
        """Return all of them, the words as categories in alphabetical order."""
        if not self._tables:
            return stack([], MEASURE_COLUMNS)
        frame = (
            pa.concat_tables(self._tables, promote_options="permissive")
            .unify_dictionaries()
            .to_pandas()
        )
        for name in frame.columns[frame.dtypes == "category"]:
            words = frame[name].cat
            frame[name] = words.reorder_categories(sorted(words.categories))
        return frame.astype({"seed": "int64"})[[*KEY_COLUMNS, *MEASURE_COLUMNS]]
