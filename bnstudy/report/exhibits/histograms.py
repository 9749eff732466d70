"""Histograms of layers over training, and the share of values that moved to other bins."""

import re
from collections.abc import Iterator, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from bnstudy.inference import mean_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import INK, RC_PARAMS, Scale, line_styles, new_figure
from bnstudy.report.drawing.marks import format_axes
from bnstudy.report.drawing.styles import shorten
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.model import Table

Heatmap = tuple[np.ndarray, np.ndarray, np.ndarray]  # epochs (T,), edges (B + 1,), shares (T, B)
BIN = re.compile(r"hist\[(?P<low>\S+),(?P<high>\S+)\)")
KEYS = ["arm", "layer", "seed", "epoch"]
TENSOR = "in"
SHARES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)  # from which share of a bin on the next step holds
OPACITY = (0.1, 0.22, 0.36, 0.52, 0.72, 1.0)
BOX = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]


@exhibit("histogram-maps", diverged="what was recorded until then is shown.")
def histogram_maps(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show the histograms of layers' inputs over training, and how much of them has moved.

    How much has moved is the measure ``histogram-change``.

    Options: ``arms``; ``layers``; ``probe``, which has recorded them (``activations`` if not
    given).
    """
    layers, probe = options["layers"], options.get("probe", "activations")
    edges, points = _histograms(evidence, arms, layers, probe)
    if points.empty:
        return Nothing()
    maps = {
        (layer, arm.name): _heatmap(at, edges)
        for arm in arms
        for layer in layers
        if len(at := points[(points["arm"] == arm.name) & (points["layer"] == layer)])
    }
    return Content(
        sentence=_sentence(_changes(evidence, arms, layers, "start", probe), arms),
        values=points.round(4),  # a share of 8,192 values is known to half a percent
        draw=lambda source: draw_histogram_maps(maps, labels_of(arms), layers, source),
        tables=(_change_table(evidence, arms, layers, probe),),
        data=_share_table(maps, edges, arms, layers),
    )


def _histograms(
    evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str], probe: str
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the edges of all bins, and shares: :data:`KEYS` and a column per bin."""
    rows = evidence.seen(arms, layers, TENSOR, probe=probe)
    matches = {stat: BIN.fullmatch(stat) for stat in set(rows["stat"])}
    bins = {stat: float(match["low"]) for stat, match in matches.items() if match}
    rows = rows[rows["stat"].isin(list(bins))]
    wide = rows.pivot(index=KEYS, columns="stat", values="value")
    ordered = sorted(wide.columns, key=bins.__getitem__)
    known = wide[ordered].dropna()  # a run that diverged has no shares at its end
    return np.array([*(bins[stat] for stat in ordered), np.inf]), known.reset_index()


def _changes(
    evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str], since: str, probe: str
) -> pd.DataFrame:
    """Return the mean of some layers' changes, of every run."""
    of = {"layer": " ".join(layers), "tensor": TENSOR, "probe": probe}
    return evidence.readings(arms, "histogram-change", **of, since=since)


def _sentence(found: pd.DataFrame, arms: Sequence[Arm]) -> str:
    stated = []
    for arm in arms:
        values = found.loc[found["arm"] == arm.name, "value"].to_numpy(dtype=float)
        if len(values):
            mean = mean_interval(values)
            certainty = text.certainty(mean, text.whole_percent)
            stated.append(f"{text.whole_percent(mean.estimate)} for {arm.label} ({certainty})")
    if not stated:
        return "No run has two records to compare"
    return (
        "At the end at least this share of what comes into the layers lies elsewhere than at the "
        f"start: {text.listing(stated)}"
    )


def _change_table(
    evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str], probe: str
) -> Table:
    found = {
        (layer, since): _changes(evidence, arms, [layer], since, probe)
        for layer in layers
        for since in ("start", "before")
    }
    rows = []
    for arm in arms:
        for layer in layers:
            cells = []
            for since in ("start", "before"):
                changes = found[layer, since]
                values = changes.loc[changes["arm"] == arm.name, "value"]
                cells.append(text.mean_and_range(values, text.whole_percent))
            rows.append((f"{arm.label}, {layer}", *cells))
    return Table(
        "Share of values that lie in other bins: mean of the seeds (lowest to highest)",
        ("Arm and layer", "At the end than at the start", "Between the last two records"),
        tuple(rows),
    )


def _heatmap(rows: pd.DataFrame, edges: np.ndarray) -> Heatmap:
    """Return the mean shares of the seeds."""
    by_epoch = rows.drop(columns=["arm", "layer", "seed"]).groupby("epoch", sort=True).mean()
    return by_epoch.index.to_numpy(dtype=float), edges, by_epoch.to_numpy()


def _share_table(
    maps: Mapping[tuple[str, str], Heatmap],
    edges: np.ndarray,
    arms: Sequence[Arm],
    layers: Sequence[str],
) -> Table:
    """Return shares at the first and the last record, below, between and above whole numbers."""
    inner = edges[1:-1]
    cuts = sorted({*np.arange(np.ceil(inner[0]), inner[-1] + 0.5), inner[0], inner[-1]})
    rows = []
    for layer in layers:
        for low, high in zip([-np.inf, *cuts], [*cuts, np.inf], strict=True):
            cells = []
            for arm in arms:
                cells += _first_and_last(maps.get((layer, arm.name)), low, high)
            rows.append((f"{layer}, {_range(low, high)}", *cells))
    columns = [f"{arm.label}, {end}" for arm in arms for end in ("start", "end")]
    return Table("Shares of values, mean of the seeds", ("Layer and values", *columns), tuple(rows))


def _first_and_last(heatmap: Heatmap | None, low: float, high: float) -> list[str]:
    """Write the share between two values at the first and at the last record."""
    if heatmap is None:
        return [text.MISSING, text.MISSING]
    _, edges, shares = heatmap
    inside = (edges[:-1] >= low - 1e-9) & (edges[1:] <= high + 1e-9)
    return [text.percent(float(shares[row][inside].sum())) for row in (0, -1)]


def _range(low: float, high: float) -> str:
    ends = [text.decimal(end, 0 if float(end).is_integer() else 1) for end in (low, high)]
    if not np.isfinite(low):
        return f"below {ends[1]}"
    return f"above {ends[0]}" if not np.isfinite(high) else text.span(*ends)


@mpl.rc_context(RC_PARAMS)
def draw_histogram_maps(
    maps: Mapping[tuple[str, str], Heatmap],
    labels: Mapping[str, str],
    layers: Sequence[str],
    source: str,
) -> Figure:
    """Draw histograms of layers over training, one panel per layer and arm, and a key below.

    Steps of opacity instead of a colour map, so that drawings follow the page's colours.

    Parameters
    ----------
    maps
        By layer and arm: epochs (T,), edges of the bins (B + 1,), and shares (T, B); bins
        that reach to infinity are not drawn.
    labels
        Text of each arm, which has a column of panels.
    layers
        Each has a row of panels.
    source
        Line at the foot.
    """
    figure, panels = new_figure(
        source,
        height=1.55 * len(layers) + 1.3,
        rows=len(layers) + 1,
        columns=len(labels),
        share_y=True,
        heights=(*[1.0] * len(layers), 0.28),
    )
    grid = [(layer, arm) for layer in layers for arm in labels]
    for number, (axes, (layer, arm)) in enumerate(zip(panels, grid, strict=False)):
        if (layer, arm) in maps:
            _fill(axes, maps[layer, arm], line_styles(labels)[arm].color)
        if number < len(labels):
            axes.set_title(shorten(labels[arm]))
        last = number >= len(grid) - len(labels)
        format_axes(
            axes, Scale(layer if number % len(labels) == 0 else ""), "Epoch" if last else ""
        )
    _key(*panels[len(grid) : len(grid) + 2])
    for axes in panels[len(grid) :]:
        axes.set_axis_off()
    return figure


def _fill(axes: Axes, heatmap: Heatmap, color: str) -> None:
    epochs, edges, shares = heatmap
    inside = np.isfinite(edges[:-1]) & np.isfinite(edges[1:])
    edges, shares = edges[np.isfinite(edges)], shares[:, inside]
    for share, above, opacity in zip(SHARES, (*SHARES[1:], np.inf), OPACITY, strict=True):
        boxes = list(_boxes(_time_edges(epochs), edges, (shares >= share) & (shares < above)))
        if boxes:
            # one path for all cells of a step keeps the file small
            outline = Path(np.concatenate([_corners(*box) for box in boxes]), BOX * len(boxes))
            axes.add_patch(
                PathPatch(outline, facecolor=color, alpha=opacity, lw=0, antialiased=False)
            )
    axes.grid(visible=False)
    axes.set_xlim(epochs[0], epochs[-1] if len(epochs) > 1 else epochs[0] + 1)
    axes.set_ylim(edges[0], edges[-1])


def _corners(left: float, right: float, low: float, high: float) -> np.ndarray:
    return np.array([(left, low), (right, low), (right, high), (left, high), (left, low)])


def _boxes(
    times: np.ndarray, edges: np.ndarray, chosen: np.ndarray
) -> Iterator[tuple[float, float, float, float]]:
    """Yield left, right, low and high of the chosen cells, neighbours in time as one."""
    for number, row in enumerate(chosen.T):  # (T,) of one bin
        changes = np.flatnonzero(np.diff(np.r_[False, row, False].astype(int)))
        for start, stop in changes.reshape(-1, 2):
            yield times[start], times[stop], edges[number], edges[number + 1]


def _time_edges(epochs: np.ndarray) -> np.ndarray:
    """Return where the columns of records end: in the middle between two records."""
    middles = (epochs[1:] + epochs[:-1]) / 2
    return np.r_[epochs[0], middles, epochs[-1] if len(epochs) > 1 else epochs[0] + 1]


def _key(axes: Axes, beside: Axes | None = None) -> None:
    """Draw the steps of opacity with the share that each begins at, in percent."""
    for number, (share, opacity) in enumerate(zip(SHARES, OPACITY, strict=True)):
        box = Path(_corners(number, number + 0.92, 0.55, 1.0), BOX)
        axes.add_patch(PathPatch(box, facecolor=INK, alpha=opacity, lw=0, antialiased=False))
        axes.text(number + 0.46, 0.4, text.tick(100 * share), ha="center", va="top", fontsize=10)
    axes.set_xlim(0, len(SHARES))
    axes.set_ylim(0, 1)
    if beside is not None:
        beside.text(0, 0.77, "% of the values or more", va="center", fontsize=10)
