"""Recordings: a long table and facts on the layers, apart from any model."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bnstudy import lazy_module
from bnstudy.activations.batchnorm.results import BatchNorms
from bnstudy.activations.files import CATEGORIES, read, write
from bnstudy.activations.report_rules import RULES, Rule, findings
from bnstudy.errors import WatchError, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bnstudy.activations import plots
else:
    plots = lazy_module("bnstudy.activations.plots")

# Statistics of several numbers, and patterns of their labels.
GROUPS = {
    "quantiles": r"q[\d.]+",
    "histogram": r"(log_)?hist\[.*",
    "channels": r"within|between|mean_square",
    "rank": r"effective_rank|stable_rank",
}


@dataclass(frozen=True)
class Recording:
    """A long table, one number per row.

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
            One row per step and one column per layer instead.  Passes, calls,
            tensors and labels get levels of their own where there are several:
            nothing is averaged.
        channels
            Whether to return the rows of single channels of BN layers instead
            of those of whole tensors.

        Raises
        ------
        WatchError
            If nothing was recorded, or nothing of the kind.

        Examples
        --------
        >>> import torch
        >>> from bnstudy.activations import watch
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Tanh())
        >>> with watch(model, stats=["mean", "max"]) as run:
        ...     output = model(torch.tensor([-1.0, 0.0, 4.0, 1.0]))
        >>> recording = run.recording()
        >>> recording.frame("max", wide=True).round(2).to_dict("index")
        {0: {'0': 4.0, '1': 1.0}}
        >>> recording.frame(layer="1")["value"].round(2).tolist()
        [0.44, 1.0]
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
                    known = rows[column].unique().tolist()
                    raise WatchError(unknown(f"recorded {column}", value, known))
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
        """Return the rows of the last recorded steps, such as those before a failure."""
        rows = self.frame()
        return rows[rows["step"].isin(np.unique(rows["step"])[-steps:])].reset_index(drop=True)

    def first_nonfinite(self) -> pd.DataFrame:
        """Return, for each layer and tensor that ever held NaN or infinity, where it first did."""
        rows = self.frame("nonfinite")
        rows = rows[~(rows["value"] == 0)]
        return rows.drop_duplicates(["layer", "tensor"]).reset_index(drop=True)

    @property
    def bn(self) -> BatchNorms:
        """Results on batch normalization."""
        return BatchNorms(self.rows, self.info)

    def report(self, rules: Iterable[Rule] = RULES) -> pd.DataFrame:
        """Return the sentences of the rules that hold, one per row."""
        self._need_rows()
        return findings(self.rows, rules)

    def plot(
        self,
        layer: str | None = None,
        what: str = "quantiles",
        *,
        tensor: str = "out",
        ax: "Axes | None" = None,
    ) -> "Axes":
        """Draw one plot.

        Parameters
        ----------
        layer
            Which layer; None for all, one row of colours per layer.
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
        return plots.draw(self, layer, what, tensor, ax)

    def save(self, path: str | Path) -> None:
        """Write everything to one file: ``.parquet``, ``.csv``, ``.json`` or ``.npz``.

        Raises
        ------
        WatchError
            If the ending is another.
        """
        write(Path(path), self.rows, self.info)


def load(path: str | Path) -> Recording:
    """Read a recording from the file that :meth:`Recording.save` wrote.

    Raises
    ------
    WatchError
        If there is no such file, its ending is another, or it holds no recording.
    """
    path = Path(path)
    if not path.is_file():
        raise WatchError(f"there is no recording at {path.name!r}")
    try:
        return Recording(*read(path))
    except (KeyError, TypeError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WatchError(f"{path.name} holds no recording: {error}") from None


def _trimmed(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.copy()
    for name in CATEGORIES:
        rows[name] = rows[name].cat.remove_unused_categories()
    return rows


def _labels(stat: str, recorded: Sequence[str]) -> list[str]:
    found = [label for label in recorded if re.fullmatch(GROUPS.get(stat, re.escape(stat)), label)]
    if not found:
        # hundreds of bins would hide the words that can be meant
        words = [label for label in recorded if not re.fullmatch(GROUPS["histogram"], label)]
        raise WatchError(unknown("recorded stat", stat, [*GROUPS, *words]))
    return found


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
