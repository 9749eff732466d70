"""One recording from several of the same model: those of the processes of a distributed run.

Each process records its own share of a batch; nothing is sent between them while
they train.  Afterwards moments are merged about the common mean (Chan, Golub &
LeVeque 1983), shares and histograms are averaged, counts added.  Statistics without an
exact merger (quantiles, units dead or stuck, ranks, moments of single channels, which
each process normalized by on its own) are left out and noted, unless all agree on them.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.activations.recording import Recording
from bnstudy.errors import WatchError

KEYS = ["step", "mode", "forward", "layer", "call", "tensor", "channel", "stat"]
AVERAGED = ("mean", "abs_mean", "zeros", "saturated", "active", "slope")
Columns = Mapping[str, np.ndarray]  # statistic -> (rows, recordings)


def merge(recordings: Sequence[Recording], weights: Sequence[float] | None = None) -> Recording:
    """Merge the recordings of several processes into one.

    Parameters
    ----------
    recordings
        Of the same model and the same steps, one per process.
    weights
        Number of values, or images, that each saw; equal by default.

    Returns
    -------
    Recording
        Rows that every recording has.  Its notes say what could not be merged.

    Raises
    ------
    WatchError
        If there is no recording, the weights do not fit, or no row is common.

    Examples
    --------
    >>> rows = pd.DataFrame({
    ...     "step": 0, "mode": "train", "forward": 0, "layer": "fc", "call": 0,
    ...     "tensor": "out", "channel": -1, "stat": ["mean", "max"], "value": [1.0, 4.0]})
    >>> other = rows.assign(value=[3.0, 9.0])
    >>> merge([Recording(rows), Recording(other)], weights=[3, 1]).rows["value"].tolist()
    [1.5, 9.0]
    """
    shares = np.array([1.0] * len(recordings) if weights is None else weights, dtype=float)
    if not len(recordings) or shares.shape != (len(recordings),) or not (shares > 0).all():
        raise WatchError(
            "merging needs recordings and a positive weight for each, "
            f"got {len(recordings)} and {weights!r}"
        )
    columns = [_keyed(recording.rows) for recording in recordings]
    wide = pd.concat(columns, axis=1, join="inner", keys=range(len(recordings)))
    if wide.empty:
        raise WatchError("recordings to merge must share steps and layers, and these share none")
    values = pd.Series(_merged(wide, shares / shares.sum()), index=wide.index, name="value")
    # agreeing numbers need no merger: parameters, which all processes share, are such
    agreed = (wide.to_numpy() == wide.to_numpy()[:, :1]).all(axis=1)
    summed = wide.index.get_level_values("stat").isin(("nonfinite", "l2"))
    activation = ~wide.index.get_level_values("tensor").isin(_parameters(wide))
    values = values.where(~agreed | (summed & activation), wide.iloc[:, 0])
    lost = values.isna() & ~wide.isna().any(axis=1)
    rows = values[~lost].reset_index()[recordings[0].rows.columns.tolist()]
    info = dict(recordings[0].info)
    info["notes"] = [*info.get("notes", []), *_notes(wide[lost.to_numpy()])]
    rows = rows.astype(recordings[0].rows.dtypes.to_dict())
    return Recording(rows, info)


def _keyed(rows: pd.DataFrame) -> pd.Series:
    plain = rows.astype(dict.fromkeys(("mode", "layer", "tensor", "stat"), str))
    series: pd.Series = plain.set_index(KEYS)["value"]
    return series


def _parameters(wide: pd.DataFrame) -> list[str]:
    """Return the names of tensors that are parameters: not outputs, inputs or gradients."""
    names = set(wide.index.get_level_values("tensor"))
    return [name for name in names if name.split(".")[0] not in ("out", "in", "grad", "norm")]


def _merged(wide: pd.DataFrame, shares: np.ndarray) -> np.ndarray:
    """Return the merged value of each row, NaN where there is no merger."""
    stats = wide.index.get_level_values("stat")
    result = np.full(len(wide), np.nan)
    of_tensor = wide.index.get_level_values("channel") == -1
    averaged = stats.isin(AVERAGED) | stats.str.fullmatch(r"(log_)?hist\[.*")
    simple: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "min": lambda v: v.min(axis=1),
        "max": lambda v: v.max(axis=1),
        "nonfinite": lambda v: v.sum(axis=1),
        "l2": lambda v: np.sqrt((v**2).sum(axis=1)),
        "rms": lambda v: np.sqrt((v**2) @ shares),
    }
    values = wide.to_numpy(dtype=float)
    result[averaged & of_tensor] = values[averaged & of_tensor] @ shares
    for stat, function in simple.items():
        where = (stats == stat) & of_tensor
        result[where] = function(values[where])
    for stat in ("std", "skew", "kurtosis"):
        where = (stats == stat) & of_tensor
        parts = {name: _beside(wide, where, name) for name in ("mean", "std", "skew", "kurtosis")}
        result[where] = _central(stat, parts, shares)
    return result


def _beside(wide: pd.DataFrame, where: np.ndarray, stat: str) -> np.ndarray:
    """Return another statistic of the same tensors as some rows; NaN where there is none."""
    index = wide.index[where].to_frame(index=False).assign(stat=stat)
    found = wide.reindex(pd.MultiIndex.from_frame(index[KEYS]))
    return found.to_numpy(dtype=float)


def _central(stat: str, parts: Columns, shares: np.ndarray) -> np.ndarray:
    """Merge a central moment, the recordings' own ones moved to the common mean."""
    d = parts["mean"] - (parts["mean"] @ shares)[:, None]
    m2 = parts["std"] ** 2
    variance = (m2 + d**2) @ shares
    if stat == "std":
        return np.asarray(np.sqrt(variance))
    m3 = parts["skew"] * parts["std"] ** 3
    with np.errstate(invalid="ignore", divide="ignore"):
        if stat == "skew":
            return np.asarray((m3 + 3 * d * m2 + d**3) @ shares / variance**1.5)
        m4 = (parts["kurtosis"] + 3.0) * m2**2
        return np.asarray((m4 + 4 * d * m3 + 6 * d**2 * m2 + d**4) @ shares / variance**2 - 3.0)


def _notes(lost: pd.DataFrame) -> list[list[str]]:
    """Return a note for each layer's tensor that lost statistics, naming them."""
    notes = []
    keys = lost.index.to_frame(index=False)
    for (layer, tensor), group in keys.groupby(["layer", "tensor"], sort=False):
        names = ", ".join(dict.fromkeys(group["stat"]))
        notes.append([str(layer), str(tensor), f"no exact merger of {names}"])
    return notes
