"""The figure of prediction against observation."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.report.drawing.marks import dots, dress
from bnstudy.report.drawing.styles import (
    MUTED,
    STYLE,
    Scale,
    canvas,
    looks,
)


@mpl.rc_context(STYLE)
def prediction(
    points: pd.DataFrame,
    labels: Mapping[str, str],
    panels_of: Sequence[str],
    scales: tuple[Scale, Scale],
    source: str,
) -> Figure:
    """Draw what was observed against what was predicted, a point a seed, a panel a layer.

    Parameters
    ----------
    points
        Columns ``layer``, ``arm``, ``seed``, ``predicted``, ``observed``.
    labels
        Text of each arm.
    panels_of
        The layers.
    scales
        Of what is predicted and of what is observed.
    source
        Line at the foot.
    """
    figure, panels = canvas(source, height=3.3 * len(panels_of) + 0.5, rows=len(panels_of))
    values = points[["predicted", "observed"]].to_numpy(dtype=float)
    low, high = float(values.min()), float(values.max())
    free = 0.08 * (high - low) or 0.1
    for number, (axes, layer) in enumerate(zip(panels, panels_of, strict=True)):
        rows = points[points["layer"] == layer]
        axes.plot([low, high], [low, high], color=MUTED, ls=(0, (6, 3)), lw=1.5, zorder=1)
        axes.text(0.98, 0.04, "dashed: as predicted", transform=axes.transAxes, ha="right",
                  color=MUTED, fontsize=9.5)  # fmt: skip
        means = rows.groupby("arm")[["predicted", "observed"]].mean()
        lines = _lines(means, high - low)
        for arm, look in looks(labels).items():
            mine = rows[rows["arm"] == arm]
            if mine.empty:
                continue
            dots(axes, mine["predicted"], mine["observed"], np.zeros(len(mine), bool), look)
            place = (float(means["predicted"][arm]), float(means["observed"][arm]))
            axes.annotate(
                labels[arm], place, xytext=(8, -9 - 15 * lines[arm]),
                textcoords="offset points",
                color=look.color, fontsize=9.5, fontweight="bold", annotation_clip=False,
            )  # fmt: skip
        axes.set_title(layer)
        dress(axes, scales[1], scales[0].label if number == len(panels_of) - 1 else "")
        axes.set_xlim(low - free, high + 3 * free)
        axes.set_ylim(low - free, high + free)
    return figure


def _lines(means: pd.DataFrame, span: float) -> dict[str, int]:
    """Return on which line below its mark each arm's name runs into no mark and no other name."""
    lines: dict[str, int] = {}
    for arm, own in means.sort_values("predicted").iterrows():
        beside = (means["observed"] - own["observed"]).abs() < 0.1 * span
        reach = means["predicted"] - own["predicted"]
        taken = [lines[name] for name in means.index[beside & (reach < 0) & (reach > -0.5 * span)]]
        crossed = bool((beside & (reach > 0) & (reach < 0.45 * span)).any())
        lines[str(arm)] = max([line + 1 for line in taken], default=int(crossed))
    return lines
