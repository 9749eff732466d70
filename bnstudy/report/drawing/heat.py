"""Heat maps of histograms over training, in steps of opacity, so that they follow the page."""

from collections.abc import Iterator, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from bnstudy.report.drawing.marks import dress
from bnstudy.report.drawing.styles import INK, STYLE, Scale, canvas, looks, short

Map = tuple[np.ndarray, np.ndarray, np.ndarray]
SHARES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)  # from which share of a bin on the next step holds
OPACITY = (0.1, 0.22, 0.36, 0.52, 0.72, 1.0)


@mpl.rc_context(STYLE)
def histogram_maps(
    maps: Mapping[tuple[str, str], Map],
    labels: Mapping[str, str],
    layers: Sequence[str],
    source: str,
) -> Figure:
    """Draw histograms of layers over training, a panel an arm and a layer, and a key below.

    Parameters
    ----------
    maps
        By layer and arm: epochs (T,), edges of the bins (B + 1,), and shares (T, B); bins
        that reach to infinity are not drawn.
    labels
        Text of each arm: a column of panels each.
    layers
        A row of panels each.
    source
        Line at the foot.
    """
    figure, panels = canvas(
        source,
        height=1.55 * len(layers) + 1.3,
        rows=len(layers) + 1,
        columns=len(labels),
        share_y=True,
        heights=(*[1.0] * len(layers), 0.28),
    )
    grid = [(layer, arm) for layer in layers for arm in labels]
    for number, (axes, where) in enumerate(zip(panels, grid, strict=False)):
        layer, arm = where
        if where in maps:
            _fill(axes, maps[where], looks(labels)[arm].color)
        if number < len(labels):
            axes.set_title(short(labels[arm]))
        last = number >= len(grid) - len(labels)
        dress(axes, Scale(layer if number % len(labels) == 0 else ""), "Epoch" if last else "")
    _key(*panels[len(grid) : len(grid) + 2])
    for axes in panels[len(grid) :]:
        axes.set_axis_off()
    return figure


def _fill(axes: Axes, drawn: Map, color: str) -> None:
    epochs, edges, shares = drawn
    inside = np.isfinite(edges[:-1]) & np.isfinite(edges[1:])
    edges, shares = edges[np.isfinite(edges)], shares[:, inside]
    for share, above, opacity in zip(SHARES, (*SHARES[1:], np.inf), OPACITY, strict=True):
        boxes = list(_boxes(_time_edges(epochs), edges, (shares >= share) & (shares < above)))
        if boxes:
            outline = Path(np.concatenate([_corners(*box) for box in boxes]), CODES * len(boxes))
            axes.add_patch(
                PathPatch(outline, facecolor=color, alpha=opacity, lw=0, antialiased=False)
            )
    axes.grid(visible=False)
    axes.set_xlim(epochs[0], epochs[-1] if len(epochs) > 1 else epochs[0] + 1)
    axes.set_ylim(edges[0], edges[-1])


CODES = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]


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
    """Draw the steps of opacity with the share that each begins at, in per cent."""
    for number, (share, opacity) in enumerate(zip(SHARES, OPACITY, strict=True)):
        box = Path(_corners(number, number + 0.92, 0.55, 1.0), CODES)
        axes.add_patch(PathPatch(box, facecolor=INK, alpha=opacity, lw=0, antialiased=False))
        axes.text(number + 0.46, 0.4, f"{100 * share:g}", ha="center", va="top", fontsize=10)
    axes.set_xlim(0, len(SHARES))
    axes.set_ylim(0, 1)
    if beside is not None:
        beside.text(0, 0.77, "% of the values or more", va="center", fontsize=10)
