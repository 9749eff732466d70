"""Noise of batch statistics against the batch size, beside the predicted slope."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.inference import Interval, mean_interval
from bnstudy.plan import Arm, Option
from bnstudy.report import text
from bnstudy.report.drawing import Guide, Scale, levels
from bnstudy.report.evidence import Evidence, grouped, seed_means
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, one_arm
from bnstudy.report.model import Table

PROBE = "batch-noise"
STATISTICS = {"mean": "mean", "sd": "SD"}
# what claims on these moments read: at the start, and last
MOMENTS: Mapping[str, Mapping[str, Option]] = {
    "untrained": {"end": 0.0},
    "trained": {"take": "last"},
}
PREDICTED_SLOPE = -0.5
GUIDE_ABOVE = 1.35  # how far above the lines the predicted one is drawn, as a factor
KEYS = ["panel", "arm", "level", "seed", "value", "censored"]
write_slope = text.fixed(3)
write_noise = text.fixed(4)


@exhibit("batch-noise", diverged="what was measured until then is shown.", arms=one_arm)
def batch_noise(evidence: Evidence, arms: tuple[Arm, ...], options: Options) -> Content | Nothing:
    """Show the noise of batch mean and SD by batch size, before and after training.

    Slopes are those that the probe recorded, which claims read too.

    Options: ``arm``; ``layers``, each of which has a line.  The guide has the predicted slope,
    -1/2; its height is free.
    """
    layers = options["layers"]
    points = _points(evidence, arms, layers)
    if points.empty:
        return Nothing()
    means = seed_means(points, ["panel", "arm", "level"], log=True)
    panels = list(dict.fromkeys(points["panel"]))
    slopes = _slopes(evidence, arms, layers, panels)
    return Content(
        sentence=_sentence(slopes),
        values=points,
        draw=lambda source: levels(
            points,
            means,
            {layer: layer for layer in layers},
            {panel: Scale("Noise (relative)", log=True) for panel in panels},
            "Images in a batch",
            source,
            columns=2 if len(panels) > 2 else 1,
            guides={panel: _guide(means[means["panel"] == panel]) for panel in panels},
        ),
        tables=(_slope_table(slopes),),
        data=_noise_table(means, layers),
    )


def _panel(statistic: str, moment: str) -> str:
    return f"{STATISTICS[statistic]}, {moment}"


def _points(evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str]) -> pd.DataFrame:
    """Return noise at the first step and the last, with layers in the column ``arm``."""
    rows = evidence.seen(arms, layers, "in", probe=PROBE)
    parsed = rows["stat"].astype(str).str.extract(r"^(mean|sd)_noise_(\d+)$")
    rows = rows[parsed[0].notna()].assign(statistic=parsed[0], level=parsed[1].astype(float))
    rows = rows[rows["step"].isin((0, rows["step"].max()))]
    rows = rows[np.isfinite(rows["value"].astype(float)) & (rows["value"] > 0)]
    moments = np.where(rows["step"] == 0, "untrained", "trained")
    panels = [_panel(*each) for each in zip(rows["statistic"], moments, strict=True)]
    order = rows["statistic"].map(list(STATISTICS).index)
    rows = rows.assign(panel=panels, arm=rows["layer"], censored=False, order=order)
    rows = rows.sort_values(["order", "step", "arm", "seed", "level"], kind="stable")
    return rows[KEYS].reset_index(drop=True)


def _slopes(
    evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str], panels: Sequence[str]
) -> dict[tuple[str, str], Interval]:
    """Return the slope of log noise on log batch size by panel and layer, mean over seeds."""
    found = {}
    for statistic in STATISTICS:
        for moment, when in MOMENTS.items():
            panel = _panel(statistic, moment)
            for layer in layers if panel in panels else ():
                values = evidence.readings(
                    arms, "probe", probe=PROBE, stat=f"{statistic}_slope", layer=layer, **when
                )["value"].to_numpy()
                if len(values):
                    found[panel, layer] = mean_interval(values)
    return found


def _guide(means: pd.DataFrame) -> Guide:
    first, last = float(means["level"].min()), float(means["level"].max())
    start = GUIDE_ABOVE * float(means.loc[means["level"] == first, "mean"].max())
    ends = (start, start * (last / first) ** PREDICTED_SLOPE)
    return Guide("slope −1/2", (first, last), ends, True)


def _sentence(slopes: Mapping[tuple[str, str], Interval]) -> str:
    if not slopes:
        return "Noise was measured at one batch size only"
    stated = []
    for panel in dict.fromkeys(panel for panel, _ in slopes):
        mine = [each.estimate for (where, _), each in slopes.items() if where == panel]
        ends = text.span(*(text.decimal(end, 2) for end in (min(mine), max(mine))))
        statistic, moment = panel.split(", ")
        stated.append(f"{ends} for the {statistic}, {moment}")
    seeds = text.count(min(each.n for each in slopes.values()), "seed")
    return (
        f"Noise falls with the batch size to the power of {'; '.join(stated)} (lowest to highest "
        f"layer); {text.decimal(PREDICTED_SLOPE, 2)} is predicted ({seeds})"
    )


def _slope_table(slopes: Mapping[tuple[str, str], Interval]) -> Table:
    rows = tuple(
        (
            f"{layer}, {panel}",
            write_slope(each.estimate),
            text.interval_span(each, write_slope),
            f"{each.n}",
        )
        for (panel, layer), each in slopes.items()
    )
    caption = "Slope of the logarithm of noise on that of the batch size, with its 95% t interval"
    return Table(caption, ("Layer, noise", "Slope", "95% CI", "Seeds"), rows)


def _noise_table(means: pd.DataFrame, layers: Sequence[str]) -> Table:
    rows = []
    for panel in dict.fromkeys(means["panel"]):
        for level, at in grouped(means[means["panel"] == panel], "level"):
            cells = {row["arm"]: write_noise(row["mean"]) for row in at.to_dict("records")}
            rows.append((f"{panel}, {text.count(round(level), 'image')}", cells))
    caption = "Noise: the geometric mean of the seeds"
    return Table.of_cells(caption, ("Noise", *layers), rows)
