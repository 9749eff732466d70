"""Watch any PyTorch model learn: statistics of activations, gradients, weights and BN."""

from bnstudy.activations import builtin as _builtin  # declares the statistics by name
from bnstudy.activations.builtin import histogram, quantiles
from bnstudy.activations.meter import WatchWarning
from bnstudy.activations.recorder import Recorder
from bnstudy.activations.recording import Recording, load
from bnstudy.activations.schedule import Every
from bnstudy.activations.selection import match
from bnstudy.activations.statistics import Statistic, statistic
from bnstudy.activations.watching import watch
