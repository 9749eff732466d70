"""The line at the foot of every figure, and the name of the images in text."""

from bnstudy.plan import Plan

DATA_NAMES = {"fashion-mnist": "Fashion-MNIST"}


def data_name(plan: Plan) -> str:
    """Return the name of the images in text."""
    return DATA_NAMES.get(plan.data.name, plan.data.name)


def source_line(plan: Plan, seeds: str) -> str:
    """Return the line at the foot of a figure: images, number of seeds, plan."""
    images = f"{data_name(plan)} (bundled sample)" if plan.data.sample else data_name(plan)
    return f"bnstudy · {images} · {seeds} · plan {plan.sha256[:8]}"
