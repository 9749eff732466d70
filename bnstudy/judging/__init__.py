"""From the tables of a study to verdicts on its registered claims.

:func:`judge` reads each claim's rule from the plan and takes nothing else: no
level, no margin, no choice of test.  Read on in this order: ``measures`` (what
is read of a run), ``sample`` (one number a seed), ``rules`` (the test and the
word), ``judging`` (the whole family), ``sentence``.  ``feasibility`` says before
the first run what cannot come out, ``calibration`` how often the plan errs.
"""

from bnstudy.judging.calibration import Calibration, calibrate, stored_calibration
from bnstudy.judging.feasibility import Shortfall, refuse_what_cannot_come_out, shortfalls
from bnstudy.judging.measures import (
    MEASURES,
    Reading,
    Run,
    drift,
    finished_runs,
    layer_ratio,
    measure,
    probe_at_loss,
)
from bnstudy.judging.samples import Sample, pilot_of, take_sample
from bnstudy.judging.verdict import Outcome, Row, Verdict
from bnstudy.judging.verdicts import judge

__all__ = [
    "MEASURES",
    "Calibration",
    "Outcome",
    "Reading",
    "Row",
    "Run",
    "Sample",
    "Shortfall",
    "Verdict",
    "calibrate",
    "drift",
    "finished_runs",
    "judge",
    "layer_ratio",
    "measure",
    "pilot_of",
    "probe_at_loss",
    "refuse_what_cannot_come_out",
    "shortfalls",
    "stored_calibration",
    "take_sample",
]
