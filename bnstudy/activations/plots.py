"""Plots of recordings: each takes ``ax=`` and returns it, each answers one question."""

from __future__ import annotations  # those of matplotlib would import it

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from bnstudy import lazy_module
from bnstudy.activations.batchnorm.results import BatchNorms
from bnstudy.errors import WatchError, unknown

if TYPE_CHECKING:
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib import colors, figure, ticker
    from matplotlib.axes import Axes
else:  # a recorder is quicker to import, and runs without them
    mpl, sns = lazy_module("matplotlib"), lazy_module("seaborn")
    colors, figure, ticker = (
        lazy_module(f"matplotlib.{name}") for name in ("colors", "figure", "ticker")
    )

SHARES = ("saturated", "stuck", "dead", "active", "zeros", "near_zero", "slope")
LEGEND_LIMIT = 12


class Plottable(Protocol):
    """The part of a :class:`~bnstudy.activations.recording.Recording` that plots need."""

    @property
    def rows(self) -> pd.DataFrame:
        """All rows."""

    @property
    def info(self) -> dict[str, Any]:
        """Kinds of layers by name, in the order of the model, under ``kinds``."""

    @property
    def bn(self) -> BatchNorms:
        """Results on batch normalization."""

    def frame(
        self, stat: str | None = None, *, layer: str | None = None, tensor: str | None = None
    ) -> pd.DataFrame:
        """Return some rows."""


def _axes(ax: Axes | None, height: float = 3.2) -> Axes:
    if ax is not None:
        return ax
    return figure.Figure(figsize=(7.0, height), layout="constrained").subplots()


def _labelled(ax: Axes, title: str, y_label: str) -> Axes:
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_xlabel("Optimizer steps done")
    ax.set_ylabel(y_label)
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _by_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Return steps by labels; passes and calls of a step are averaged, for drawing only."""
    return rows.pivot_table(index="step", columns="stat", values="value", observed=True, sort=False)


def percentiles(
    recording: Plottable, layer: str, *, tensor: str = "out", ax: Axes | None = None
) -> Axes:
    """Draw recorded quantiles of a layer over steps: the outermost as a band, the rest as lines.

    With ``layer="act3[7]"`` watched on its input this is figure 1(b, c) of
    Ioffe & Szegedy (2015): the 15th, 50th and 85th percentile of what enters
    one unit's sigmoid.
    """
    table = _by_step(recording.frame("quantiles", layer=layer, tensor=tensor))
    order = sorted(table.columns, key=lambda label: float(str(label)[1:]))
    ax = _axes(ax)
    color = sns.color_palette("colorblind")[0]
    ax.fill_between(table.index, table[order[0]], table[order[-1]], color=color, alpha=0.2, lw=0)
    for label in order:
        middle = label == order[len(order) // 2]
        ax.plot(table.index, table[label], color=color, lw=2.2 if middle else 1.0)
        ax.annotate(
            f"{str(label)[1:]} %", (table.index[-1], table[label].iloc[-1]), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=8, color=color,
        )  # fmt: skip
    return _labelled(ax, f"{layer}: percentiles of {_tensor_name(tensor)}", "Value")


def heat(recording: Plottable, layer: str, *, tensor: str = "out", ax: Axes | None = None) -> Axes:
    """Draw a layer's histogram over steps, one column of colours per step, on a log scale."""
    rows = recording.frame("histogram", layer=layer, tensor=tensor)
    table = _by_step(rows)
    edges = [_edges(str(label)) for label in table.columns]
    inner = [number for number, (low, high) in enumerate(edges) if np.isfinite([low, high]).all()]
    heights = np.array([edges[i][0] for i in inner] + [edges[inner[-1]][1]])
    values = table.to_numpy()[:, inner].T
    ax = _axes(ax)
    drawn = np.ma.masked_less_equal(values, 0)
    norm = colors.LogNorm(max(values.max(initial=0) * 1e-4, 1e-6), max(values.max(initial=0), 1e-5))
    mesh = ax.pcolormesh(_step_edges(table.index), heights, drawn, norm=norm, cmap="viridis")
    ax.figure.colorbar(mesh, ax=ax, label="Share of values")
    outside = 1 - values.sum(0).min()
    logarithm = "log10 |value|" if str(table.columns[0]).startswith("log") else "Value"
    note = f"; up to {outside:.0%} beyond" if outside > 0.005 else ""
    _labelled(ax, f"{layer}: histogram of {_tensor_name(tensor)}{note}", logarithm)
    ax.spines[["top", "right"]].set_visible(True)
    return ax


def layers(recording: Plottable, stat: str, *, tensor: str = "out", ax: Axes | None = None) -> Axes:
    """Draw one statistic of all layers over steps, one row of colours per layer."""
    rows = recording.frame(stat, tensor=tensor)
    if rows["stat"].nunique() > 1:
        raise WatchError(f"a layer map shows one number, {stat!r} has several: ask for one label")
    table = rows.pivot_table(
        index="layer", columns="step", values="value", observed=True, sort=False
    )
    order = [name for name in recording.info.get("kinds", {}) if name in table.index]
    table = table.loc[order] if len(order) == len(table) else table  # gradients come backwards
    ax = _axes(ax, 0.9 + 0.24 * len(table))
    values = np.ma.masked_invalid(table.to_numpy())
    norm = colors.Normalize(0, 1) if stat in SHARES else _norm(values)
    diverging = not isinstance(norm, colors.LogNorm) and (norm.vmin or 0.0) < 0
    mesh = ax.pcolormesh(
        _step_edges(table.columns), np.arange(len(table) + 1), values, norm=norm,
        cmap="vlag" if diverging else "mako",
    )  # fmt: skip
    ax.set_yticks(np.arange(len(table)) + 0.5, table.index)
    ax.invert_yaxis()
    ax.figure.colorbar(mesh, ax=ax, label=stat)
    return _labelled(ax, f"{stat} of {_tensor_name(tensor)} by layer, input at the top", "")


def _norm(values: np.ma.MaskedArray) -> colors.Normalize:
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 50:
        return colors.LogNorm(low, high)
    reach = max(abs(low), abs(high), 1e-12)
    return colors.Normalize(-reach, reach) if low < 0 else colors.Normalize(0, reach)


def lines(
    recording: Plottable,
    stat: str,
    *,
    which: Sequence[str] | None = None,
    tensor: str = "out",
    ax: Axes | None = None,
) -> Axes:
    """Draw one statistic over steps, one line per layer, named in the legend.

    Shares get an axis from 0 to 100 %; other statistics a logarithmic one if
    they are positive and span over two decades.
    """
    rows = recording.frame(stat, tensor=tensor)
    if which is not None:
        rows = rows[rows["layer"].isin(list(which))]
    table = rows.pivot_table(
        index="step", columns="layer", values="value", observed=True, sort=False
    )
    ax = _axes(ax)
    _draw_lines(ax, table)
    _scale(ax, stat, table.to_numpy())
    return _labelled(ax, f"{stat} of {_tensor_name(tensor)}", stat)


def shares(recording: Plottable, *, ax: Axes | None = None) -> Axes:
    """Draw dead shares of rectifiers and saturated shares of bounded activations over steps."""
    recorded = set(recording.rows["stat"].astype("str"))
    known = [stat for stat in ("dead", "saturated") if stat in recorded]
    if not known:
        raise WatchError(
            "dead and saturated shares need a watched ReLU, Sigmoid or Tanh module, there is none"
        )
    rows = pd.concat([recording.frame(stat, tensor="out") for stat in known])
    rows["series"] = rows["layer"].astype("str") + " " + rows["stat"].astype("str")
    table = rows.pivot_table(index="step", columns="series", values="value", sort=False)
    ax = _axes(ax)
    _draw_lines(ax, table)
    _scale(ax, "dead", table.to_numpy())
    return _labelled(ax, "Dead units and saturated values", "Share")


def ratios(recording: Plottable, stat: str = "update_ratio", *, ax: Axes | None = None) -> Axes:
    """Draw ``grad_ratio`` or ``update_ratio`` of all weights over steps, and 1e-3 dashed."""
    ax = lines(recording, stat, tensor="weight", ax=ax)
    ax.set_yscale("log")
    ax.axhline(1e-3, color="0.5", lw=1, ls="--")
    names = {"update_ratio": "size of a step", "grad_ratio": "size of the gradient"}
    ax.set_title(f"Weights: {names.get(stat, stat)} relative to theirs", loc="left", fontsize=10)
    return ax


def compare(
    recordings: Mapping[str, Plottable],
    layer: str,
    stat: str = "q50",
    *,
    tensor: str = "out",
    ax: Axes | None = None,
) -> Axes:
    """Draw one statistic of one layer in several recordings; of ``quantiles``, band and median."""
    ax = _axes(ax)
    palette = sns.color_palette("colorblind", len(recordings))
    styles = ("-", "--", ":", "-.")
    seen = []
    for number, (name, recording) in enumerate(recordings.items()):
        table = _by_step(recording.frame(stat, layer=layer, tensor=tensor))
        middle = table.iloc[:, table.shape[1] // 2]
        style = {"color": palette[number], "label": name, "ls": styles[number % len(styles)]}
        ax.plot(table.index, middle, lw=2, **style)
        if table.shape[1] > 1:
            ax.fill_between(
                table.index,
                table.iloc[:, 0],
                table.iloc[:, -1],
                color=palette[number],
                alpha=0.15,
                lw=0,
            )
        seen.append(table.to_numpy())
    ax.legend(frameon=False, fontsize=8)
    if stat != "quantiles":
        _scale(ax, stat, np.concatenate([part.ravel() for part in seen]))
    return _labelled(
        ax, f"{layer}: {stat} of {_tensor_name(tensor)}", "Value" if stat == "quantiles" else stat
    )


def affine(recording: Plottable, layer: str, *, ax: Axes | None = None) -> Axes:
    """Draw gamma and beta of a BN layer over steps: median and full range over channels."""
    parameters = recording.bn.parameters()
    table = parameters[parameters["layer"] == layer]
    if table.empty:
        raise WatchError(unknown("recorded BN layer", layer, parameters["layer"].unique()))
    ax = _axes(ax)
    for name, color in zip(("gamma", "beta"), sns.color_palette("colorblind", 2), strict=True):
        band = table.groupby("step")[name].agg(["min", "median", "max"])
        ax.fill_between(band.index, band["min"], band["max"], color=color, alpha=0.2, lw=0)
        ax.plot(band.index, band["median"], color=color, lw=2, label=name)
    ax.legend(frameon=False, fontsize=8)
    return _labelled(ax, f"{layer}: gamma and beta, median and range over channels", "Value")


def draw(recording: Plottable, layer: str | None, what: str, tensor: str, ax: Axes | None) -> Axes:
    """Choose and draw the plot that :meth:`Recording.plot` was asked for."""
    if what == "shares":
        return shares(recording, ax=ax)
    if what in ("update_ratio", "grad_ratio"):
        return ratios(recording, what, ax=ax)
    if layer is None:
        return layers(recording, what, tensor=tensor, ax=ax)
    if what == "affine":
        return affine(recording, layer, ax=ax)
    if what == "quantiles":
        return percentiles(recording, layer, tensor=tensor, ax=ax)
    if what == "histogram":
        return heat(recording, layer, tensor=tensor, ax=ax)
    return lines(recording, what, which=[layer], tensor=tensor, ax=ax)


def _draw_lines(ax: Axes, table: pd.DataFrame) -> None:
    palette = mpl.colormaps["viridis"](np.linspace(0, 0.9, table.shape[1]))
    styles = ("-", "--", ":")
    for number, name in enumerate(table.columns):
        ax.plot(
            table.index,
            table[name],
            color=palette[number],
            ls=styles[number % 3],
            lw=1.6,
            label=name,
        )
    if table.shape[1] <= LEGEND_LIMIT:
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        ax.annotate(
            f"{table.shape[1]} layers, dark to light from input to output", (1, 1.01),
            xycoords="axes fraction", ha="right", fontsize=8,
        )  # fmt: skip


def _scale(ax: Axes, stat: str, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if stat in SHARES:
        ax.set_ylim(-0.02, 1.02)
        ax.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    elif len(finite) and finite.min() > 0 and finite.max() / finite.min() > 100:
        ax.set_yscale("log")


def _tensor_name(tensor: str) -> str:
    names = {"out": "output", "in": "input", "grad": "dL/d(output)"}
    start, _, rest = tensor.partition(".")
    return names.get(start, start) + (f" {rest}" if rest else "")


def _edges(label: str) -> tuple[float, float]:
    found = re.fullmatch(r"(?:log_)?hist\[(.+),(.+)\)", label)
    return (float(found[1]), float(found[2])) if found else (np.nan, np.nan)


def _step_edges(steps: Sequence[int] | pd.Index) -> np.ndarray:
    """Return the edges of columns centred at steps."""
    at = np.asarray(steps, dtype=float)
    if len(at) == 1:
        return np.array([at[0] - 0.5, at[0] + 0.5])
    middle = (at[1:] + at[:-1]) / 2
    return np.concatenate([[at[0] - (middle[0] - at[0])], middle, [at[-1] + (at[-1] - middle[-1])]])
