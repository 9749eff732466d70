"""Shift of variance that dropout brings before normalization: observed and predicted."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.inference import Interval, mean_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import MUTED, RC_PARAMS, Scale, line_styles, new_figure
from bnstudy.report.drawing.marks import dots, format_axes
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.model import Table

PROBE = "variance-shift"
STATS = ("predicted", "observed")
KEYS = ["layer", "arm", "seed"]
SCALES = (Scale("Predicted log ratio of variances"), Scale("Observed"))
write_log_ratio = text.fixed(2)


@exhibit("variance-shift", diverged="what was measured until then is shown.")
def variance_shift(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show the observed log ratio of variances against the predicted one.

    Options: ``arms`` (all if not given); ``layers``, each of which has a panel.
    """
    layers = options["layers"]
    points = _points(evidence, arms, layers)
    if points.empty:
        return Nothing()
    labels, shares = labels_of(arms), _shares(points, arms, layers)
    return Content(
        sentence=_sentence(points, shares, labels, layers[0]),
        values=points,
        draw=lambda source: draw_prediction(points, labels, layers, SCALES, source),
        tables=(_table(points, shares, arms, layers),),
    )


def _points(evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str]) -> pd.DataFrame:
    """Return the last numbers of every layer and run that has both."""
    last = pd.concat(
        evidence.readings(
            arms, "probe", probe=PROBE, stat=stat, layer=layer, tensor="in", take="last"
        ).assign(layer=layer, stat=stat)
        for layer in layers
        for stat in STATS
    )
    wide = last.pivot(index=KEYS, columns="stat", values="value")
    return wide.reindex(columns=list(STATS)).dropna().reset_index()


def _at(points: pd.DataFrame, layer: str, arm: Arm) -> pd.DataFrame:
    return points[(points["layer"] == layer) & (points["arm"] == arm.name)]


def _shares(
    points: pd.DataFrame, arms: Sequence[Arm], layers: Sequence[str]
) -> dict[tuple[str, str], Interval]:
    """Return observed over predicted, the mean of the seeds, where something is predicted."""
    found = {}
    for layer in layers:
        for arm in arms:
            at = _at(points, layer, arm)
            at = at[at["predicted"] != 0]
            if len(at):
                ratios = (at["observed"] / at["predicted"]).to_numpy()
                found[layer, arm.name] = mean_interval(ratios)
    return found


def _sentence(
    points: pd.DataFrame,
    shares: Mapping[tuple[str, str], Interval],
    labels: Mapping[str, str],
    layer: str,
) -> str:
    mine = {arm: each for (where, arm), each in shares.items() if where == layer}
    if not mine:
        most = write_log_ratio(float(np.abs(points["observed"]).max()))
        return f"No shift is predicted; the largest observed log ratio is {most}"
    stated = [
        f"{write_log_ratio(each.estimate)} ({text.interval_span(each, write_log_ratio)}) "
        f"at {labels[arm]}"
        for arm, each in mine.items()
    ]
    seeds = text.count(min(each.n for each in mine.values()), "seed")
    return (
        f"Observed over predicted shift into {layer}, by dropout: {text.listing(stated)} "
        f"(95% CI, {seeds})"
    )


def _table(
    points: pd.DataFrame,
    shares: Mapping[tuple[str, str], Interval],
    arms: Sequence[Arm],
    layers: Sequence[str],
) -> Table:
    rows = []
    for layer in layers:
        for arm in arms:
            at = _at(points, layer, arm)
            observed = mean_interval(at["observed"].to_numpy()) if len(at) else None
            rows.append(
                (
                    f"{layer}, {arm.label}",
                    write_log_ratio(float(at["predicted"].mean())),
                    *_estimate(observed),
                    *_estimate(shares.get((layer, arm.name))),
                )
            )
    return Table(
        "Logarithm of the variance in testing over that in training, mean of channels: predicted, "
        "observed, and observed over predicted, with 95% t intervals over seeds",
        ("Layer, dropout", "Predicted", "Observed", "95% CI", "Ratio", "95% CI of the ratio"),
        tuple(rows),
    )


def _estimate(found: Interval | None) -> tuple[str, str]:
    """Write an estimate and its interval."""
    if found is None:
        return text.MISSING, text.MISSING
    return write_log_ratio(found.estimate), text.interval_span(found, write_log_ratio)


@mpl.rc_context(RC_PARAMS)
def draw_prediction(
    points: pd.DataFrame,
    labels: Mapping[str, str],
    layers: Sequence[str],
    scales: tuple[Scale, Scale],
    source: str,
) -> Figure:
    """Draw what was observed against what was predicted, one point per seed, a panel per layer.

    Parameters
    ----------
    points
        Columns ``layer``, ``arm``, ``seed``, ``predicted``, ``observed``.
    labels
        Text of each arm.
    layers
        Each has a panel.
    scales
        Of what is predicted and of what is observed.
    source
        Line at the foot.
    """
    figure, panels = new_figure(source, height=3.3 * len(layers) + 0.5, rows=len(layers))
    values = points[["predicted", "observed"]].to_numpy(dtype=float)
    low, high = float(values.min()), float(values.max())
    free = 0.08 * (high - low) or 0.1
    for number, (axes, layer) in enumerate(zip(panels, layers, strict=True)):
        rows = points[points["layer"] == layer]
        axes.plot([low, high], [low, high], color=MUTED, ls=(0, (6, 3)), lw=1.5, zorder=1)
        axes.text(0.98, 0.04, "dashed: as predicted", transform=axes.transAxes, ha="right",
                  color=MUTED, fontsize=9.5)  # fmt: skip
        means = rows.groupby("arm")[["predicted", "observed"]].mean()
        lines = _label_lines(means, high - low)
        for arm, style in line_styles(labels).items():
            mine = rows[rows["arm"] == arm]
            if mine.empty:
                continue
            dots(axes, mine["predicted"], mine["observed"], np.zeros(len(mine), bool), style)
            mean = (float(means["predicted"][arm]), float(means["observed"][arm]))
            axes.annotate(
                labels[arm], mean, xytext=(8, -9 - 15 * lines[arm]),
                textcoords="offset points",
                color=style.color, fontsize=9.5, fontweight="bold", annotation_clip=False,
            )  # fmt: skip
        axes.set_title(layer)
        format_axes(axes, scales[1], scales[0].label if number == len(layers) - 1 else "")
        axes.set_xlim(low - free, high + 3 * free)
        axes.set_ylim(low - free, high + free)
    return figure


def _label_lines(means: pd.DataFrame, span: float) -> dict[str, int]:
    """Return on which line below its mark each arm's name runs into no mark and no other name."""
    lines: dict[str, int] = {}
    for arm, own in means.sort_values("predicted").iterrows():
        beside = (means["observed"] - own["observed"]).abs() < 0.1 * span
        reach = means["predicted"] - own["predicted"]
        taken = [lines[name] for name in means.index[beside & (reach < 0) & (reach > -0.5 * span)]]
        crossed = bool((beside & (reach > 0) & (reach < 0.45 * span)).any())
        lines[str(arm)] = max([line + 1 for line in taken], default=int(crossed))
    return lines
