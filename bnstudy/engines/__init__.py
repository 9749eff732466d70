"""Training of runs: two engines behind one function, observers, and probes.

Reading order: ``reference`` (the plain loop), ``record`` (what is kept of a
run), ``observer``, ``probes``, ``lockstep`` (many seeds at once), ``training``
(the function that chooses between them).
"""

from bnstudy.engines.observer import Observer, ScheduledObserver, Training
from bnstudy.engines.run_record import Record
from bnstudy.engines.training import train

__all__ = ["Observer", "Record", "ScheduledObserver", "Training", "train"]
