"""What the runs of the example experiments recorded: curves, norms and measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bnstudy.activations.builtin_statistics import bin_labels
from bnstudy.engines.run_record import CURVE_COLUMNS
from bnstudy.plan import Arm, PlannedRun
from tests.synthetic.examples import (
    BATCH_SIZES,
    CELLS,
    EPOCHS,
    HORIZON,
    IMAGES,
    LAYERS,
    NAN,
    STEPS_PER_EPOCH,
)

HALVED_UP_TO = {"none": 16, "bn": 64}  # batch size up to which steps halve, to stay beyond
PREDICTED_SHIFTS = {"before": -1.0, "after": 0.0}  # log ratios
CELL_ACCURACY = dict(zip(CELLS, (0.80, 0.82, 0.60, 0.70), strict=True))
BINS = bin_labels("hist", 4, -2.0, 2.0)
HISTOGRAM_STEPS = (0, 100, 235)
FIRST_SHARES, LAST_SHARES = (0.5, 0.3, 0.1, 0.1, 0.0, 0.0), (0.0, 0.0, 0.1, 0.1, 0.5, 0.3)

PROVENANCE = {
    "steps_per_epoch": STEPS_PER_EPOCH,
    "engine": "reference",
    "device": "cpu",
    "threads": 1,
    "git.commit": "c0ffee" * 6,
    "git.dirty": False,
    "images_per_second": 14_835.7,
    "wall_seconds": 61.3,
    "data.source": "folder",
    "machine.system": "Linux",
    "versions.torch": "2.14.1",
}


@dataclass(frozen=True)
class SyntheticRecord:
    """What one run recorded, without experiment, arm and seed; None for no such table."""

    row: Mapping[str, object]
    curve: pd.DataFrame | None = None
    norms: pd.DataFrame | None = None
    measures: pd.DataFrame | None = None


# Runs whose numbers a test gives ------------------------------------------------------


def given_record(
    run: PlannedRun,
    diverged: bool,
    reached: Mapping[str, Sequence[float]],
    values: Mapping[str, Mapping[str, Sequence]],
) -> SyntheticRecord:
    """Return a run of ``speed``; one that diverged did so at once."""
    row = {"steps_per_epoch": HORIZON / EPOCHS}
    if diverged:
        return SyntheticRecord(row)
    rises = reached[run.arm.name][run.seed] if run.arm.name in reached else 50.0
    ends = {column: seeds[run.seed] for column, seeds in values.get(run.arm.name, {}).items()}
    return SyntheticRecord(row, step_curve(rises, ends))


def step_curve(rises: float, ends: Mapping[str, Sequence[float] | float]) -> pd.DataFrame:
    """Return a curve of ten points per epoch that rises once, with these values at epochs' ends."""
    step = np.arange(10, HORIZON + 1, 10)
    epoch = step * EPOCHS / HORIZON
    whole = epoch % 1 == 0
    frame = pd.DataFrame({column: np.full(len(step), 0.5) for column in CURVE_COLUMNS})
    frame["step"] = step
    frame["epoch"] = epoch
    frame["validation_accuracy"] = np.where(step >= rises, 0.9, 0.2)
    for column in (name for name in CURVE_COLUMNS if name.startswith("test")):
        frame[column] = np.where(whole, 0.85, NAN)
    for column, value in ends.items():
        frame.loc[whole, column] = value
    return frame


# Runs by formula ----------------------------------------------------------------------


def formula_record(run: PlannedRun, diverged: bool) -> SyntheticRecord:
    """Return a run of ``batches``, ``square`` or ``probed``; one that diverged did so at once."""
    row = {"steps_per_epoch": HORIZON / EPOCHS}
    if diverged:
        return SyntheticRecord(row)
    ends = {"test_accuracy_population": _accuracy(run.arm, run.seed)}
    measures = _probe_measures(run) if run.arm.probes else None
    return SyntheticRecord(row, step_curve(_reached(run.arm), ends), measures=measures)


def _accuracy(arm: Arm, seed: int) -> float:
    """Return the accuracy at the end: by cell for the 2x2, by batch size for ``bn/B=``."""
    if arm.name in CELL_ACCURACY:
        return CELL_ACCURACY[arm.name] + 0.01 * seed
    gain = 0.01 * np.log2(arm.config.batch_size) if arm.name.startswith("bn") else 0.0
    return 0.7 + gain + 0.002 * seed


def _reached(arm: Arm) -> float:
    """Return the step at which the target is reached: 320 at a batch of 8."""
    if "/B=" not in arm.name:
        return 100.0
    return 320.0 * 8 / min(arm.config.batch_size, HALVED_UP_TO[arm.name.split("/")[0]])


def _probe_measures(run: PlannedRun) -> pd.DataFrame:
    """Return noise of 2 / sqrt(B), a shift 1.5 times the predicted, ..."""
    rows: list[tuple[object, ...]] = []
    for step in (0, HORIZON):
        for layer in LAYERS:
            for size in BATCH_SIZES:
                for stat, factor in (("mean_noise", 2.0), ("sd_noise", 1.0)):
                    value = factor * size**-0.5
                    rows.append((step, "batch-noise", layer, "in", f"{stat}_{size}", value))
            for stat in ("mean_slope", "sd_slope"):
                rows.append((step, "batch-noise", layer, "in", stat, -0.5))
        # BN's loss falls from 2 to 1, the other's from 2.5 to 1.5; beta is three times as large
        after = run.arm.name == "after"
        loss = (2.0 if after else 2.5) - step / HORIZON
        beta = 6.0 if after else 2.0
        for stat, value in (("beta", beta), ("loss_range", 0.5 * beta), ("loss", loss)):
            rows.append((step, "landscape", "network", "loss", stat, value))
        # likelihood losses are halved by training, and batches take 0.25 off
        halved = 1.0 if step else 2.0
        for tensor, gain in (("running", 0.0), ("batches", 0.25)):
            nll = halved + 0.1 * run.seed - gain
            rows.append((step, "uncertainty", "network", tensor, "nll", nll))
    predicted = PREDICTED_SHIFTS[run.arm.name]
    observed = 1.5 * predicted + 0.01 * (run.seed - 1.5)  # noise of mean 0 over four seeds
    for layer in LAYERS:
        rows.append((HORIZON, "variance-shift", layer, "in", "predicted", predicted))
        rows.append((HORIZON, "variance-shift", layer, "in", "observed", observed))
    columns = ["step", "probe", "layer", "tensor", "stat", "value"]
    return pd.DataFrame(rows, columns=columns).assign(channel=-1)


# Runs that look trained ---------------------------------------------------------------


def random_record(run: PlannedRun, diverged: bool, rng: np.random.Generator) -> SyntheticRecord:
    """Return a run of ``convergence``, ``source``, ``inside``, ``histograms`` or ``recorded``.

    A run that diverged did so in the first epoch: after two points of the curve if its
    seed is even, otherwise at once.
    """
    curve = random_curve(run.arm, rng)
    if diverged:
        curve = curve.head(2 if run.seed % 2 == 0 else 0)
    steps = len(curve) * STEPS_PER_EPOCH // 5
    norms = _random_norms(rng) if run.arm.config.norm != "none" else None
    measures = None
    if run.experiment == "recorded":
        measures = _recorded_measures(run.arm)
    elif run.experiment == "histograms":
        measures = _histogram_measures(run.arm, diverged)
    elif run.arm.probes:
        measures = _percentile_measures(run.arm, steps)
    return SyntheticRecord({"steps": steps, **PROVENANCE}, curve, norms, measures)


def random_curve(arm: Arm, rng: np.random.Generator) -> pd.DataFrame:
    """Return a curve of five points per epoch towards 0.88, slow without normalization."""
    pace = 0.35 if arm.config.norm == "none" else 1.6
    epoch = np.arange(1, 5 * arm.config.epochs + 1) / 5
    step = np.round(epoch * STEPS_PER_EPOCH).astype(int)
    accuracy = 0.88 - 0.78 * np.exp(-pace * rng.uniform(0.8, 1.2) * epoch)
    ends = np.isclose(epoch % 1, 0)
    validated = accuracy + rng.normal(0, 0.004, len(epoch))
    running = np.where(ends, accuracy - rng.uniform(0, 0.1, len(epoch)), NAN)
    has_validation = arm.config.train_split != "all"
    return pd.DataFrame(
        {
            "step": step,
            "epoch": step / STEPS_PER_EPOCH,
            "images": np.minimum(step * 256, np.ceil(epoch).astype(int) * IMAGES),
            "train_loss": 2.3 * (1 - accuracy) + 0.1,
            "train_accuracy": accuracy,
            "validation_loss": 1 - accuracy if has_validation else NAN,
            "validation_accuracy": validated if has_validation else NAN,
            "test_loss": np.where(ends, 1 - accuracy, NAN),
            "test_accuracy": running,
            "test_loss_population": np.where(ends, 1 - accuracy, NAN),
            "test_accuracy_population": np.where(ends, accuracy, NAN),
        }
    )


def _random_norms(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": ["norm1"] * 6 + ["norm2"] * 16,
            "channel": [*range(6), *range(16)],
            "gamma": rng.uniform(0.5, 4.5, 22),
            "beta": rng.normal(0, 2, 22),
            "running_mean": rng.normal(0, 1, 22),
            "running_var": rng.uniform(0.5, 2, 22),
        }
    )


def _percentile_measures(arm: Arm, steps: int) -> pd.DataFrame:
    """Return what a recorder saw at four points of the first epoch.

    Without BN all percentiles rise by 0.1 from record to record, with it by 0.05, the
    outer two being 2 apart; the gradient of act4 is 1000 times that of act1 without BN,
    and twice with it.
    """
    without = arm.config.norm == "none"
    rows: list[tuple[object, ...]] = []
    for record in range(4):
        step = record * STEPS_PER_EPOCH // 4
        if step > steps:
            break
        drift = (0.1 if without else 0.05) * record
        for layer in ("act1", "act4"):
            for stat, value in (("q15", -1.0), ("q50", 0.0), ("q85", 1.0)):
                rows.append((step, layer, "in", stat, value + drift))
            ratio = 1000.0 if without else 2.0
            rows.append((step, layer, "grad", "std", 1e-4 * (ratio if layer == "act4" else 1.0)))
    frame = pd.DataFrame(rows, columns=["step", "layer", "tensor", "stat", "value"])
    return frame.assign(probe="activations", channel=-1)


def _recorded_measures(arm: Arm) -> pd.DataFrame:
    """Return percentiles that two probes read at three steps, in layers of the SD 2.

    In act1 the attached recorder reads the 85th percentile 0.02 and 0.2 higher at the last
    two, in act2 2e-6 lower at the second.
    """
    (probe,) = arm.probes
    apart = {("act1", 47): 0.02, ("act1", 188): 0.2, ("act2", 47): -2e-6}
    rows: list[tuple[object, ...]] = []
    for step in (0, 47, 188):
        for layer in ("act1", "act2"):
            more = apart.get((layer, step), 0.0) if probe == "recorder" else 0.0
            for stat, value in (("q15", -1.0), ("q50", 0.0), ("q85", 1.0 + more), ("std", 2.0)):
                rows.append((step, layer, "in", stat, value))
    frame = pd.DataFrame(rows, columns=["step", "layer", "tensor", "stat", "value"])
    return frame.assign(probe=probe, channel=-1)


def _histogram_measures(arm: Arm, diverged: bool) -> pd.DataFrame:
    """Return what the probes saw at the start, in the middle and at the end.

    Histograms move once, between the last two records: 80 % of their values without BN,
    nothing with it.  Gamma of three channels ends at 1.3, 1.4 and 0.5, beta at 0.1, 0.2
    and 0.2; a step of gamma is a tenth of one of the weights.  A run that diverged has
    only the first record.
    """
    rows: list[tuple[object, ...]] = []
    for step in HISTOGRAM_STEPS[: 1 if diverged else 3]:
        moved = arm.name == "none" and step == HISTOGRAM_STEPS[-1]
        for label, share in zip(BINS, LAST_SHARES if moved else FIRST_SHARES, strict=True):
            rows.append(("activations", step, "act1", "in", -1, label, share))
        if arm.name == "none":
            continue
        trained = step / HISTOGRAM_STEPS[-1]
        for channel, (gamma, beta) in enumerate(((0.3, 0.1), (0.4, 0.2), (-0.5, 0.2))):
            rows.append(("affine", step, "norm1", "gamma", channel, "value", 1 + trained * gamma))
            rows.append(("affine", step, "norm1", "beta", channel, "value", trained * beta))
        for layer, ratio in (("norm1", 0.002), ("conv1", 0.02)):
            rows.append(("activations", step, layer, "weight", -1, "update_ratio", ratio))
    columns = ["probe", "step", "layer", "tensor", "channel", "stat", "value"]
    return pd.DataFrame(rows, columns=columns)
