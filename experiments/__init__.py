"""The experiments, one file each: a reader understands a whole question from its file alone."""

from bnstudy.study import Experiment
from experiments.activations import ACTIVATIONS_EXPERIMENT
from experiments.convergence import CONVERGENCE
from experiments.source import SOURCE

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        SOURCE,
        CONVERGENCE,
        ACTIVATIONS_EXPERIMENT,
    )
}
