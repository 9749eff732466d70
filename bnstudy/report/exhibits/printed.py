"""Our seeds beside the values that somebody printed once."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence, grouped, running_means
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

WIDENED = 0.02
DIGITS = 4
MEASURES = {"train_loss": "Training loss", "train_accuracy": "Training accuracy"}
SCALES = {
    "train_loss": drawing.Scale(MEASURES["train_loss"]),
    "train_accuracy": drawing.Scale(MEASURES["train_accuracy"], percent=True),
}
LAYER = "norm1"
PARAMETERS = ("gamma", "beta")


def printed_results(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show printed training losses and accuracies among our seeds.

    Options: ``printed``, rows (epoch, loss, accuracy) by arm, both running
    means since the start of the epoch; ``images``, how many training images
    the printed runs had.
    """
    printed = _printed_frame(exhibit.options["printed"])
    arms = evidence.arms(exhibit.options["printed"])
    notes = parts.gaps(evidence, arms, "their curves end there.")
    points = _running_points(evidence, arms)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    compared = _compare(points, printed)
    seeds = parts.seeds_of(evidence, arms)
    size = _other_size(evidence, arms, exhibit.options.get("images"))
    sentence = _inside_sentence(compared, seeds, size)
    if size:
        notes = (f"{size} the printed values are not expected to come out.", *notes)
    shown = points[points["epoch"] <= printed["epoch"].max() + 0.2 + 1e-9]
    source = parts.source_line(evidence.plan, seeds)
    figure = drawing.printed_results(shown, printed, parts.labels_of(arms), SCALES, source)
    tables = tuple(_printed_table(compared[compared["arm"] == arm.name], arm) for arm in arms)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, shown)
    return Finding(anchor, sentence, exhibit.caption, tables, chart, notes)


def _printed_frame(printed: Mapping[str, Sequence[Sequence[float]]]) -> pd.DataFrame:
    rows = [(arm, *row) for arm, lines in printed.items() for row in lines]
    return pd.DataFrame(rows, columns=["arm", "epoch", *MEASURES])


def _running_points(evidence: Evidence, arms: tuple[Arm, ...]) -> pd.DataFrame:
    frames = [
        running_means(curve).assign(arm=arm.name, seed=seed)
        for arm in arms
        for seed, curve in grouped(evidence.curve(arm.name), "seed")
    ]
    columns = ["arm", "seed", "epoch", *MEASURES]
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True)[columns]


def _compare(points: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Return a row per printed value and measure, with our mean, extremes and whether it fits."""
    at = points.assign(tenth=points["epoch"].round(1))
    rows = []
    for line in printed.to_dict("records"):
        ours = at[(at["arm"] == line["arm"]) & (at["tenth"] == round(line["epoch"], 1))]
        for measure in MEASURES:
            value, low, high = line[measure], ours[measure].min(), ours[measure].max()
            fits = bool(low - WIDENED <= value <= high + WIDENED)
            mean = ours[measure].mean()
            rows.append(
                (line["arm"], line["epoch"], measure, value, mean, low, high, len(ours), fits)
            )
    heads = ["arm", "epoch", "measure", "printed", "mean", "low", "high", "seeds", "fits"]
    return pd.DataFrame(rows, columns=heads)


def _inside_sentence(compared: pd.DataFrame, seeds: str, size: str) -> str:
    there = compared[compared["seeds"] > 0]
    start = f"{size} {len(there) and int(there['fits'].sum())}".strip()
    return (
        f"{start} of {text.count(len(there), 'printed value')} lie within the spread of our "
        f"{seeds} widened by {text.decimal(WIDENED, 2)}"
    )


def _other_size(evidence: Evidence, arms: tuple[Arm, ...], images: int | None) -> str:
    """Say so if our epochs are not those of the printed runs; else nothing."""
    curves = pd.concat([evidence.curve(arm.name) for arm in arms], ignore_index=True)
    ends = curves[(curves["epoch"] - curves["epoch"].round()).abs() < 1e-9]
    if images is None or ends.empty:
        return ""
    ours = round(float((ends["images"] / ends["epoch"]).max()))
    if abs(ours - images) <= 0.01 * images:
        return ""
    return f"With {ours:,} training images instead of {images:,},"


def _printed_table(compared: pd.DataFrame, arm: Arm) -> Table:
    rows = []
    for epoch, at in grouped(compared, "epoch"):
        cells = [text.epochs(epoch)]
        for measure in MEASURES:
            row = at[at["measure"] == measure].iloc[0]
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


def first_layer_parameters(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show gamma and beta of the first normalization layer, sorted, beside printed ones.

    Options: ``arm``; ``gamma`` and ``beta``, the printed values of its channels.
    """
    (arm,) = evidence.arms([exhibit.options["arm"]])
    notes = parts.gaps(evidence, [arm], "their parameters are those of the last finite step.")
    mine = evidence.norms[(evidence.norms["arm"] == arm.name) & (evidence.norms["layer"] == LAYER)]
    if mine.empty:
        return parts.nothing(anchor, exhibit, notes)
    points = _ranked(mine)
    printed = pd.DataFrame(
        [
            (parameter, rank, float(value))
            for parameter in PARAMETERS
            for rank, value in enumerate(sorted(exhibit.options[parameter]), start=1)
        ],
        columns=["parameter", "rank", "value"],
    )
    ranges = points.groupby(["parameter", "rank"])["value"].agg(["mean", "min", "max"])
    compared = printed.join(ranges, on=["parameter", "rank"])
    compared["fits"] = compared["value"].between(compared["min"], compared["max"])
    seeds = parts.seeds_of(evidence, [arm])
    sentence = _ranks_sentence(compared, seeds)
    figure = drawing.sorted_parameters(points, printed, parts.source_line(evidence.plan, seeds))
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, points)
    return Finding(anchor, sentence, exhibit.caption, (_ranks_table(compared, arm),), chart, notes)


def _ranked(mine: pd.DataFrame) -> pd.DataFrame:
    """Return the finite parameters, sorted within each seed and numbered from the smallest."""
    long = mine.melt(["seed"], list(PARAMETERS), var_name="parameter", value_name="value")
    long = long[np.isfinite(long["value"])]
    long = long.sort_values(["parameter", "seed", "value"], kind="stable", ignore_index=True)
    long["rank"] = long.groupby(["parameter", "seed"]).cumcount() + 1
    return long[["parameter", "seed", "rank", "value"]]


def _ranks_sentence(compared: pd.DataFrame, seeds: str) -> str:
    counts = [
        f"{int(rows['fits'].sum())} of {len(rows)} printed {parameter}s"
        for parameter, rows in compared.groupby("parameter", sort=False)
    ]
    return f"{text.listing(counts)} lie within the range of our {seeds} at their rank"


def _ranks_table(compared: pd.DataFrame, arm: Arm) -> Table:
    rows = [
        (
            f"{row['parameter']}, rank {row['rank']}",
            text.decimal(row["value"], DIGITS),
            text.decimal(row["mean"], DIGITS),
            text.decimal(row["min"], DIGITS),
            text.decimal(row["max"], DIGITS),
            "yes" if row["fits"] else "no",
        )
        for row in compared.to_dict("records")
    ]
    return Table(
        f"{arm.label}: sorted parameters of the first normalization layer, printed and ours",
        ("Parameter", "Printed", "Our mean", "Our lowest", "Our highest", "Inside"),
        tuple(rows),
    )
