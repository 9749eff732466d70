"""Figures: a tidy table in, a matplotlib figure out, one function a figure.

No number is computed here and no global state is touched: every function makes
its own :class:`matplotlib.figure.Figure` under one style.  The palette keeps
the hues of Okabe & Ito (2008), which colour-blind readers tell apart, darkened
until text in them has a contrast of 4.5:1 on white; each arm also has a marker
and a line style of its own.  An open triangle is always a censored value.
"""

import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

INK, MUTED, GRID, PAPER = "#1d232b", "#56606c", "#dfe3e8", "#ffffff"
WIDTH = 5.4  # inches: at this width 11 pt stay legible on a screen of 360 px
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
LONGEST_LABEL = 24

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
    "font.size": 11.0,
    "text.parse_math": False,  # a name may hold a dollar sign
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 11.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.image_inline": True,
}


@dataclass(frozen=True)
class Look:
    """How one arm is drawn: colour, marker and line style all tell it apart."""

    color: str
    marker: str
    line: Any


LOOKS = (
    Look("#b34700", "s", (0, (4, 1.5))),
    Look("#0067a5", "o", "-"),
    Look("#00705a", "D", (0, (1, 1))),
    Look("#93407d", "P", (0, (5, 1, 1, 1))),
    Look("#6f5a00", "X", (0, (7, 2))),
    Look("#4a535e", "v", (0, (2, 2))),
)


@dataclass(frozen=True)
class Scale:
    """A vertical axis.

    Attributes
    ----------
    label
        What it shows, with its unit.
    percent
        Whether values in 0..1 are written as percentages.
    log
        Whether it is logarithmic.
    least
        The smallest span it may have.
    """

    label: str
    percent: bool = False
    log: bool = False
    least: float = 0.0


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Give each name a look, in order; after six they repeat."""
    return {name: LOOKS[index % len(LOOKS)] for index, name in enumerate(names)}


@mpl.rc_context(STYLE)
def learning_curves(
    points: pd.DataFrame, labels: Mapping[str, str], scale: Scale, source: str
) -> Figure:
    """Draw every seed thin and the mean of the seeds thick.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``epoch``, ``value``.
    labels
        Text of each arm, in the order of the looks.
    scale
        Of the values.
    source
        Line at the foot.
    """
    figure, (axes,) = _canvas(source, height=3.7)
    ends = []
    for arm, look in looks(labels).items():
        rows = points[points["arm"] == arm]
        _thin_lines(axes, rows, look)
        mean = rows.groupby("epoch", sort=True)["value"].mean()
        if len(mean):
            axes.plot(mean.index, mean, color=look.color, ls=look.line, lw=2.6, zorder=3)
            ends.append((float(mean.index[-1]), float(mean.iloc[-1]), labels[arm], look.color))
    _dress(axes, scale, "Epoch")
    _label_ends(axes, ends)
    return figure


@mpl.rc_context(STYLE)
def paired_steps(
    points: pd.DataFrame, labels: Mapping[str, str], scale: Scale, source: str
) -> Figure:
    """Draw steps to each target, a panel a target, a line joining the arms of one seed.

    Parameters
    ----------
    points
        Columns ``target`` (its text), ``arm``, ``seed``, ``steps``, ``censored``.
    labels, scale, source
        As in :func:`learning_curves`.
    """
    targets = list(dict.fromkeys(points["target"]))
    figure, panels = _canvas(source, height=3.9, columns=max(1, len(targets)), share_y=True)
    for axes, target in zip(panels, targets, strict=False):
        rows = points[points["target"] == target]
        _pairs(axes, rows, labels, "steps")
        axes.set_title(target)
        _dress(axes, scale if axes is panels[0] else Scale("", log=scale.log), "")
    _steps_ticks(panels, points["steps"])
    return figure


@mpl.rc_context(STYLE)
def learning_rates(
    points: pd.DataFrame, labels: Mapping[str, str], scales: Mapping[str, Scale], source: str
) -> Figure:
    """Draw each measure against the learning rate: a point a seed, a line through the medians.

    Parameters
    ----------
    points
        Columns ``arm`` (the family), ``rate``, ``seed``, ``censored``, and one
        for each key of ``scales``.  ``censored`` concerns the first measure.
    labels
        Text of each family.
    scales
        Axis of each measure, a panel each.
    source
        Line at the foot.
    """
    figure, panels = _canvas(source, height=2.6 * len(scales) + 0.5, rows=len(scales))
    families = looks(labels)
    rates = sorted(set(points["rate"]))
    for number, (axes, (measure, scale)) in enumerate(zip(panels, scales.items(), strict=True)):
        ends = []
        for place, (family, look) in enumerate(families.items()):
            rows = points[points["arm"] == family]
            shift = 1.08 ** (2 * place - len(families) + 1)  # side by side, not on each other
            censored = rows["censored"] & (number == 0)
            x = rows["rate"] * shift * 1.03 ** _aside(rows["seed"], 1.0)
            _dots(axes, x, rows[measure], censored, look)
            middle = rows.groupby("rate", sort=True)[measure].median()
            if len(middle):
                axes.plot(middle.index * shift, middle, color=look.color, ls=look.line, lw=2.0)
                last = float(middle.index[-1]) * shift
                ends.append((last, float(middle.iloc[-1]), labels[family], look.color))
        axes.set_xscale("log")
        _dress(axes, scale, "Learning rate" if number == len(scales) - 1 else "")
        axes.xaxis.set_major_locator(FixedLocator(rates))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(FixedLocator([]))
        if scale.log:
            _steps_ticks([axes], points[measure])
        _label_ends(axes, ends)
    return figure


@mpl.rc_context(STYLE)
def printed_results(
    points: pd.DataFrame,
    printed: pd.DataFrame,
    labels: Mapping[str, str],
    scales: Mapping[str, Scale],
    source: str,
) -> Figure:
    """Draw the seeds' curves and their band, with printed values as points over them.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``epoch`` and one for each key of ``scales``.
    printed
        Columns ``arm``, ``epoch`` and the same measures.
    labels
        Text of each arm: a column of panels each.
    scales
        Axis of each measure: a row of panels each.
    source
        Line at the foot.
    """
    figure, panels = _canvas(
        source, height=2.3 * len(scales) + 0.6, rows=len(scales), columns=len(labels), share_y=True
    )
    arms = looks(labels)
    grid = [(measure, arm) for measure in scales for arm in arms]
    for number, (axes, (measure, arm)) in enumerate(zip(panels, grid, strict=True)):
        look = arms[arm]
        rows = points[points["arm"] == arm].rename(columns={measure: "value"})
        _thin_lines(axes, rows, look)
        band = rows.groupby("epoch", sort=True)["value"].agg(["min", "max"])
        axes.fill_between(
            band.index, band["min"], band["max"], color=look.color, alpha=0.18, lw=0, zorder=1
        )
        theirs = printed[printed["arm"] == arm]
        axes.plot(
            theirs["epoch"], theirs[measure], ls="", marker="o", ms=4.6, mfc=PAPER, mec=INK,
            mew=1.3, zorder=4,
        )  # fmt: skip
        if number < len(arms):
            axes.set_title(_short(labels[arm]))
        if number == 0 and len(theirs):
            _note_printed(axes, theirs["epoch"].iloc[-1], theirs[measure].iloc[-1])
        scale = scales[measure] if number % len(arms) == 0 else Scale("", scales[measure].percent)
        _dress(axes, scale, "Epoch" if number >= len(grid) - len(arms) else "")
    return figure


@mpl.rc_context(STYLE)
def sorted_parameters(points: pd.DataFrame, printed: pd.DataFrame, source: str) -> Figure:
    """Draw each seed's sorted parameters by rank, with the printed ones over them.

    Parameters
    ----------
    points
        Columns ``parameter``, ``seed``, ``rank`` (1 is the smallest), ``value``.
    printed
        Columns ``parameter``, ``rank``, ``value``.
    source
        Line at the foot.
    """
    names = list(dict.fromkeys(printed["parameter"]))
    figure, panels = _canvas(source, height=3.3, columns=len(names))
    for axes, name, look in zip(panels, names, LOOKS[1:], strict=False):
        rows = points[points["parameter"] == name]
        axes.plot(
            rows["rank"], rows["value"], ls="", marker="o", ms=4, mfc=look.color, mec="none",
            alpha=0.45, zorder=2,
        )  # fmt: skip
        theirs = printed[printed["parameter"] == name]
        axes.plot(
            theirs["rank"], theirs["value"], ls="", marker="D", ms=6, mfc=PAPER, mec=INK,
            mew=1.5, zorder=3,
        )  # fmt: skip
        axes.set_title(name)
        _dress(axes, Scale(""), "Rank of channel")
        axes.set_xlim(0.5, max(theirs["rank"], default=1) + 0.5)
    return figure


@mpl.rc_context(STYLE)
def evaluation_statistics(points: pd.DataFrame, labels: Mapping[str, str], source: str) -> Figure:
    """Draw test accuracy by epoch under both kinds of statistics, a panel an arm.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``epoch``, ``running``, ``population``.
    labels, source
        As in :func:`learning_curves`.
    """
    figure, panels = _canvas(source, height=2.5 * len(labels) + 0.5, rows=len(labels))
    for number, (axes, arm) in enumerate(zip(panels, labels, strict=True)):
        rows, ends = points[points["arm"] == arm], []
        for kind, look in zip(("running", "population"), LOOKS, strict=False):
            named = rows.rename(columns={kind: "value"})
            _thin_lines(axes, named, look, marker=True)
            mean = named.groupby("epoch", sort=True)["value"].mean()
            axes.plot(mean.index, mean, color=look.color, ls=look.line, lw=2.6, zorder=3)
            if len(mean):
                ends.append((float(mean.index[-1]), float(mean.iloc[-1]), kind, look.color))
        axes.set_title(_short(labels[arm]))
        last = number == len(labels) - 1
        _dress(axes, Scale("Test accuracy", percent=True), "Epoch" if last else "")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        _label_ends(axes, ends)
    return figure


@mpl.rc_context(STYLE)
def paired_differences(
    points: pd.DataFrame,
    differences: pd.DataFrame,
    labels: Mapping[str, str],
    scales: tuple[Scale, Scale],
    source: str,
) -> Figure:
    """Draw the values of paired arms and, beside them, each arm's differences to the baseline.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``value``.
    differences
        Columns ``arm``, ``seed``, ``difference`` and, the same in all rows of
        an arm, ``mean``, ``low``, ``high``: NaN where there is no interval.
    labels
        Text of each arm.
    scales
        Of the values and of the differences.
    source
        Line at the foot.
    """
    figure, (left, right) = _canvas(source, height=3.6, columns=2)
    _pairs(left, points, labels, "value")
    _dress(left, scales[0], "")
    others = [arm for arm in labels if arm in set(differences["arm"])]
    for place, arm in enumerate(others):
        rows, look = differences[differences["arm"] == arm], looks(labels)[arm]
        _dots(
            right,
            place + _aside(rows["seed"], 0.16),
            rows["difference"],
            np.zeros(len(rows), bool),
            look,
        )
        mean, low, high = rows.iloc[0][["mean", "low", "high"]]
        if math.isfinite(low) and math.isfinite(high):
            right.plot([place + 0.3] * 2, [low, high], color=INK, lw=2.2, zorder=3)
        right.plot([place + 0.3], [mean], ls="", marker="D", ms=6.5, color=INK, zorder=4)
    right.axhline(0.0, color=MUTED, lw=1.2)
    right.set_xticks(range(len(others)), [_wrapped(labels[arm]) for arm in others])
    right.set_xlim(-0.6, max(len(others), 1) - 0.3)
    _dress(right, scales[1], "")
    return figure


def _canvas(
    source: str, *, height: float, rows: int = 1, columns: int = 1, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a source line at its foot and a grid of empty axes above."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    foot = 0.27 / height
    figure.get_layout_engine().set(  # type: ignore[union-attr,call-arg]
        rect=(0, foot, 1, 1 - foot), w_pad=0.06, h_pad=0.06
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)
    figure.text(0.01, 0.012, source, fontsize=8.5, color=MUTED, va="bottom", in_layout=False)
    return figure, list(grid.flat)


def _note_printed(axes: Axes, x: float, y: float) -> None:
    axes.annotate(
        "printed", (x, y), xytext=(0, 9), textcoords="offset points", ha="right", fontsize=10
    )


def _thin_lines(axes: Axes, rows: pd.DataFrame, look: Look, *, marker: bool = False) -> None:
    for _, line in rows.groupby("seed", sort=True):
        axes.plot(
            line["epoch"], line["value"], color=look.color, lw=0.8, alpha=0.4, zorder=2,
            marker=look.marker if marker else None, ms=2.2, mew=0,
        )  # fmt: skip


def _dots(axes: Axes, x: Any, y: Any, censored: Any, look: Look) -> None:
    x, y, censored = np.asarray(x), np.asarray(y), np.asarray(censored, dtype=bool)
    seen: Any = {"marker": look.marker, "ms": 4.2, "mfc": look.color, "mec": "none", "alpha": 0.75}
    cut: Any = {"marker": "^", "ms": 4.8, "mfc": "none", "mec": look.color, "mew": 0.9}
    for chosen, drawn in ((~censored, seen), (censored, cut)):
        if chosen.any():  # an empty line would upset the layout
            axes.plot(x[chosen], y[chosen], ls="", zorder=3, clip_on=False, **drawn)


def _aside(seeds: pd.Series, width: float) -> np.ndarray:
    """Return a place in [-width, width] for each seed, so that equal values stay apart."""
    order = np.searchsorted(np.unique(seeds), seeds)
    return width * (2 * order / max(1, order.max(initial=0)) - 1) if len(seeds) > 1 else 0 * order


def _pairs(axes: Axes, rows: pd.DataFrame, labels: Mapping[str, str], column: str) -> None:
    places = {arm: place for place, arm in enumerate(labels)}
    rows = rows.assign(place=rows["arm"].map(places) + _aside(rows["seed"], 0.2))
    for _, pair in rows.groupby("seed", sort=True):
        ordered = pair.sort_values("place")
        axes.plot(ordered["place"], ordered[column], color=MUTED, lw=0.7, alpha=0.6, zorder=1)
    for arm, look in looks(labels).items():
        mine = rows[rows["arm"] == arm]
        censored = mine["censored"] if "censored" in mine else np.zeros(len(mine), bool)
        _dots(axes, mine["place"], mine[column], censored, look)
    axes.set_xticks(range(len(labels)), [_wrapped(text) for text in labels.values()])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.grid(visible=False, axis="x")


def _dress(axes: Axes, scale: Scale, x_label: str) -> None:
    if scale.log:
        axes.set_yscale("log")
    if scale.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol="%"))
    if scale.label:
        axes.set_ylabel(_short(scale.label, 34))
    if x_label:
        axes.set_xlabel(x_label)
    if x_label == "Epoch":
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.tick_params(length=3)
    axes.margins(y=0.06)
    if scale.least:
        _keep_span(axes, scale.least)


def _keep_span(axes: Axes, least: float) -> None:
    """Widen a vertical axis to at least this span, so that rounding errors look like none."""
    low, high = axes.get_ylim()
    missing = max(0.0, least - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)


def _steps_ticks(panels: Sequence[Axes], steps: pd.Series) -> None:
    """Put a few round numbers on a logarithmic axis, written out."""
    if not len(steps):
        return
    low, high = float(steps.min()) / 1.25, float(steps.max()) * 1.25
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps_of_ten in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        if len(ticks) < 3:
            ticks = [
                m * 10.0**d for d in decades for m in steps_of_ten if low <= m * 10.0**d <= high
            ]
    for axes in panels:
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_locator(FixedLocator([]))


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name to the right of its end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    where = [float(axes.transAxes.inverted().transform(axes.transData.transform(end[:2]))[1])
             for end in ends]  # fmt: skip
    for (_, _, text, color), height in zip(ends, _apart(where, 0.09), strict=True):
        axes.annotate(
            _short(text), (1.0, height), xycoords="axes fraction", xytext=(6, 0),
            textcoords="offset points", color=color, va="center", fontweight="bold",
            annotation_clip=False,
        )  # fmt: skip


def _apart(heights: list[float], gap: float) -> list[float]:
    """Move heights (0..1) apart to at least ``gap``, keeping their order."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    moved = list(heights)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    excess = max([0.0, *(height - 1.0 for height in moved)])
    return [height - excess for height in moved]


def _short(text: str, longest: int = LONGEST_LABEL) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _wrapped(text: str) -> str:
    """Break a label of two or more words into two lines, unless it is very short."""
    text = _short(text)
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    if len(text) < 7 or not spaces:
        return text
    middle = min(spaces, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:middle]}\n{text[middle + 1 :]}"


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return a figure as an SVG document that is the same text every time.

    Parameters
    ----------
    figure
        Any of this module's.
    name
        Unique among the figures of a page: all ids are derived from it.
    title, description
        Its text alternative: read aloud in its place.

    Returns
    -------
    str
        Text stays text, in a generic font.  The only ids are those that are
        referred to, and they start with ``name``.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # A glyph that the layout font lacks is drawn by the reader's own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = drawing.replace("'DejaVu Sans'", FONT)
    # A style sheet inside a drawing would rule the whole page that holds it.
    drawing = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", drawing, flags=re.DOTALL)
    drawing = _own_ids(drawing, name)
    opening, rest = drawing.split(">", 1)
    return (
        f'{opening} stroke-linejoin="round" role="img"'
        f' aria-labelledby="{name}-title {name}-desc">\n'
        f' <title id="{name}-title">{escape(title)}</title>\n'
        f' <desc id="{name}-desc">{escape(description)}</desc>{rest}'
    )


def _own_ids(drawing: str, name: str) -> str:
    """Drop ids that nothing refers to, and start the others with the figure's name."""
    used = sorted(set(re.findall(r'(?:href="|url\()#([^")]+)', drawing)))
    numbers = {old: f"{name}-{number}" for number, old in enumerate(used)}

    def renamed(match: re.Match[str]) -> str:
        new = numbers.get(match[1])
        return f' id="{new}"' if new else ""

    drawing = re.sub(r' id="([^"]+)"', renamed, drawing)
    return re.sub(r'(href="|url\()#([^")]+)', lambda m: f"{m[1]}#{numbers[m[2]]}", drawing)
