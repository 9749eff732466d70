"""Watch any PyTorch model learn: statistics of activations, gradients, weights and BN.

Reading order: ``watching`` (the front door), ``recorder``, ``statistics``,
``builtin``, ``recording``, ``bn``.
"""

from bnstudy.activations import plots, sinks
from bnstudy.activations.bn import BatchNorms
from bnstudy.activations.builtin import histogram, quantiles
from bnstudy.activations.gaps import running_gap, split_gap, train_eval_gap
from bnstudy.activations.merging import merge
from bnstudy.activations.meter import WatchWarning
from bnstudy.activations.population import Population, population
from bnstudy.activations.recorder import Recorder
from bnstudy.activations.recording import Recording, load
from bnstudy.activations.rules import RULES, Rule
from bnstudy.activations.schedule import Every
from bnstudy.activations.selection import match
from bnstudy.activations.shift import Probe, gradient_shift, snapshot
from bnstudy.activations.statistics import Statistic, spaced, statistic
from bnstudy.activations.view import View
from bnstudy.activations.watching import watch

__all__ = [
    "RULES",
    "BatchNorms",
    "Every",
    "Population",
    "Probe",
    "Recorder",
    "Recording",
    "Rule",
    "Statistic",
    "View",
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
