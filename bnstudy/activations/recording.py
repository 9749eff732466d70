"""What was recorded: a long table and what to know of the layers, apart from any model."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bnstudy.activations.bn import BatchNorms
from bnstudy.activations.plots import draw
from bnstudy.activations.rules import RULES, Rule, findings
from bnstudy.activations.table import COLUMNS
from bnstudy.errors import WatchError

# Statistics of several numbers, and what the labels of these look like.
GROUPS = {
    "quantiles": r"q[\d.]+",
    "histogram": r"(log_)?hist\[.*",
    "channels": r"within|between|mean_square",
    "rank": r"effective_rank|stable_rank",
}
CATEGORIES = ("mode", "layer", "tensor", "stat")


@dataclass(frozen=True)
class Recording:
    """A long table, one number a row.

    Attributes
    ----------
    rows
        Columns ``step`` (optimizer steps done when it was seen), ``mode``
        (``train`` or ``eval``), ``forward`` (pass through the model within the
        step, from 0), ``layer``, ``call`` (of the layer within the pass, from
        0), ``tensor`` (``out``, ``in``, ``grad``, ``out.0``, ...), ``channel``
        (-1 for all), ``stat``, ``value``.
    info
        Of the layers: kinds, neighbours of BN layers, notes on what could not
        be recorded; plain JSON.
    """

    rows: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)

    def frame(
        self,
        stat: str | None = None,
        *,
        layer: str | None = None,
        tensor: str | None = None,
        mode: str | None = None,
        wide: bool = False,
        channels: bool = False,
    ) -> pd.DataFrame:
        """Return the rows, or some of them.

        Parameters
        ----------
        stat, layer, tensor, mode
            Keep only these; a statistic of several numbers by its name
            (``quantiles``) or one of its labels (``q50``).
        wide
            One row a step and one column a layer instead.  Passes, calls,
            tensors and labels get levels of their own where there are several:
            nothing is averaged.
        channels
            Whether to return the rows of single channels of BN layers instead
            of those of whole tensors.

        Raises
        ------
        WatchError
            If nothing was recorded, or nothing of the kind.
        """
        rows = self._chosen(stat, layer, tensor, mode, channels)
        return _widened(rows) if wide else rows.reset_index(drop=True)

    def _chosen(
        self,
        stat: str | None,
        layer: str | None,
        tensor: str | None,
        mode: str | None,
        channels: bool,
    ) -> pd.DataFrame:
        self._need_rows()
        rows = self.rows[(self.rows["tensor"] == "norm") == channels]
        if stat is not None:
            rows = rows[rows["stat"].isin(_labels(stat, list(rows["stat"].unique())))]
        for column, value in (("layer", layer), ("tensor", tensor), ("mode", mode)):
            if value is not None:
                if value not in set(rows[column]):
                    raise WatchError(_unknown(column, value, rows[column].unique().tolist()))
                rows = rows[rows[column] == value]
        if rows.empty:
            raise WatchError("nothing of the kind was recorded: see .rows and match()")
        return _trimmed(rows)

    def _need_rows(self) -> None:
        if not self.rows.empty:
            return
        notes = "; ".join(f"{layer} {tensor}: {why}" for layer, tensor, why in self.notes)
        watched = ", ".join(list(self.info.get("kinds", {}))[:6]) or "none"
        raise WatchError(
            f"nothing was recorded in {self.info.get('steps', 0)} steps of layers {watched}: "
            + (notes or "no pass of a watched model was due; were they in eval mode, under "
               "no_grad, through a copy, or compiled before watch()?")
        )  # fmt: skip

    @property
    def notes(self) -> list[tuple[str, str, str]]:
        """Layer, tensor and reason, for each tensor that has no statistics."""
        return [tuple(note) for note in self.info.get("notes", [])]

    def summary(self) -> pd.DataFrame:
        """Return first, last, least, greatest and mean value of each series.

        A series is a layer's tensor and statistic in a mode; histograms and
        channels are left out.
        """
        rows = self.frame()
        rows = rows[~rows["stat"].astype(str).str.fullmatch(GROUPS["histogram"])]
        by = ["layer", "tensor", "mode", "stat"]
        table = rows.groupby(by, observed=True, sort=False)["value"].agg(
            ["count", "first", "last", "min", "max", "mean"]
        )
        return table.reset_index()

    def tail(self, steps: int = 3) -> pd.DataFrame:
        """Return the rows of the last recorded steps: what happened before a failure."""
        rows = self.frame()
        return rows[rows["step"].isin(np.unique(rows["step"])[-steps:])].reset_index(drop=True)

    def first_nonfinite(self) -> pd.DataFrame:
        """Return, for each layer and tensor that ever held NaN or infinity, where it first did."""
        rows = self.frame("nonfinite")
        rows = rows[~(rows["value"] == 0)]
        return rows.drop_duplicates(["layer", "tensor"]).reset_index(drop=True)

    @property
    def bn(self) -> BatchNorms:
        """What it tells about batch normalization."""
        return BatchNorms(self)

    def report(self, rules: Iterable[Rule] = RULES) -> pd.DataFrame:
        """Return what rules find, in plain words: :func:`bnstudy.activations.rules.findings`."""
        self._need_rows()
        return findings(self.rows, rules)

    def plot(
        self,
        layer: str | None = None,
        what: str = "quantiles",
        *,
        tensor: str = "out",
        ax: Axes | None = None,
    ) -> Axes:
        """Draw one picture.

        Parameters
        ----------
        layer
            Which layer; None for all, one row of colours each.
        what
            ``quantiles`` (band), ``histogram`` (colours over steps), ``affine``
            (gamma and beta), any other statistic (a line); without a layer
            ``shares`` (dead and saturated), ``update_ratio``, ``grad_ratio``,
            or a statistic.
        tensor
            ``out``, ``in``, ``grad``, ....
        ax
            Where to draw; a new figure by default.

        Raises
        ------
        WatchError
            If it was not recorded.
        """
        return draw(self, layer, what, tensor, ax)

    def save(self, path: str | Path) -> None:
        """Write everything to one file: ``.parquet``, ``.csv``, ``.json`` or ``.npz``.

        Raises
        ------
        WatchError
            If the ending is another.
        """
        path = Path(path)
        text = json.dumps(self.info)
        plain = self.rows.astype(dict.fromkeys(CATEGORIES, "str"))
        if path.suffix == ".parquet":
            kept = self.rows.copy()
            kept.attrs = {"info": text}
            kept.to_parquet(path, index=False)
        elif path.suffix == ".csv":
            head = "# " + text + "\n"
            path.write_text(head + plain.to_csv(index=False), encoding="utf-8")
        elif path.suffix == ".json":
            columns = {name: _plain(plain[name]) for name in COLUMNS}
            path.write_text(json.dumps({"info": self.info, "rows": columns}), encoding="utf-8")
        elif path.suffix == ".npz":
            arrays: dict[str, Any] = {name: plain[name].to_numpy() for name in COLUMNS}
            arrays = {n: a.astype(str) if n in CATEGORIES else a for n, a in arrays.items()}
            np.savez_compressed(path, info=np.array(text), **arrays)
        else:
            raise WatchError(_ending(path))


def _plain(column: pd.Series) -> list[Any]:
    return [None if isinstance(v, float) and v != v else _finite(v) for v in column.tolist()]


def _finite(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and abs(value) == np.inf else value


def _ending(path: Path) -> str:
    return f"a recording is a .parquet, .csv, .json or .npz file, got {path.name!r}"


def load(path: str | Path) -> Recording:
    """Read what :meth:`Recording.save` wrote.

    Raises
    ------
    WatchError
        If there is no such file, its ending is another, or it holds no recording.
    """
    path = Path(path)
    if not path.is_file():
        raise WatchError(f"there is no recording at {path.name!r}")
    try:
        rows, info = _read(path)
        return Recording(_typed(rows), info)
    except (KeyError, TypeError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WatchError(f"{path.name} holds no recording: {error}") from None


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    if path.suffix == ".parquet":
        rows = pd.read_parquet(path)
        return rows, json.loads(rows.attrs["info"])
    if path.suffix == ".csv":
        with path.open(encoding="utf-8") as lines:
            info = json.loads(next(lines).removeprefix("# "))
            return pd.read_csv(lines, keep_default_na=False, na_values={"value": [""]}), info
    if path.suffix == ".json":
        whole = json.loads(path.read_text(encoding="utf-8"))
        return pd.DataFrame(whole["rows"]), whole["info"]
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


def _trimmed(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.copy()
    for name in CATEGORIES:
        rows[name] = rows[name].cat.remove_unused_categories()
    return rows


def _labels(stat: str, recorded: Sequence[str]) -> list[str]:
    found = [label for label in recorded if re.fullmatch(GROUPS.get(stat, re.escape(stat)), label)]
    if not found:
        raise WatchError(_unknown("stat", stat, [*GROUPS, *map(str, recorded)]))
    return found


def _unknown(column: str, value: str, known: Sequence[str]) -> str:
    plain = [word for word in known if not re.fullmatch(GROUPS["histogram"], word)]
    near = difflib.get_close_matches(value, plain, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(plain[:12])}"
    return f"no {column} {value!r} was recorded: {hint}"


def _widened(rows: pd.DataFrame) -> pd.DataFrame:
    index = ["step", *(name for name in ("mode", "forward") if rows[name].nunique() > 1)]
    levels = ("tensor", "call", "channel", "stat")
    columns = ["layer", *(name for name in levels if rows[name].nunique() > 1)]
    wide = rows.pivot(index=index, columns=columns, values="value")
    order = rows.drop_duplicates(columns)[columns]
    keys = (
        order["layer"].tolist()
        if len(columns) == 1
        else list(order.itertuples(index=False, name=None))
    )
    wide = wide[keys]
    if len(columns) == 1:
        wide.columns = pd.Index([str(key) for key in keys], name="layer")
    return wide
