"""Numbers of one layer or network that a probe saw, the arms in one panel: by epoch or by loss."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.inference import mean_interval, ratio_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import RC_PARAMS, Scale, line_styles, new_figure
from bnstudy.report.drawing.marks import epoch_ticks, format_axes, label_ends, log_ticks, thin_lines
from bnstudy.report.drawing.styles import shorten
from bnstudy.report.evidence import Evidence, evenly_spaced, grouped, pair_up, seed_means
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.model import Table

LOSS = "loss"
RUN = ["arm", "seed", "epoch"]
MOST_EPOCHS = 8  # rows of the table in each panel
LONGEST_TITLE = 44
write_difference = text.fixed(3, sign=True)


@exhibit("probe-bands", diverged="what was measured until then is shown.")
def probe_bands(evidence: Evidence, arms: tuple[Arm, ...], options: Options) -> Content | Nothing:
    """Show numbers of one layer over training, the arms in one panel.

    Options: ``arms``; ``probe``, ``layer`` and ``tensor``; ``stats``, the text of each
    number, which has a panel; ``log``, whether they are positive and compared by ratios;
    ``against_loss``, whether they are drawn against the probe's own loss instead of
    the epoch.  The finding is of the first number: two arms at the end.
    """
    log = bool(options.get("log", False))
    points = _points(evidence, arms, options)
    if points.empty:
        return Nothing()
    means = seed_means(points, ["panel", "arm", "epoch"], log=log)
    scales = {panel: Scale("", log=log) for panel in options["stats"].values()}
    labels, table = labels_of(arms), _table(means, arms)
    if not options.get("against_loss", False):
        return Content(
            sentence=_at_the_end(evidence, points, arms, options),
            values=points,
            draw=lambda source: draw_probe_bands(points, means, labels, scales, source),
            data=table,
        )
    losses = _seen(evidence, arms, options, (LOSS,)).rename(columns={"value": LOSS})
    beside = points.merge(losses[[*RUN, LOSS]], on=RUN)
    if beside.empty:
        return Nothing("no loss was measured beside it")
    return Content(
        sentence=_at_same_loss(beside, arms, next(iter(scales))),
        values=beside,
        draw=lambda source: draw_against_loss(beside, labels, scales, source),
        data=table,
    )


def _seen(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options, stats: tuple[str, ...]
) -> pd.DataFrame:
    """Return the finite values of some numbers."""
    rows = evidence.seen(arms, (options["layer"],), options["tensor"], stats, options["probe"])
    return rows[np.isfinite(rows["value"].astype(float))]


def _points(evidence: Evidence, arms: tuple[Arm, ...], options: Options) -> pd.DataFrame:
    """Return what is drawn: ``panel``, ``arm``, ``seed``, ``epoch``, ``value``."""
    panels = options["stats"]
    rows = _seen(evidence, arms, options, tuple(panels))
    rows = rows[rows["value"] > 0] if options.get("log", False) else rows
    rows = rows.assign(panel=rows["stat"].map(panels), order=rows["stat"].map(list(panels).index))
    rows = rows.sort_values(["order", "arm", "seed", "epoch"], kind="stable")
    return rows[["panel", *RUN, "value"]].reset_index(drop=True)


def _at_the_end(
    evidence: Evidence, points: pd.DataFrame, arms: tuple[Arm, ...], options: Options
) -> str:
    """Compare the last arm to the first at the last epoch that all of them have."""
    stat, panel = next(iter(options["stats"].items()))
    what = f"{panel[0].upper()}{panel[1:]}"
    mine = points[points["panel"] == panel]
    shared = set.intersection(*(set(mine.loc[mine["arm"] == a.name, "epoch"]) for a in arms))
    if len(arms) < 2 or not shared:
        return f"{what}: the arms cannot be compared"
    last, log = max(shared), options.get("log", False)
    one = {name: options[name] for name in ("probe", "layer", "tensor")}
    first, second = arms[0], arms[-1]
    values = evidence.readings((second, first), "probe", stat=stat, start=last, end=last, **one)
    values = values[values["value"] > 0] if log else values
    seeds, theirs, baseline = pair_up(values, second.name, first.name)
    if not seeds:
        return f"{what}: no seed has all arms"
    when = f"At epoch {text.epochs(last)}"
    if log:
        ratio = ratio_interval(theirs, baseline)
        return (
            f"{when} the {panel} is {text.factor(ratio.estimate)} times that of {first.label} "
            f"for {second.label} ({text.certainty(ratio, text.factor)})"
        )
    difference = mean_interval(theirs - baseline)
    return (
        f"{when} the {panel} is {write_difference(difference.estimate)} for {second.label} "
        f"against {first.label} ({text.certainty(difference, write_difference)})"
    )


def _at_same_loss(points: pd.DataFrame, arms: tuple[Arm, ...], panel: str) -> str:
    """Compare the medians of the last arm and the first over the losses that both have."""
    mine = points[points["panel"] == panel]
    ends = (arms[0], arms[-1])
    losses = [mine.loc[mine["arm"] == arm.name, LOSS] for arm in ends]
    none = "The arms have no loss in common"
    if any(each.empty for each in losses):
        return none
    low, high = max(each.min() for each in losses), min(each.max() for each in losses)
    inside = mine[(mine[LOSS] >= low) & (mine[LOSS] <= high)]
    medians = [inside.loc[inside["arm"] == arm.name, "value"].median() for arm in ends]
    if low > high or not np.isfinite(medians).all():
        return none
    first, last = (text.significant(float(median)) for median in medians)
    return (
        f"At losses of {text.span(text.decimal(low, 2), text.decimal(high, 2))}, which both arms "
        f"pass, the median {panel} is {last} for {arms[-1].label} and {first} for {arms[0].label}"
    )


def _table(means: pd.DataFrame, arms: tuple[Arm, ...]) -> Table:
    labels, rows = labels_of(arms), []
    for panel in dict.fromkeys(means["panel"]):
        mine = means[means["panel"] == panel]
        kept = set(evenly_spaced(mine["epoch"], MOST_EPOCHS))
        for epoch, at in grouped(mine[mine["epoch"].isin(kept)], "epoch"):
            each = at[["arm", "mean", "low", "high"]].itertuples(index=False)
            cells = {labels[arm]: _cell(*numbers) for arm, *numbers in each}
            rows.append((f"{panel}, epoch {text.epochs(epoch)}", cells))
    caption = "Mean of the seeds with its 95% interval"
    return Table.of_cells(caption, ("When", *labels.values()), rows)


def _cell(mean: float, low: float, high: float) -> str:
    return f"{text.significant(mean)} ({text.span(text.significant(low), text.significant(high))})"


@mpl.rc_context(RC_PARAMS)
def draw_probe_bands(
    points: pd.DataFrame,
    means: pd.DataFrame,
    labels: Mapping[str, str],
    scales: Mapping[str, Scale],
    source: str,
) -> Figure:
    """Draw thin lines of seeds over epochs, and means within the band of their intervals.

    Parameters
    ----------
    points
        Columns ``panel``, ``arm``, ``seed``, ``epoch``, ``value``.
    means
        Columns ``panel``, ``arm``, ``epoch``, ``mean``, ``low``, ``high``: NaN where there is
        no interval.
    labels
        Text of each arm.
    scales
        Vertical axis of each panel; the key is its title.
    source
        Line at the foot.
    """
    figure, panels = new_figure(source, height=2.5 * len(scales) + 0.5, rows=len(scales))
    for number, (axes, (panel, scale)) in enumerate(zip(panels, scales.items(), strict=True)):
        ends = []
        for arm, style in line_styles(labels).items():
            rows = points[(points["panel"] == panel) & (points["arm"] == arm)]
            thin_lines(axes, rows, style, lw=0.6, alpha=0.3)
            mean = means[(means["panel"] == panel) & (means["arm"] == arm)].sort_values("epoch")
            if mean.empty:
                continue
            axes.fill_between(
                mean["epoch"], mean["low"], mean["high"], color=style.color, alpha=0.25, lw=0
            )
            axes.plot(
                mean["epoch"], mean["mean"], color=style.color, ls=style.linestyle, lw=2.2, zorder=3
            )
            last = mean.iloc[-1]
            ends.append((float(last["epoch"]), float(last["mean"]), labels[arm], style.color))
        axes.set_title(shorten(panel, LONGEST_TITLE))
        format_axes(axes, scale, "Epoch" if number == len(scales) - 1 else "")
        epoch_ticks(axes)
        if scale.log:
            # by the means: seeds far off would leave no room for what is compared
            seen = means.loc[means["panel"] == panel, ["mean", "low", "high"]]
            log_ticks([axes], pd.Series(seen.to_numpy().ravel()).dropna())
        label_ends(axes, ends)
    return figure


@mpl.rc_context(RC_PARAMS)
def draw_against_loss(
    points: pd.DataFrame, labels: Mapping[str, str], scales: Mapping[str, Scale], source: str
) -> Figure:
    """Draw numbers against the loss at the same moment, one dot per seed and moment.

    Parameters
    ----------
    points
        Columns ``panel``, ``arm``, ``seed``, ``loss``, ``value``.
    labels, scales, source
        As in :func:`draw_probe_bands`.
    """
    figure, panels = new_figure(source, height=2.5 * len(scales) + 0.5, rows=len(scales))
    for number, (axes, (panel, scale)) in enumerate(zip(panels, scales.items(), strict=True)):
        ends = []
        for arm, style in line_styles(labels).items():
            rows = points[(points["panel"] == panel) & (points["arm"] == arm)]
            axes.plot(
                rows["loss"], rows["value"], ls="", marker=style.marker, ms=3.6, mew=0,
                color=style.color, alpha=0.55,
            )  # fmt: skip
            if len(rows):
                least = rows.sort_values("loss", kind="stable").iloc[0]
                ends.append((least["loss"], least["value"], labels[arm], style.color))
        axes.set_title(shorten(panel, LONGEST_TITLE))
        format_axes(axes, scale, "Loss, falling" if number == len(scales) - 1 else "")
        if scale.log:
            log_ticks([axes], points.loc[points["panel"] == panel, "value"])
        # time runs to the right, as in the other figures: losses fall
        low, high = axes.get_xlim()
        axes.set_xlim(high, low)
        label_ends(axes, ends)
    return figure
