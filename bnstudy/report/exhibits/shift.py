"""The shift of variance that dropout brings before normalization: observed and predicted."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.inference import Interval, mean_interval
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

STATS = ("observed", "predicted")


def variance_shift(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show the observed log ratio of variances against the predicted one.

    Options: ``arms`` (all if not given); ``layers``, a panel each.
    """
    arms, layers = evidence.arms(exhibit.options.get("arms")), exhibit.options["layers"]
    notes = parts.gaps(evidence, arms, "what was measured until then is shown.")
    rows = evidence.measured(arms, layers, "in", STATS, "variance-shift")
    keys = ["layer", "arm", "seed"]
    last = rows.sort_values("epoch", kind="stable").groupby([*keys, "stat"])["value"].last()
    points = last.unstack("stat").reindex(columns=list(STATS)).dropna().reset_index()
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    points = points[[*keys, "predicted", "observed"]]
    found = _shares(points, arms, layers)
    sentence = _sentence(points, found, parts.labels_of(arms), layers[0])
    log_ratio = "log ratio of variances"
    figure = drawing.prediction(
        points, parts.labels_of(arms), layers,
        (drawing.Scale(f"Predicted {log_ratio}"), drawing.Scale("Observed")),
        parts.source_line(evidence.plan, parts.seeds_of(evidence, arms)),
    )  # fmt: skip
    table = _table(points, found, arms, layers)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, points)
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _shares(
    points: pd.DataFrame, arms: Sequence[Arm], layers: Sequence[str]
) -> dict[tuple[str, str], Interval]:
    """Return observed over predicted, the mean of the seeds, where something is predicted."""
    found = {}
    for layer in layers:
        for arm in arms:
            at = points[(points["layer"] == layer) & (points["arm"] == arm.name)]
            at = at[at["predicted"] != 0]
            if len(at):
                found[layer, arm.name] = mean_interval(
                    (at["observed"] / at["predicted"]).to_numpy()
                )
    return found


def _sentence(
    points: pd.DataFrame,
    found: Mapping[tuple[str, str], Interval],
    labels: Mapping[str, str],
    layer: str,
) -> str:
    mine = {arm: each for (where, arm), each in found.items() if where == layer}
    if not mine:
        most = float(np.abs(points["observed"]).max())
        return f"No shift is predicted; the largest observed log ratio is {_short(most)}"
    said = [
        f"{_short(each.estimate)} ({text.interval_span(each, _short)}) at {labels[arm]}"
        for arm, each in mine.items()
    ]
    seeds = text.count(min(each.n for each in mine.values()), "seed")
    return (
        f"Observed over predicted shift into {layer}, by dropout: {text.listing(said)} "
        f"(95% CI, {seeds})"
    )


def _table(
    points: pd.DataFrame,
    found: Mapping[tuple[str, str], Interval],
    arms: Sequence[Arm],
    layers: Sequence[str],
) -> Table:
    rows = []
    for layer in layers:
        for arm in arms:
            at = points[(points["layer"] == layer) & (points["arm"] == arm.name)]
            each = found.get((layer, arm.name))
            observed = mean_interval(at["observed"].to_numpy()) if len(at) else None
            rows.append(
                (
                    f"{layer}, {arm.label}",
                    _short(float(at["predicted"].mean())) if len(at) else text.MISSING,
                    _short(observed.estimate) if observed else text.MISSING,
                    text.interval_span(observed, _short) if observed else text.MISSING,
                    _short(each.estimate) if each else text.MISSING,
                    text.interval_span(each, _short) if each else text.MISSING,
                )
            )
    return Table(
        "Logarithm of the variance in testing over that in training, mean of channels: predicted, "
        "observed, and observed over predicted, with 95% t intervals over seeds",
        ("Layer, dropout", "Predicted", "Observed", "95% CI", "Ratio", "95% CI of the ratio"),
        tuple(rows),
    )


def _short(value: float) -> str:
    return text.decimal(value, 2)
