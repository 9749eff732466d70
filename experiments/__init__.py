"""The experiments, one file each: a reader understands a whole question from its file alone."""

from bnstudy.study import Experiment
from experiments.activations import ACTIVATIONS_EXPERIMENT
from experiments.convergence import CONVERGENCE
from experiments.dropout import DROPOUT
from experiments.final import FINAL
from experiments.noisy import NOISY
from experiments.placement import PLACEMENT
from experiments.regularization import REGULARIZATION
from experiments.source import SOURCE

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
        ACTIVATIONS_EXPERIMENT,
    )
}
