"""The shape table of a network as plain text, for the console."""

from collections.abc import Iterable

from bnstudy.networks import LayerTrace


def trace_table(layers: Iterable[LayerTrace]) -> str:
    """Return the trace of a network as lines of text: layer, output, parameters, operations."""
    layers = list(layers)
    rows = [("layer", "kind", "output", "parameters", "operations")]
    rows += [
        (
            layer.name,
            layer.kind,
            " x ".join(str(size) for size in layer.output_shape),
            f"{layer.parameters:,}",
            f"{layer.flops:,}",
        )
        for layer in layers
    ]
    parameters, flops = (
        sum(getattr(each, of) for each in layers) for of in ("parameters", "flops")
    )
    rows.append(("total", "", "", f"{parameters:,}", f"{flops:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.rjust(width) if column >= 3 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
