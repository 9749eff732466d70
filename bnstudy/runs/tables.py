"""Many runs' tables on top of each other, each row with the experiment, arm and seed it is of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

KEY_COLUMNS = ["experiment", "arm", "seed"]


class Stacking:
    """Reads runs' tables of one kind and makes one table of them.

    Thousands of small files: Arrow's own reader takes a third of the time of pandas',
    which then sees one large table.

    Parameters
    ----------
    columns
        Of the kind, in order.
    words
        Those of a few words in millions of rows, held as numbers of words; in the
        stack they and the keys are categories, in alphabetical order.
    """

    def __init__(self, columns: tuple[str, ...], words: tuple[str, ...] = ()) -> None:
        self._columns, self._words = [*KEY_COLUMNS, *columns], words
        self._tables: list[pa.Table] = []

    def read(self, path: Path) -> pa.Table:
        """Return one run's table."""
        file = pq.ParquetFile(path, read_dictionary=list(self._words))
        return file.read(use_threads=False).replace_schema_metadata()

    def append(self, table: pa.Table, where: Mapping[str, Any]) -> None:
        """Add one run's table, and where it belongs."""
        for name, value in where.items():
            column = pa.repeat(value, len(table))
            if self._words and isinstance(value, str):
                first = pa.array(np.zeros(len(table), dtype=np.int32))
                column = pa.DictionaryArray.from_arrays(first, [value])
            table = table.append_column(name, column)
        self._tables.append(table)

    def stacked(self) -> pd.DataFrame:
        """Return all of them, and let go of them, which take as much memory again."""
        if not self._tables:
            return pd.DataFrame(columns=self._columns)
        whole = pa.concat_tables(self._tables, promote_options="permissive").unify_dictionaries()
        self._tables.clear()
        frame = whole.to_pandas(split_blocks=True, self_destruct=True)
        del whole
        pa.default_memory_pool().release_unused()
        for name in frame.columns[frame.dtypes == "category"]:
            words = frame[name].cat
            frame[name] = words.reorder_categories(sorted(words.categories))
        return frame[self._columns]
