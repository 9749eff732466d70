"""Figures over an ordered setting, such as the batch size, on a logarithmic axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bnstudy.report import text
from bnstudy.report.drawing.marks import dots, format_axes, label_ends, log_ticks, thin_lines
from bnstudy.report.drawing.styles import (
    MUTED,
    RC_PARAMS,
    LineStyle,
    Scale,
    line_styles,
    new_figure,
    shorten,
)


@dataclass(frozen=True)
class Guide:
    """A line that theory predicts, up to its height.

    Attributes
    ----------
    text
        Written beside it.
    levels, values
        Its ends, two each; it falls.
    above
        Whether it runs above what was measured: the text is then beside its
        start, else beside its end.
    """

    text: str
    levels: tuple[float, float]
    values: tuple[float, float]
    above: bool


@mpl.rc_context(RC_PARAMS)
def levels(
    points: pd.DataFrame,
    means: pd.DataFrame,
    labels: Mapping[str, str],
    scales: Mapping[str, Scale],
    x_label: str,
    source: str,
    *,
    columns: int = 1,
    guides: Mapping[str, Guide] | None = None,
    knees: Mapping[str, tuple[float, float, float]] | None = None,
) -> Figure:
    """Draw values against levels: thin lines of seeds, and means with their intervals.

    Parameters
    ----------
    points
        Columns ``panel``, ``arm``, ``level``, ``seed``, ``value``, ``censored``.
    means
        Columns ``panel``, ``arm``, ``level``, ``mean``, ``low``, ``high``: NaN where there
        is no interval.
    labels
        Text of each arm.
    scales
        Vertical axis of each panel; the key is its title.
    x_label
        What the levels are.
    source
        Line at the foot.
    columns
        How many panels stand side by side, sharing their vertical axis.
    guides
        A predicted line, by panel.
    knees
        Estimate, low and high of a level to mark, by arm.
    """
    rows = -(-len(scales) // columns)
    figure, panels = new_figure(
        source, height=2.75 * rows + 0.6, rows=rows, columns=columns, share_y=columns > 1
    )
    ticks = sorted(set(points["level"]))
    for number, (axes, (panel, scale)) in enumerate(zip(panels, scales.items(), strict=False)):
        mine, middle = points[points["panel"] == panel], means[means["panel"] == panel]
        left, right = number % columns == 0, number % columns == columns - 1
        ends = [end for arm, style in line_styles(labels).items()
                for end in _lines(axes, mine, middle, arm, labels[arm], style)]  # fmt: skip
        if len(scales) > 1:
            axes.set_title(shorten(panel, 30))
        bottom = number >= len(scales) - columns
        shown = scale if left else Scale("", scale.percent, scale.log)
        format_axes(axes, shown, x_label if bottom else "")
        if scale.log:
            log_ticks([axes], pd.concat([mine["value"], middle["mean"], *_heights(guides, panel)]))
        if guides and panel in guides:
            _guide(axes, guides[panel])
        _knees(axes, knees or {}, labels)
        _level_ticks(axes, ticks, narrow=columns > 1)
        if right:
            label_ends(axes, ends)
    return figure


def _heights(guides: Mapping[str, Guide] | None, panel: str) -> list[pd.Series]:
    return [pd.Series(guides[panel].values)] if guides and panel in guides else []


def _lines(
    axes: Axes, points: pd.DataFrame, means: pd.DataFrame, arm: str, label: str, style: LineStyle
) -> list[tuple[float, float, str, str]]:
    """Draw one arm; return where its line ends, with its name and colour."""
    rows = points[points["arm"] == arm]
    thin_lines(axes, rows, style, x="level", lw=0.7, alpha=0.35)
    cut = rows[rows["censored"].astype(bool)]
    dots(axes, cut["level"], cut["value"], np.ones(len(cut), bool), style)
    middle = means[means["arm"] == arm].sort_values("level")
    if middle.empty:
        return []
    axes.plot(
        middle["level"], middle["mean"], color=style.color, ls=style.linestyle, lw=2.2,
        marker=style.marker, ms=5, zorder=4,
    )  # fmt: skip
    sure = middle[np.isfinite(middle["low"]) & np.isfinite(middle["high"])]
    axes.vlines(sure["level"], sure["low"], sure["high"], color=style.color, lw=2.2, zorder=3)
    return [(float(middle["level"].iloc[-1]), float(middle["mean"].iloc[-1]), label, style.color)]


def _guide(axes: Axes, guide: Guide) -> None:
    axes.plot(guide.levels, guide.values, color=MUTED, lw=1.6, ls=(0, (6, 3)), zorder=1)
    end = 0 if guide.above else 1
    axes.annotate(
        guide.text, (guide.levels[end], guide.values[end]), xytext=(10 - 20 * end, 0),
        textcoords="offset points", color=MUTED, fontsize=9.5, va="center",
        ha="right" if end else "left",
    )  # fmt: skip


def _knees(
    axes: Axes, knees: Mapping[str, tuple[float, float, float]], labels: Mapping[str, str]
) -> None:
    for place, (arm, (level, low, high)) in enumerate(knees.items()):
        style, height = line_styles(labels)[arm], 0.05 + 0.07 * place
        across = axes.get_xaxis_transform()
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [height] * 2, color=style.color, lw=2.2, transform=across)
        axes.plot([level], [height], marker=style.marker, ms=6.5, color=style.color,
                  transform=across)  # fmt: skip
        axes.plot(
            [level] * 2, [0, 1], color=style.color, ls=style.linestyle, lw=0.9, transform=across
        )


def _level_ticks(axes: Axes, ticks: Sequence[float], *, narrow: bool) -> None:
    axes.set_xscale("log", base=2)
    shown = ticks[::2] if narrow and len(ticks) > 5 else ticks
    axes.xaxis.set_major_locator(FixedLocator(list(shown)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text.tick(value)))
    axes.xaxis.set_minor_locator(NullLocator())
