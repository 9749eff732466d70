"""Sinks of rows while training runs: each is a function of a table of new rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pandas as pd


class ScalarWriter(Protocol):
    """The part of ``torch.utils.tensorboard.SummaryWriter`` that is needed."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Write one number."""


def tensorboard(writer: ScalarWriter) -> Callable[[pd.DataFrame], None]:
    """Return a sink that writes each number of a whole tensor as ``layer/tensor/stat``.

    Evaluation passes get the tag ``eval/...``, further calls ``layer.1/...``;
    histogram bins and channels are left out.
    """

    def sink(rows: pd.DataFrame) -> None:
        for tag, step, value in _scalars(rows):
            writer.add_scalar(tag, value, step)

    return sink


def logger(log: Callable[..., Any]) -> Callable[[pd.DataFrame], None]:
    """Return a sink that calls ``log({tag: value, ...}, step=step)``, as ``wandb.log`` wants it."""

    def sink(rows: pd.DataFrame) -> None:
        by_step: dict[int, dict[str, float]] = {}
        for tag, step, value in _scalars(rows):
            by_step.setdefault(step, {})[tag] = value
        for step, values in by_step.items():
            log(values, step=step)

    return sink


def csv(path: str | Path) -> Callable[[pd.DataFrame], None]:
    """Return a sink that appends rows to a CSV file, its header written once."""
    path = Path(path)

    def sink(rows: pd.DataFrame) -> None:
        new = not path.exists()
        rows.to_csv(path, mode="a", header=new, index=False)

    return sink


def _scalars(rows: pd.DataFrame) -> list[tuple[str, int, float]]:
    plain = rows[
        (rows["channel"] < 0) & ~rows["stat"].astype("str").str.contains("hist[", regex=False)
    ]
    first = plain[plain["forward"] == 0]
    names = ("mode", "layer", "call", "tensor", "stat", "step", "value")
    return [
        (
            ("eval/" if mode == "eval" else "")
            + f"{layer}{f'.{call}' if call else ''}/{tensor}/{stat}",
            int(step),
            float(value),
        )
        for mode, layer, call, tensor, stat, step, value in zip(
            *(first[name].tolist() for name in names), strict=True
        )
    ]
