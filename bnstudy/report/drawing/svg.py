"""Figures as SVG text that is the same every time and can stand in a page beside others."""

import io
import re
import warnings
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bnstudy.report.drawing.styles import FONT, RC_PARAMS


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return a figure as an SVG document that is the same text every time.

    Parameters
    ----------
    figure
        Any of this module's.
    name
        Unique among the figures of a page: all ids are derived from it.
    title, description
        Its text alternative: read aloud in its place.

    Returns
    -------
    str
        Text stays text, in a generic font.  The only ids are those that are
        referred to, and they start with ``name``.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**RC_PARAMS, "svg.hashsalt": name}), warnings.catch_warnings():
        # A glyph that the layout font lacks is drawn by the reader's own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        lay_out(figure)
        figure.savefig(buffer, format="svg", metadata=nothing)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = drawing.replace("'DejaVu Sans'", FONT)
    # A style sheet inside a drawing would rule the whole page that holds it.
    drawing = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", drawing, flags=re.DOTALL)
    drawing = own_ids(drawing, name)
    opening, rest = drawing.split(">", 1)
    return (
        f'{opening} stroke-linejoin="round" role="img"'
        f' aria-labelledby="{name}-title {name}-desc">\n'
        f' <title id="{name}-title">{escape(title)}</title>\n'
        f' <desc id="{name}-desc">{escape(description)}</desc>{rest}'
    )


def lay_out(figure: Figure) -> None:
    """Lay a figure out by the sizes that texts have in SVG, once.

    Saving would lay it out by drawing the figure once more.
    """
    FigureCanvasSVG(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def own_ids(drawing: str, name: str) -> str:
    """Drop ids that nothing refers to, and start the others with the figure's name."""
    # in the order of the drawing: old names may hold addresses in memory
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', drawing))
    numbers = {old: f"{name}-{number}" for number, old in enumerate(used)}

    def renamed(match: re.Match[str]) -> str:
        new = numbers.get(match[1])
        return f' id="{new}"' if new else ""

    drawing = re.sub(r' id="([^"]+)"', renamed, drawing)
    return re.sub(r'(href="|url\()#([^")]+)', lambda m: f"{m[1]}#{numbers[m[2]]}", drawing)
