"""Watch any PyTorch model learn: statistics of activations, gradients, weights and BN.

Reading order: ``watch`` (the entry), ``recorder``, ``statistics``, ``builtin``, ``recording``;
``batchnorm`` is what is special about BN layers.  ``reading``, which takes the sums of
tensors, is private.
"""

from bnstudy.activations import plots, sinks
from bnstudy.activations.batchnorm.gaps import running_gap, split_gap, train_eval_gap
from bnstudy.activations.batchnorm.population import Population, population
from bnstudy.activations.batchnorm.results import BatchNorms
from bnstudy.activations.builtin_statistics import histogram, quantiles
from bnstudy.activations.measurer import WatchWarning
from bnstudy.activations.merge import merge
from bnstudy.activations.reading.tensor import MeasuredTensor
from bnstudy.activations.recorder import Recorder
from bnstudy.activations.recording import Recording, load
from bnstudy.activations.report_rules import RULES, Rule
from bnstudy.activations.schedule import Every
from bnstudy.activations.selection import match
from bnstudy.activations.shift import FixedBatch, gradient_shift, snapshot
from bnstudy.activations.statistics import Statistic, spaced, statistic
from bnstudy.activations.watch import watch

__all__ = [
    "RULES",
    "BatchNorms",
    "Every",
    "FixedBatch",
    "MeasuredTensor",
    "Population",
    "Recorder",
    "Recording",
    "Rule",
    "Statistic",
    "WatchWarning",
    "gradient_shift",
    "histogram",
    "load",
    "match",
    "merge",
    "plots",
    "population",
    "quantiles",
    "running_gap",
    "sinks",
    "snapshot",
    "spaced",
    "split_gap",
    "statistic",
    "train_eval_gap",
    "watch",
]
