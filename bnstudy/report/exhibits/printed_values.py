"""Our seeds beside values that somebody printed once: results by epoch, and parameters."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnstudy.judging.measures import epoch_means, sorted_parameters
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.captions import data_name
from bnstudy.report.drawing import (
    INK,
    LINE_STYLES,
    PAPER,
    RC_PARAMS,
    Scale,
    line_styles,
    new_figure,
)
from bnstudy.report.drawing.marks import format_axes, label_printed, thin_lines
from bnstudy.report.drawing.styles import shorten
from bnstudy.report.evidence import Evidence, grouped
from bnstudy.report.exhibits.frame import (
    Content,
    Nothing,
    Options,
    exhibit,
    labels_of,
    one_arm,
    seeds_of,
)
from bnstudy.report.model import Table

WIDENED = 0.02  # of a loss or an accuracy
AFTER = 0.2  # epochs that are drawn beyond the last printed value
SAME_SIZE = 0.01  # share by which numbers of images may differ and still count as the same
DIGITS = 4  # as many as were printed
LAYER = "norm1"
PARAMETERS = ("gamma", "beta")
SCALES = {
    "train_loss": Scale("Training loss"),
    "train_accuracy": Scale("Training accuracy", percent=True),
}


def printed_arms(evidence: Evidence, options: Options) -> tuple[Arm, ...]:
    """Return the arms that have printed values."""
    return evidence.arms(options["printed"])


@exhibit("printed-results", diverged="their curves end there.", arms=printed_arms)
def printed_results(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show printed training losses and accuracies among our seeds.

    Options: ``printed``, rows (epoch, loss, accuracy) by arm, both running
    means since the start of the epoch; ``images``, how many training images
    the printed runs had; ``data``, the name of the data set they were trained on.
    """
    if other := _other_data(evidence, options):
        return other
    printed = _printed_results(options["printed"])
    columns = ["arm", "seed", "epoch", *SCALES]
    points = evidence.series(arms, epoch_means).reindex(columns=columns)
    if points.empty:
        return Nothing()
    compared = _compared(points, printed)
    size = _other_size(evidence, arms, options.get("images"))
    shown = points[points["epoch"] <= printed["epoch"].max() + AFTER + 1e-9]
    return Content(
        sentence=_results_sentence(compared, seeds_of(evidence, arms), size),
        values=shown,
        draw=lambda source: draw_printed_results(shown, printed, labels_of(arms), SCALES, source),
        tables=tuple(_results_table(compared[compared["arm"] == arm.name], arm) for arm in arms),
        notes=(f"{size} the printed values are not expected to come out.",) if size else (),
    )


def _other_data(evidence: Evidence, options: Options) -> Nothing | None:
    """Return why nothing is shown if the printed runs were trained on another data set."""
    ours = evidence.plan.data.name
    if options.get("data", ours) == ours:
        return None
    return Nothing(f"the printed values are of another data set than {data_name(evidence.plan)}")


def _printed_results(printed: Mapping[str, Sequence[Sequence[float]]]) -> pd.DataFrame:
    rows = [(arm, *row) for arm, lines in printed.items() for row in lines]
    return pd.DataFrame(rows, columns=["arm", "epoch", *SCALES])


def _compared(points: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Return one row per printed value, with our mean, extremes and whether it lies between."""
    at = points.assign(tenth=points["epoch"].round(1))  # as epochs were printed
    rows = []
    for line in printed.to_dict("records"):
        ours = at[(at["arm"] == line["arm"]) & (at["tenth"] == round(line["epoch"], 1))]
        for column in SCALES:
            value, low, high = line[column], ours[column].min(), ours[column].max()
            fits = bool(low - WIDENED <= value <= high + WIDENED)
            mean = ours[column].mean()
            rows.append(
                (line["arm"], line["epoch"], column, value, mean, low, high, len(ours), fits)
            )
    heads = ["arm", "epoch", "column", "printed", "mean", "low", "high", "seeds", "fits"]
    return pd.DataFrame(rows, columns=heads)


def _results_sentence(compared: pd.DataFrame, seeds: str, size: str) -> str:
    there = compared[compared["seeds"] > 0]
    start = f"{size} {len(there) and int(there['fits'].sum())}".strip()
    return (
        f"{start} of {text.count(len(there), 'printed value')} lie within the spread of our "
        f"{seeds} widened by {text.decimal(WIDENED, 2)}"
    )


def _other_size(evidence: Evidence, arms: tuple[Arm, ...], images: int | None) -> str:
    """Say so if our epochs are not those of the printed runs; else nothing."""
    ours = evidence.readings(arms, "images-per-epoch")["value"]
    if images is None or ours.empty or abs(ours.max() - images) <= SAME_SIZE * images:
        return ""
    return f"With {text.whole(ours.max())} training images instead of {text.whole(images)},"


def _results_table(compared: pd.DataFrame, arm: Arm) -> Table:
    rows = []
    for epoch, at in grouped(compared, "epoch"):
        cells = [text.epochs(epoch)]
        for column in SCALES:
            row = at[at["column"] == column].iloc[0]
            mean, low, high = (text.decimal(row[name], DIGITS) for name in ("mean", "low", "high"))
            cells += [text.decimal(row["printed"], DIGITS)]
            if row["seeds"]:
                cells += [f"{mean} ({low} to {high})", "yes" if row["fits"] else "no"]
            else:
                cells += [text.MISSING, "not compared"]
        rows.append(tuple(cells))
    return Table(
        f"{arm.label}: printed values and ours, mean of the seeds (lowest to highest); inside "
        f"means within that range widened by {text.decimal(WIDENED, 2)}",
        (
            "Epoch",
            "Loss printed",
            "Loss, ours",
            "Loss inside",
            "Accuracy printed",
            "Accuracy, ours",
            "Accuracy inside",
        ),
        tuple(rows),
    )


@exhibit(
    "first-layer-parameters",
    diverged="their parameters are those of the last finite step.",
    arms=one_arm,
)
def first_layer_parameters(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show gamma and beta of the first normalization layer, sorted, beside printed ones.

    Options: ``arm``; ``gamma`` and ``beta``, the printed values of its channels;
    ``data``, the name of the data set of the printed run.
    """
    if other := _other_data(evidence, options):
        return other
    points = evidence.series(arms, lambda run: sorted_parameters(run, LAYER))
    if points.empty:
        return Nothing()
    points = points.sort_values(["parameter", "seed", "rank"], kind="stable", ignore_index=True)
    points = points[["parameter", "seed", "rank", "value"]]
    printed = _printed_parameters(options)
    ranges = points.groupby(["parameter", "rank"])["value"].agg(["mean", "min", "max"])
    compared = printed.join(ranges, on=["parameter", "rank"])
    compared["fits"] = compared["value"].between(compared["min"], compared["max"])
    return Content(
        sentence=_parameters_sentence(compared, seeds_of(evidence, arms)),
        values=points,
        draw=lambda source: draw_sorted_parameters(points, printed, source),
        tables=(_parameters_table(compared, arms[0]),),
    )


def _printed_parameters(options: Options) -> pd.DataFrame:
    rows = [
        (parameter, rank, float(value))
        for parameter in PARAMETERS
        for rank, value in enumerate(sorted(options[parameter]), start=1)
    ]
    return pd.DataFrame(rows, columns=["parameter", "rank", "value"])


def _parameters_sentence(compared: pd.DataFrame, seeds: str) -> str:
    counts = [
        f"{int(rows['fits'].sum())} of {len(rows)} printed {parameter}s"
        for parameter, rows in compared.groupby("parameter", sort=False)
    ]
    return f"{text.listing(counts)} lie within the range of our {seeds} at their rank"


def _parameters_table(compared: pd.DataFrame, arm: Arm) -> Table:
    rows = [
        (
            f"{row['parameter']}, rank {row['rank']}",
            *(text.decimal(row[name], DIGITS) for name in ("value", "mean", "min", "max")),
            "yes" if row["fits"] else "no",
        )
        for row in compared.to_dict("records")
    ]
    return Table(
        f"{arm.label}: sorted parameters of the first normalization layer, printed and ours",
        ("Parameter", "Printed", "Our mean", "Our lowest", "Our highest", "Inside"),
        tuple(rows),
    )


@mpl.rc_context(RC_PARAMS)
def draw_printed_results(
    points: pd.DataFrame,
    printed: pd.DataFrame,
    labels: Mapping[str, str],
    scales: Mapping[str, Scale],
    source: str,
) -> Figure:
    """Draw the seeds' curves and their range, with printed values as circles over them.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``epoch`` and one for each key of ``scales``.
    printed
        Columns ``arm``, ``epoch`` and the same keys.
    labels
        Text of each arm: one column of panels each.
    scales
        Axis of each quantity: one row of panels each.
    source
        Line at the foot.
    """
    figure, panels = new_figure(
        source, height=2.3 * len(scales) + 0.6, rows=len(scales), columns=len(labels), share_y=True
    )
    grid = [(column, arm) for column in scales for arm in labels]
    for number, (axes, (column, arm)) in enumerate(zip(panels, grid, strict=True)):
        style = line_styles(labels)[arm]
        rows = points[points["arm"] == arm].rename(columns={column: "value"})
        thin_lines(axes, rows, style)
        band = rows.groupby("epoch", sort=True)["value"].agg(["min", "max"])
        axes.fill_between(
            band.index, band["min"], band["max"], color=style.color, alpha=0.18, lw=0, zorder=1
        )
        theirs = printed[printed["arm"] == arm]
        _draw_printed(axes, theirs["epoch"], theirs[column], marker="o", ms=4.6, mew=1.3, zorder=4)
        if number < len(labels):
            axes.set_title(shorten(labels[arm]))
        if number == 0 and len(theirs):
            label_printed(axes, theirs["epoch"].iloc[-1], theirs[column].iloc[-1])
        scale = scales[column] if number % len(labels) == 0 else Scale("", scales[column].percent)
        format_axes(axes, scale, "Epoch" if number >= len(grid) - len(labels) else "")
    return figure


@mpl.rc_context(RC_PARAMS)
def draw_sorted_parameters(points: pd.DataFrame, printed: pd.DataFrame, source: str) -> Figure:
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
        _draw_printed(axes, theirs["rank"], theirs["value"], marker="D", ms=6, mew=1.5, zorder=3)
        if name == names[0] and len(theirs):
            label_printed(axes, *theirs.sort_values("rank")[["rank", "value"]].iloc[-1])
        axes.set_title(name)
        format_axes(axes, Scale(""), "Rank of channel")
        axes.set_xlim(0.5, max(theirs["rank"], default=1) + 0.5)
    return figure


def _draw_printed(
    axes: Axes, x: pd.Series, y: pd.Series, *, marker: str, ms: float, mew: float, zorder: int
) -> None:
    """Draw printed values as open marks."""
    axes.plot(x, y, ls="", marker=marker, ms=ms, mfc=PAPER, mec=INK, mew=mew, zorder=zorder)
