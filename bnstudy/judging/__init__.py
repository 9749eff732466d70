"""From the tables of a study to verdicts on its registered claims.

:func:`judge` follows the rule that each claim registered in the plan, and takes
no option: no level, no margin, no choice of test.  Read the modules in this
order: ``measures`` (a number read from one run), ``samples`` (one number per
seed), ``premises`` (whether the comparison means anything), ``verdict_rules`` (the test
and the verdict word), ``verdicts`` (all claims of a study together).  ``planning`` says
before the first run which claims the seeds cannot decide, and how often the plan errs.
"""

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
from bnstudy.judging.planning import (
    Calibration,
    FamilyError,
    Shortfall,
    calibrate,
    require_decidable,
    shortfalls,
    store_calibration,
    stored_calibration,
)
from bnstudy.judging.premises import TestedPremise, check_premise
from bnstudy.judging.samples import ArmReading, Sample, pilot_of, take_sample
from bnstudy.judging.verdict_rules import Outcome, claimed_range
from bnstudy.judging.verdicts import Analysis, Verdict, judge

__all__ = [
    "MEASURES",
    "Analysis",
    "ArmReading",
    "Calibration",
    "FamilyError",
    "Outcome",
    "Reading",
    "Run",
    "Sample",
    "Shortfall",
    "TestedPremise",
    "Verdict",
    "calibrate",
    "check_premise",
    "claimed_range",
    "drift",
    "finished_runs",
    "judge",
    "layer_ratio",
    "measure",
    "pilot_of",
    "probe_at_loss",
    "require_decidable",
    "shortfalls",
    "store_calibration",
    "stored_calibration",
    "take_sample",
]
