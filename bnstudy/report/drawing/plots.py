"""The figures, one function each: a tidy table in, a matplotlib figure out."""

import math
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from bnstudy.report.drawing.marks import (
    dots,
    epoch_ticks,
    format_axes,
    label_ends,
    label_printed,
    log_ticks,
    paired_dots,
    seed_offsets,
    thin_lines,
)
from bnstudy.report.drawing.styles import (
    INK,
    LINE_STYLES,
    MUTED,
    PAPER,
    RC_PARAMS,
    Scale,
    line_styles,
    new_figure,
    shorten,
    wrap_label,
    wrap_tick_labels,
)


@mpl.rc_context(RC_PARAMS)
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
    if len(labels) > 2:  # three names need the whole width
        figure, panels = new_figure(source, height=3.1 * len(targets) + 0.5, rows=len(targets))
    else:
        figure, panels = new_figure(source, height=3.9, columns=len(targets), share_y=True)
    for axes, target in zip(panels, targets, strict=False):
        rows = points[points["target"] == target]
        paired_dots(axes, rows, labels, "steps")
        axes.set_title(target)
        named = axes is panels[0] or len(labels) > 2
        format_axes(axes, scale if named else Scale("", log=scale.log), "")
    log_ticks(panels, points["steps"])
    return figure


@mpl.rc_context(RC_PARAMS)
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
    figure, panels = new_figure(source, height=2.6 * len(scales) + 0.5, rows=len(scales))
    families = line_styles(labels)
    rates = sorted(set(points["rate"]))
    for number, (axes, (measure, scale)) in enumerate(zip(panels, scales.items(), strict=True)):
        ends = []
        for place, (family, style) in enumerate(families.items()):
            rows = points[points["arm"] == family]
            shift = 1.08 ** (2 * place - len(families) + 1)  # side by side, not on each other
            censored = rows["censored"] & (number == 0)
            x = rows["rate"] * shift * 1.03 ** seed_offsets(rows["seed"], 1.0)
            dots(axes, x, rows[measure], censored, style)
            middle = rows.groupby("rate", sort=True)[measure].median()
            if len(middle):
                axes.plot(
                    middle.index * shift, middle, color=style.color, ls=style.linestyle, lw=2.0
                )
                last = float(middle.index[-1]) * shift
                ends.append((last, float(middle.iloc[-1]), labels[family], style.color))
        axes.set_xscale("log")
        format_axes(axes, scale, "Learning rate" if number == len(scales) - 1 else "")
        axes.xaxis.set_major_locator(FixedLocator(rates))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(FixedLocator([]))
        if scale.log:
            log_ticks([axes], points[measure])
        label_ends(axes, ends)
    return figure


@mpl.rc_context(RC_PARAMS)
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
    figure, panels = new_figure(
        source, height=2.3 * len(scales) + 0.6, rows=len(scales), columns=len(labels), share_y=True
    )
    arms = line_styles(labels)
    grid = [(measure, arm) for measure in scales for arm in arms]
    for number, (axes, (measure, arm)) in enumerate(zip(panels, grid, strict=True)):
        style = arms[arm]
        rows = points[points["arm"] == arm].rename(columns={measure: "value"})
        thin_lines(axes, rows, style)
        band = rows.groupby("epoch", sort=True)["value"].agg(["min", "max"])
        axes.fill_between(
            band.index, band["min"], band["max"], color=style.color, alpha=0.18, lw=0, zorder=1
        )
        theirs = printed[printed["arm"] == arm]
        axes.plot(
            theirs["epoch"], theirs[measure], ls="", marker="o", ms=4.6, mfc=PAPER, mec=INK,
            mew=1.3, zorder=4,
        )  # fmt: skip
        if number < len(arms):
            axes.set_title(shorten(labels[arm]))
        if number == 0 and len(theirs):
            label_printed(axes, theirs["epoch"].iloc[-1], theirs[measure].iloc[-1])
        scale = scales[measure] if number % len(arms) == 0 else Scale("", scales[measure].percent)
        format_axes(axes, scale, "Epoch" if number >= len(grid) - len(arms) else "")
    return figure


@mpl.rc_context(RC_PARAMS)
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
    figure, panels = new_figure(source, height=3.3, columns=len(names))
    for axes, name, style in zip(panels, names, LINE_STYLES[1:], strict=False):
        rows = points[points["parameter"] == name]
        axes.plot(
            rows["rank"], rows["value"], ls="", marker="o", ms=4, mfc=style.color, mec="none",
            alpha=0.45, zorder=2,
        )  # fmt: skip
        theirs = printed[printed["parameter"] == name]
        axes.plot(
            theirs["rank"], theirs["value"], ls="", marker="D", ms=6, mfc=PAPER, mec=INK,
            mew=1.5, zorder=3,
        )  # fmt: skip
        if name == names[0] and len(theirs):
            label_printed(axes, *theirs.sort_values("rank")[["rank", "value"]].iloc[-1])
        axes.set_title(name)
        format_axes(axes, Scale(""), "Rank of channel")
        axes.set_xlim(0.5, max(theirs["rank"], default=1) + 0.5)
    return figure


@mpl.rc_context(RC_PARAMS)
def evaluation_statistics(points: pd.DataFrame, labels: Mapping[str, str], source: str) -> Figure:
    """Draw test accuracy by epoch under both kinds of statistics, a panel an arm.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``epoch``, ``running``, ``population``.
    labels, source
        As in :func:`learning_curves`.
    """
    figure, panels = new_figure(source, height=2.5 * len(labels) + 0.5, rows=len(labels))
    for number, (axes, arm) in enumerate(zip(panels, labels, strict=True)):
        rows, ends = points[points["arm"] == arm], []
        for kind, style in zip(("running", "population"), LINE_STYLES, strict=False):
            named = rows.rename(columns={kind: "value"})
            thin_lines(axes, named, style, marker=True)
            mean = named.groupby("epoch", sort=True)["value"].mean()
            alone = style.marker if len(mean) == 1 else None  # a line of one point is none
            axes.plot(
                mean.index, mean, color=style.color, ls=style.linestyle, lw=2.6, marker=alone, ms=8,
                zorder=3,
            )  # fmt: skip
            if len(mean):
                ends.append((float(mean.index[-1]), float(mean.iloc[-1]), kind, style.color))
        axes.set_title(shorten(labels[arm]))
        last = number == len(labels) - 1
        format_axes(axes, Scale("Test accuracy", percent=True), "Epoch" if last else "")
        epoch_ticks(axes)
        label_ends(axes, ends)
    return figure


HALF = 24  # letters that half of the width has room for in a line


@mpl.rc_context(RC_PARAMS)
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
    letters = sum(max(map(len, wrap_label(each).split("\n"))) for each in labels.values())
    if len(labels) > 3 or letters > HALF:
        figure, (left, right) = new_figure(source, height=6.4, rows=2)
    else:
        figure, (left, right) = new_figure(source, height=3.6, columns=2)
    paired_dots(left, points, labels, "value")
    format_axes(left, scales[0], "")
    others = [arm for arm in labels if arm in set(differences["arm"])]
    for place, arm in enumerate(others):
        rows, style = differences[differences["arm"] == arm], line_styles(labels)[arm]
        dots(
            right,
            place + seed_offsets(rows["seed"], 0.16),
            rows["difference"],
            np.zeros(len(rows), bool),
            style,
        )
        mean, low, high = rows.iloc[0][["mean", "low", "high"]]
        if math.isfinite(low) and math.isfinite(high):
            right.plot([place + 0.3] * 2, [low, high], color=INK, lw=2.2, zorder=3)
        right.plot([place + 0.3], [mean], ls="", marker="D", ms=6.5, color=INK, zorder=4)
    right.axhline(0.0, color=MUTED, lw=1.2)
    right.set_xticks(range(len(others)), wrap_tick_labels([labels[arm] for arm in others]))
    right.set_xlim(-0.6, max(len(others), 1) - 0.3)
    format_axes(right, scales[1], "")
    return figure
