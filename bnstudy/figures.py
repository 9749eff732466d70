"""Figures: a tidy table in, a figure out, one function each, the title its finding.

One look for all: the Okabe-Ito palette, which colour-blind readers can tell
apart, always beside a marker and a line style; every seed is drawn; labels
stand at the lines.  Figures are made without pyplot, so nothing global
changes, and as SVG have the same bytes each time.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

WIDTH = 5.8  # inches: readable at 360 pixels, not too wide in print
STYLE = {
    **sns.axes_style("whitegrid"),
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Arial", "DejaVu Sans", "sans-serif"],
    "font.size": 10.5,
    "axes.labelsize": 10.5,
    "axes.titlesize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#222222",
    "text.color": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "grid.color": "#e4e4e4",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
}
INK, MUTED = "#222222", "#595959"


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of one arm."""

    color: str
    marker: str
    line: str


LOOKS = (
    Look("#0072B2", "o", "-"),
    Look("#D55E00", "s", "--"),
    Look("#009E73", "^", "-."),
    Look("#CC79A7", "D", ":"),
    Look("#8A6500", "v", (0, (5, 1))),  # type: ignore[arg-type]
    Look("#3F7FA8", "P", (0, (3, 1, 1, 1))),  # type: ignore[arg-type]
)


def look(index: int) -> Look:
    """Return the look of the arm at that place; they repeat after six."""
    return LOOKS[index % len(LOOKS)]


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return a figure as an SVG element with title and description, always the same bytes.

    Parameters
    ----------
    figure
        As a function of this module made it.
    name
        Put before every id inside, so that several figures share a page.
    title, description
        What a reader hears who does not see it.
    """
    buffer = StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    opening, rest = svg.split(">", 1)
    size = re.search(r'viewBox="[^"]+"', opening)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{size.group() if size else ""} role="img" '
        f'aria-labelledby="{name}-title {name}-desc">\n'
        f'<title id="{name}-title">{escape(title)}</title>\n'
        f'<desc id="{name}-desc">{escape(description)}</desc>{rest.strip()}\n'
    )


def escape(text: str) -> str:
    """Return a text as it may stand in XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain(text: str) -> str:
    """Return a text as matplotlib shows it literally: no mathematics between dollar signs."""
    return text.replace("$", r"\$")


def _figure(
    title: str, source: str, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Make a figure with its title above and its source below the axes."""
    lines = textwrap.wrap(title, 66)
    top, bottom = 0.16 + 0.2 * len(lines), 0.3
    figure = Figure(figsize=(WIDTH, height + top + bottom), layout="constrained")
    total = height + top + bottom
    figure.get_layout_engine().set(  # type: ignore[union-attr]
        rect=(0, bottom / total, 1, 1 - (top + bottom) / total)
    )
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    figure.text(
        0.01,
        1 - 0.08 / total,
        plain("\n".join(lines)),
        va="top",
        weight="bold",
        size=11.5,
        color=INK,
    )
    figure.text(0.01, 0.08 / total, plain(source), va="bottom", size=8.5, color=MUTED)
    return figure, axes


def _percent(ax: Axes, decimals: int = 0) -> None:
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=decimals, symbol=" %"))


def _label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write labels (x, y, text, colour) right of lines, moved apart where they touch."""
    low, high = ax.get_ylim()
    gap, placed = 0.075 * (high - low), -np.inf
    for x, y, text, color in sorted(ends, key=lambda end: end[1]):
        placed = max(y, placed + gap)
        ax.annotate(
            plain(text),
            (x, placed),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=color,
            weight="bold",
            annotation_clip=False,
        )


def learning_curves(
    curves: pd.DataFrame,
    arms: Mapping[str, str],
    *,
    x: str,
    y: str,
    x_label: str,
    y_label: str,
    title: str,
    source: str,
) -> Figure:
    """Draw a measure over training: thin lines are seeds, thick lines their means.

    Parameters
    ----------
    curves
        Columns ``arm``, ``seed``, ``x`` and ``y``.
    arms
        Label of each arm, in order.
    x, y
        Names of the columns to draw.
    x_label, y_label, title, source
        Words.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, source, 3.0)
        ax, ends = axes[0, 0], []
        for index, (arm, label) in enumerate(arms.items()):
            mine, style = curves[curves["arm"] == arm].dropna(subset=[y]), look(index)
            if mine.empty:
                continue
            for _, seed in mine.groupby("seed"):
                ax.plot(seed[x], seed[y], color=style.color, lw=0.6, alpha=0.35)
            mean = mine.groupby(x)[y].mean()
            ax.plot(mean.index, mean, color=style.color, lw=2.4, ls=style.line)
            ends.append((float(mean.index[-1]), float(mean.iloc[-1]), label, style.color))
        ax.set(xlabel=x_label, ylabel=y_label)
        if "accuracy" in y:
            _percent(ax)
        _label_ends(ax, ends)
        return figure


def steps_to_target(
    steps: pd.DataFrame, arms: Mapping[str, str], *, title: str, source: str
) -> Figure:
    """Draw the steps to each target, the arms of a seed joined by a line.

    Parameters
    ----------
    steps
        Columns ``target``, ``target_label``, ``arm``, ``seed``, ``steps`` (the
        horizon where censored) and ``reached``.
    arms
        Label of each arm, in order.
    title, source
        Words.
    """
    with mpl.rc_context(STYLE):
        targets = sorted(steps["target"].unique())
        figure, axes = _figure(title, source, 2.9, 1, len(targets), sharey=True)
        places = {arm: place for place, arm in enumerate(arms)}
        for ax, target in zip(axes[0], targets, strict=True):
            here = steps[steps["target"] == target]
            for _, seed in here.groupby("seed"):
                seed = seed.assign(place=seed["arm"].map(places)).sort_values("place")
                ax.plot(seed["place"], seed["steps"], color="#9a9a9a", lw=0.6, zorder=1)
            for arm, place in places.items():
                _points(ax, here[here["arm"] == arm].assign(place=place), "place", look(place))
            ax.set_title(plain(str(here["target_label"].iloc[0])))
            ax.set_xticks(list(places.values()), [plain(label) for label in arms.values()])
            ax.set_xlim(-0.5, len(places) - 0.5)
            ax.set_yscale("log")
        axes[0, 0].set_ylabel("optimizer steps (log)")
        _plain_log(axes[0, 0])
        return figure


def _points(ax: Axes, rows: pd.DataFrame, x: str, style: Look) -> None:
    """Draw a point a seed; open triangles where the target was not reached."""
    reached = rows["reached"].to_numpy(dtype=bool)
    values = {True: rows[reached], False: rows[~reached]}
    ax.plot(
        values[True][x], values[True]["steps"], style.marker, color=style.color, ms=4.5, zorder=3
    )
    ax.plot(
        values[False][x],
        values[False]["steps"],
        "^",
        color=style.color,
        mfc="white",
        ms=6,
        zorder=2,
        clip_on=False,
    )


def _plain_log(ax: Axes) -> None:
    """Label a logarithmic step axis with whole numbers."""
    low, high = ax.get_ylim()
    ticks = [base * 10**power for power in range(7) for base in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    ax.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()


def learning_rates(
    steps: pd.DataFrame, families: Mapping[str, str], *, title: str, source: str
) -> Figure:
    """Draw steps to a target against the learning rate, both axes logarithmic.

    Parameters
    ----------
    steps
        Columns ``family``, ``learning_rate``, ``seed``, ``steps``, ``reached``.
    families
        Label of each family, in order.
    title, source
        Words.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, source, 3.0)
        ax, ends = axes[0, 0], []
        for index, (family, label) in enumerate(families.items()):
            mine, style = steps[steps["family"] == family], look(index)
            if mine.empty:
                continue
            shift = 1.06 ** (2 * index - len(families) + 1)  # the families side by side
            mine = mine.assign(x=mine["learning_rate"] * shift)
            _points(ax, mine, "x", style)
            median = mine.groupby("x")["steps"].median()
            ax.plot(median.index, median, color=style.color, lw=2, ls=style.line)
            ends.append((float(median.index[-1]), float(median.iloc[-1]), label, style.color))
        ax.set(xscale="log", yscale="log", xlabel="learning rate (log)")
        ax.set_ylabel("optimizer steps (log)")
        rates = sorted(steps["learning_rate"].unique())
        ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.minorticks_off()
        _plain_log(ax)
        for x, y, text, color in ends:
            ax.annotate(
                plain(text), (x, y), xytext=(9, 0), textcoords="offset points", va="center",
                color=color, weight="bold", annotation_clip=False,
            )  # fmt: skip
        return figure


def printed_results(
    curves: pd.DataFrame,
    printed: pd.DataFrame,
    arms: Mapping[str, str],
    *,
    title: str,
    source: str,
) -> Figure:
    """Draw running means of our seeds with the printed values over them.

    Parameters
    ----------
    curves
        Columns ``arm``, ``seed``, ``epoch``, ``loss``, ``accuracy``, the last
        two running means since the start of the epoch.
    printed
        Columns ``arm``, ``epoch``, ``loss``, ``accuracy``.
    arms
        Label of each arm, in order.
    title, source
        Words.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, source, 4.4, 2, len(arms), sharex=True, sharey="row")
        for column, (arm, label) in enumerate(arms.items()):
            ours, theirs = curves[curves["arm"] == arm], printed[printed["arm"] == arm]
            for row, measure in enumerate(("loss", "accuracy")):
                ax, style = axes[row, column], look(column)
                for (_, _), part in ours.groupby(["seed", np.ceil(ours["epoch"] - 1e-9)]):
                    ax.plot(part["epoch"], part[measure], color=style.color, lw=0.7, alpha=0.45)
                ax.plot(theirs["epoch"], theirs[measure], "D", color=INK, ms=4, zorder=3)
            axes[0, column].set_title(plain(label), color=look(column).color, weight="bold")
            axes[1, column].set_xlabel("epoch")
        axes[0, 0].set_ylabel("training loss")
        axes[1, 0].set_ylabel("training accuracy")
        _percent(axes[1, 0])
        return figure


def sorted_parameters(
    ours: pd.DataFrame, printed: Mapping[str, Sequence[float]], *, title: str, source: str
) -> Figure:
    """Draw gamma and beta of a layer, sorted within each seed, with printed values over them.

    Parameters
    ----------
    ours
        Columns ``seed``, ``parameter`` (gamma, beta), ``rank`` (1, 2, ...), ``value``.
    printed
        Values of each parameter, in any order.
    title, source
        Words.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, source, 2.8, 1, 2)
        for ax, parameter in zip(axes[0], ("gamma", "beta"), strict=True):
            mine = ours[ours["parameter"] == parameter]
            for _, seed in mine.groupby("seed"):
                ax.plot(
                    seed["rank"],
                    seed["value"],
                    "-o",
                    color=look(0).color,
                    lw=0.6,
                    ms=2.5,
                    alpha=0.5,
                )
            values = sorted(printed[parameter])
            ax.plot(range(1, len(values) + 1), values, "D", color=INK, ms=5, zorder=3)
            ax.set_title(parameter)
            ax.set_xlabel("channel, sorted by value")
        axes[0, 0].set_ylabel("value at the end")
        return figure


def evaluation_statistics(
    scores: pd.DataFrame, arms: Mapping[str, str], *, title: str, source: str
) -> Figure:
    """Draw test accuracy by epoch with running and with population statistics.

    Parameters
    ----------
    scores
        Columns ``arm``, ``seed``, ``epoch``, ``running``, ``population``.
    arms
        Label of each arm, in order.
    title, source
        Words.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, source, 2.9, 1, len(arms), sharey=True)
        kinds = {"population": look(0), "running": look(1)}
        for ax, (arm, label) in zip(axes[0], arms.items(), strict=True):
            mine = scores[scores["arm"] == arm]
            for kind, style in reversed(kinds.items()):
                for _, seed in mine.groupby("seed"):
                    ax.plot(seed["epoch"], seed[kind], color=style.color, lw=0.7, alpha=0.45)
                mean = mine.groupby("epoch")[kind].mean()
                ax.plot(
                    mean.index, mean, color=style.color, lw=2.2, ls=style.line, marker=style.marker,
                    ms=4, label=kind,
                )  # fmt: skip
            ax.set_title(plain(label))
            ax.set_xlabel("epoch")
        axes[0, 0].set_ylabel("test accuracy")
        _percent(axes[0, 0])
        axes[0, -1].legend(frameon=False, loc="lower right", title="statistics", fontsize=9.5)
        return figure


def paired_points(
    values: pd.DataFrame, arms: Mapping[str, str], *, y_label: str, title: str, source: str
) -> Figure:
    """Draw one accuracy a seed for each arm, the arms of a seed joined by a line.

    Parameters
    ----------
    values
        Columns ``arm``, ``seed``, ``value``.
    arms
        Label of each arm, in order.
    y_label, title, source
        Words.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, source, 2.7)
        ax = axes[0, 0]
        places = {arm: place for place, arm in enumerate(arms)}
        values = values.assign(place=values["arm"].map(places)).sort_values("place")
        for _, seed in values.groupby("seed"):
            ax.plot(seed["place"], seed["value"], color="#9a9a9a", lw=0.6, zorder=1)
        for arm, place in places.items():
            mine, style = values[values["arm"] == arm], look(place)
            ax.plot(mine["place"], mine["value"], style.marker, color=style.color, ms=5, zorder=2)
            if not mine.empty:
                ax.hlines(
                    mine["value"].mean(), place + 0.12, place + 0.3, color=style.color, lw=2.4
                )
        ax.set_xticks(list(places.values()), [plain(label) for label in arms.values()])
        ax.set_xlim(-0.5, len(places) - 0.5)
        ax.set_ylabel(y_label)
        _percent(ax, decimals=1)
        return figure
