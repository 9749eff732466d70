"""One style for all figures: colours, markers, lines, fonts, and the empty figure."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1d232b", "#56606c", "#dfe3e8", "#ffffff"
WIDTH = 5.4  # inches: at this width 11 pt stay legible on a screen of 360 px
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
LONGEST_LABEL = 24
ROW_LETTERS = 54  # that stand side by side below an axis as wide as the figure

RC_PARAMS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
    "font.size": 11.0,
    "text.parse_math": False,  # a name may hold a dollar sign
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 11.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.image_inline": True,
}


@dataclass(frozen=True)
class LineStyle:
    """Colour, marker and line style of one arm: each of the three identifies it."""

    color: str
    marker: str
    linestyle: Any


LINE_STYLES = (
    LineStyle("#b34700", "s", (0, (4, 1.5))),
    LineStyle("#0067a5", "o", "-"),
    LineStyle("#00705a", "D", (0, (1, 1))),
    LineStyle("#93407d", "P", (0, (5, 1, 1, 1))),
    LineStyle("#6f5a00", "X", (0, (7, 2))),
    LineStyle("#4a535e", "v", (0, (2, 2))),
)


@dataclass(frozen=True)
class Scale:
    """A vertical axis.

    Attributes
    ----------
    label
        What it shows, with its unit.
    percent
        Whether values in 0..1 are written as percentages.
    log
        Whether it is logarithmic.
    least
        The smallest span it may have.
    linear
        Up to which distance from 0 it is linear, and beyond logarithmic; 0 if not so.
    """

    label: str
    percent: bool = False
    log: bool = False
    least: float = 0.0
    linear: float = 0.0


def line_styles(names: Iterable[str]) -> dict[str, LineStyle]:
    """Return the style of each name, in order; after six they repeat."""
    return {name: LINE_STYLES[index % len(LINE_STYLES)] for index, name in enumerate(names)}


def new_figure(
    source: str,
    *,
    height: float,
    rows: int = 1,
    columns: int = 1,
    share_y: bool = False,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a source line at its foot and a grid of empty axes above.

    ``heights`` are those of the rows, relative to each other; all the same if not given.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    foot = 0.27 / height
    figure.get_layout_engine().set(  # type: ignore[union-attr,call-arg]
        rect=(0, foot, 1, 1 - foot), w_pad=0.06, h_pad=0.06
    )
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharey="row" if share_y else False,
        height_ratios=heights,
    )
    # in inches, as the foot is: a share of a tall figure would reach into what stands above
    figure.text(
        0.01, 0.05 / height, source, fontsize=8.5, color=MUTED, va="bottom", in_layout=False
    )
    return figure, list(grid.flat)


def shorten(text: str, longest: int = LONGEST_LABEL) -> str:
    """Cut a text that is too long, and mark the cut."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def wrap_in_two(text: str) -> str:
    """Break a label that is too long for one line into two, and cut what is too long for them.

    The break is after a colon if that leaves two short lines.
    """
    before, colon, after = text.partition(": ")
    if colon and max(len(before) + 1, len(after)) <= LONGEST_LABEL < len(text):
        return f"{before}:\n{after}"
    lines = textwrap.wrap(text, LONGEST_LABEL - 6) if len(text) > LONGEST_LABEL else [text]
    return "\n".join([*lines[:1], *(shorten(" ".join(lines[1:])),) * (len(lines) > 1)])


def wrap_tick_labels(labels: Sequence[str]) -> list[str]:
    """Break labels that stand side by side below an axis, so that none overlaps another."""
    room = ROW_LETTERS // max(1, len(labels))
    return [_wrap_to(wrap_label(text), text, room) for text in labels]


def _wrap_to(usual: str, text: str, room: int) -> str:
    if max(map(len, usual.split("\n"))) <= room:
        return usual
    lines = textwrap.wrap(text, room, break_long_words=False)
    return "\n".join([*lines[:4], *(shorten(" ".join(lines[4:]), room),) * (len(lines) > 4)])


def wrap_label(text: str) -> str:
    """Break a label of two or more words into two lines, a long one into three; else cut it."""
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    if len(text) > LONGEST_LABEL and spaces:
        lines = textwrap.wrap(text, LONGEST_LABEL // 2 + 1)
        return "\n".join([*lines[:2], *(shorten(" ".join(lines[2:])),) * (len(lines) > 2)])
    text = shorten(text)
    if len(text) < 7 or not spaces:
        return text
    middle = min(spaces, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:middle]}\n{text[middle + 1 :]}"
