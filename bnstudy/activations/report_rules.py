"""Rules that put a recording into sentences; their thresholds all stand in one table."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Rule:
    """A statistic that means something beyond a threshold.

    Attributes
    ----------
    name
        One word or two, the column ``rule``.
    stat
        Label of the statistic.
    tensors
        Of which tensors, by the start of their names.
    compare
        ``>`` or ``<``.
    threshold
        Beyond which it means something.
    says
        Sentence, with ``{value}`` for the last value and ``{when}``.

    Examples
    --------
    >>> rule = Rule("dead", "dead", ("out",), ">", 0.1, "{value:.0%} of units are dead {when}")
    >>> rule.holds(pd.Series([0.05, 0.2, float("nan")])).tolist()
    [False, True, False]
    """

    name: str
    stat: str
    tensors: tuple[str, ...]
    compare: str
    threshold: float
    says: str

    def holds(self, values: pd.Series) -> pd.Series:
        """Return whether each value is beyond the threshold; NaN never is."""
        return {">": operator.gt, "<": operator.lt}[self.compare](values, self.threshold)


# One rule per line: name, statistic, tensors, threshold, sentence.
# ruff: noqa: E501
RULES = (
    Rule("not finite", "nonfinite", ("out", "in"), ">", 0, "{value:,.0f} values are NaN or infinite {when}"),
    Rule("gradient not finite", "nonfinite", ("grad",), ">", 0, "{value:,.0f} gradients are NaN or infinite {when}"),
    Rule("saturated", "saturated", ("out",), ">", 0.4, "{value:.0%} of values are saturated {when}"),
    Rule("stuck", "stuck", ("out",), ">", 0.1, "{value:.0%} of units are saturated for nearly every sample {when}"),
    Rule("dead", "dead", ("out",), ">", 0.1, "{value:.0%} of units are dead {when}"),
    Rule("collapsed", "std", ("out",), "<", 1e-3, "the output hardly varies, standard deviation {value:.2g}, {when}"),
    Rule("vanishing gradient", "relative_gradient", ("grad",), "<", 1e-3,
         "the gradient is {value:.1g} of the largest layer's {when}"),
    Rule("slow", "update_ratio", ("weight",), "<", 1e-5, "a step changes the weight by {value:.1g} of itself {when}"),
    Rule("fast", "update_ratio", ("weight",), ">", 1e-1, "a step changes the weight by {value:.1g} of itself {when}"),
    Rule("stale statistics", "running_distance", ("norm",), ">", 1.0,
         "running means are {value:.2g} standard deviations from the batch's {when}"),
)  # fmt: skip


def findings(rows: pd.DataFrame, rules: Iterable[Rule] = RULES) -> pd.DataFrame:
    """Apply rules to a recording's rows.

    Parameters
    ----------
    rows
        As :attr:`Recording.rows`; of training passes where there are any.
    rules
        The table above by default.

    Returns
    -------
    pandas.DataFrame
        One row per layer, tensor and rule that held at some recorded step:
        ``layer``, ``tensor``, ``rule``, ``since``, ``until`` (first and last
        step of the last period), ``value`` (the last of it), ``threshold``,
        ``sentence``.
    """
    columns = ["layer", "tensor", "rule", "since", "until", "value", "threshold", "sentence"]
    rows = _derived(rows)
    found = [
        finding
        for rule in rules
        for (layer, tensor), series in _series(rows, rule)
        if (finding := _finding(rule, layer, tensor, series)) is not None
    ]
    return pd.DataFrame(found, columns=columns)


def _series(rows: pd.DataFrame, rule: Rule) -> list[tuple[tuple[str, str], pd.Series]]:
    chosen = rows[(rows["stat"] == rule.stat) & rows["tensor"].str.startswith(rule.tensors)]
    return [
        ((str(layer), str(tensor)), group.groupby("step")["value"].mean())
        for (layer, tensor), group in chosen.groupby(["layer", "tensor"], sort=False)
    ]


def _finding(rule: Rule, layer: str, tensor: str, series: pd.Series) -> tuple[object, ...] | None:
    held = rule.holds(series)
    if not held.any():
        return None
    last = held[held].index[-1]
    before = held[~held & (held.index < last)]
    since = series.index[series.index > before.index[-1]][0] if len(before) else series.index[0]
    goes_on = last == series.index[-1]
    when = f"from step {since}" if goes_on else f"in steps {since} to {last}"
    name = layer if tensor in ("out", "norm") else f"{layer} ({tensor})"
    sentence = f"{name}: {rule.says.format(value=series[last], when=when)}"
    return layer, tensor, rule.name, since, last, series[last], rule.threshold, sentence


def _derived(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows as text, and with them the statistics of rules that are not recorded."""
    texts = rows.astype(dict.fromkeys(("mode", "layer", "tensor", "stat"), "str"))
    if (texts["mode"] == "train").any():
        texts = texts[texts["mode"] == "train"]
    plain = texts[texts["channel"] < 0]
    return pd.concat(
        [plain, _relative_gradients(plain), _running_distance(texts)], ignore_index=True
    )


def _relative_gradients(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each layer's gradient deviation over the largest of the same step."""
    grads = rows[rows["tensor"].str.startswith("grad") & (rows["stat"] == "std")].copy()
    grads["value"] /= grads.groupby("step")["value"].transform("max")
    grads["stat"] = "relative_gradient"
    return grads


def _running_distance(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rms over channels of (running mean - batch mean) / batch deviation."""
    norms = rows[(rows["channel"] >= 0) & (rows["tensor"] == "norm")]
    if norms.empty:
        return norms
    by = ["step", "layer", "tensor"]
    first = norms[(norms["forward"] == 0) & (norms["call"] == 0)]
    table = first.pivot(index=[*by, "channel"], columns="stat", values="value")
    square = (table["running_mean"] - table["batch_mean"]) ** 2 / table["batch_var"].clip(
        lower=1e-12
    )
    distance = square.groupby(by, sort=False).mean().pow(0.5).rename("value").reset_index()
    return distance.assign(stat="running_distance")
