"""The noise of batch statistics against the batch size, beside the predicted slope."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bnstudy.inference import Interval, mean_interval, ratio_interval, slopes
from bnstudy.plan import Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence, grouped
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

OF = {"mean_noise": "mean", "sd_noise": "SD"}
LAW = -0.5
CLEAR = 1.35  # how far above the lines the predicted one is drawn


def batch_noise(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show the noise of batch mean and SD by batch size, before and after training.

    Options: ``arm``; ``layers``, a line each.  The guide has the predicted slope, -1/2; its
    height is free.
    """
    (arm,) = evidence.arms([exhibit.options["arm"]])
    layers = exhibit.options["layers"]
    notes = parts.gaps(evidence, (arm,), "what was measured until then is shown.")
    points = _points(evidence, arm.name, layers)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    means = _means(points)
    found = _slopes(points)
    panels = list(dict.fromkeys(points["panel"]))
    figure = drawing.levels(
        points, means, {layer: layer for layer in layers},
        {panel: drawing.Scale("Noise (relative)", log=True) for panel in panels},
        "Images in a batch",
        parts.source_line(evidence.plan, parts.seeds_of(evidence, (arm,))),
        columns=2 if len(panels) > 2 else 1,
        guides={panel: _guide(means[means["panel"] == panel]) for panel in panels},
    )  # fmt: skip
    sentence, data = _sentence(found), _data(means, layers)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, data, points)
    return Finding(anchor, sentence, exhibit.caption, (_table(found),), chart, notes)


def _points(evidence: Evidence, arm: str, layers: Sequence[str]) -> pd.DataFrame:
    rows = evidence.measures
    rows = rows[(rows["probe"] == "batch-noise") & (rows["arm"] == arm) & (rows["channel"] == -1)]
    rows = rows[rows["layer"].astype(str).isin(layers)]
    parsed = rows["stat"].astype(str).str.extract(r"^(mean_noise|sd_noise)_(\d+)$")
    rows = rows[parsed[0].notna()].assign(of=parsed[0], level=parsed[1])
    keys = ["panel", "arm", "level", "seed", "value", "censored"]
    if rows.empty:
        return pd.DataFrame(columns=keys)
    last = int(rows["step"].max())
    rows = rows[rows["step"].isin((0, last))]
    moment = np.where(rows["step"] == last, "trained", "untrained")
    rows = rows.assign(
        panel=rows["of"].map(OF) + ", " + moment,
        arm=rows["layer"].astype(str),
        level=rows["level"].astype(float),
        value=rows["value"].astype(float),
        censored=False,
    )
    rows = rows[np.isfinite(rows["value"]) & (rows["value"] > 0)]
    order = {name: place for place, name in enumerate(OF.values())}
    place = rows["panel"].map(lambda panel: order[panel.split(", ")[0]])
    return (
        rows.assign(place=place)
        .sort_values(["place", "step", "arm", "seed", "level"], kind="stable")[keys]
        .reset_index(drop=True)
    )


def _means(points: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for where, at in points.groupby(["panel", "arm", "level"], sort=False):
        found = ratio_interval(at["value"].to_numpy(dtype=float), np.ones(len(at)))
        ends = (found.low, found.high) if np.isfinite(found.high) else (np.nan, np.nan)
        rows.append((*where, found.estimate, *ends))
    return pd.DataFrame(rows, columns=["panel", "arm", "level", "mean", "low", "high"])


def _slopes(points: pd.DataFrame) -> dict[tuple[str, str], Interval]:
    """Return the slope of log noise on log batch size by panel and layer, a number a seed."""
    found = {}
    for (panel, layer), mine in points.groupby(["panel", "arm"], sort=False):
        wide = mine.pivot(index="seed", columns="level", values="value").dropna()
        if len(wide) and wide.shape[1] > 1:
            levels = np.log(wide.columns.to_numpy(dtype=float))
            found[str(panel), str(layer)] = mean_interval(slopes(np.log(wide.to_numpy()), levels))
    return found


def _guide(means: pd.DataFrame) -> drawing.Guide:
    first, last = float(means["level"].min()), float(means["level"].max())
    start = CLEAR * float(means.loc[means["level"] == first, "mean"].max())
    ends = (start, start * (last / first) ** LAW)
    return drawing.Guide("slope −1/2", (first, last), ends, True)


def _sentence(found: dict[tuple[str, str], Interval]) -> str:
    if not found:
        return "Noise was measured at one batch size only"
    said = []
    for panel in dict.fromkeys(panel for panel, _ in found):
        mine = [each.estimate for (where, _), each in found.items() if where == panel]
        ends = text.span(*(text.decimal(end, 2) for end in (min(mine), max(mine))))
        said.append(f"{ends} for the {panel.split(', ')[0]}, {panel.split(', ')[1]}")
    seeds, listed = text.count(min(each.n for each in found.values()), "seed"), "; ".join(said)
    return (
        f"Noise falls with the batch size to the power of {listed} (lowest to highest layer); "
        f"{text.decimal(LAW, 2)} is predicted ({seeds})"
    )


def _table(found: dict[tuple[str, str], Interval]) -> Table:
    rows = tuple(
        (
            f"{layer}, {panel}",
            text.decimal(each.estimate, 3),
            text.interval_span(each, lambda value: text.decimal(value, 3)),
            f"{each.n}",
        )
        for (panel, layer), each in found.items()
    )
    caption = "Slope of the logarithm of noise on that of the batch size, with its 95% t interval"
    return Table(caption, ("Layer, noise", "Slope", "95% CI", "Seeds"), rows)


def _data(means: pd.DataFrame, layers: Sequence[str]) -> Table:
    rows = []
    for panel in dict.fromkeys(means["panel"]):
        for level, at in grouped(means[means["panel"] == panel], "level"):
            cells = {row["arm"]: f"{row['mean']:.4f}" for row in at.to_dict("records")}
            rows.append((f"{panel}, {level:,.0f} images", cells))
    caption = "Noise: the geometric mean of the seeds"
    return parts.wide_table(caption, ("Noise", *layers), rows)
