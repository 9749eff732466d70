"""Experiments, one file each: a reader understands a question from its file alone."""

from bnstudy.plan import Experiment

from .activations import ACTIVATIONS_EXPERIMENT
from .batch_noise import BATCH_NOISE
from .batch_speed import BATCH_SPEED
from .collapse import COLLAPSE
from .convergence import CONVERGENCE
from .dropout import DROPOUT
from .final import FINAL
from .landscape import LANDSCAPE
from .noisy import NOISY
from .parts import PARTS
from .placement import PLACEMENT
from .regularization import REGULARIZATION
from .shuffle import SHUFFLE
from .small_batch import SMALL_BATCH
from .source import SOURCE
from .uncertainty import UNCERTAINTY
from .variance_shift import VARIANCE_SHIFT

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        SOURCE,
        CONVERGENCE,
        FINAL,
        REGULARIZATION,
        DROPOUT,
        NOISY,
        PLACEMENT,
        PARTS,
        ACTIVATIONS_EXPERIMENT,
        BATCH_NOISE,
        COLLAPSE,
        LANDSCAPE,
        VARIANCE_SHIFT,
        UNCERTAINTY,
        SMALL_BATCH,
        SHUFFLE,
        BATCH_SPEED,
    )
}
