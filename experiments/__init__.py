"""The experiments, one file each: a reader understands a whole question from its file alone."""

from bnstudy.plan.plan import Experiment
from experiments.activations import ACTIVATIONS_EXPERIMENT
from experiments.batch_noise import BATCH_NOISE
from experiments.batch_speed import BATCH_SPEED
from experiments.collapse import COLLAPSE
from experiments.convergence import CONVERGENCE
from experiments.dropout import DROPOUT
from experiments.final import FINAL
from experiments.landscape import LANDSCAPE
from experiments.noisy import NOISY
from experiments.parts import PARTS
from experiments.placement import PLACEMENT
from experiments.regularization import REGULARIZATION
from experiments.shuffle import SHUFFLE
from experiments.small_batch import SMALL_BATCH
from experiments.source import SOURCE
from experiments.uncertainty import UNCERTAINTY
from experiments.variance_shift import VARIANCE_SHIFT

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
