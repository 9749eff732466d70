"""Makers of exhibits: from the evidence on an experiment to a finding on its page.

A maker is a function of the :class:`~bnstudy.report.evidence.Evidence`, the
:class:`~bnstudy.plan.Exhibit` and the anchor of the finding.  Every one of
them has an answer for runs that are missing, censored, diverged or alone.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bnstudy.errors import find
from bnstudy.plan import Exhibit
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits.accuracy import evaluation_statistics, final_accuracy
from bnstudy.report.exhibits.affine import affine_paths
from bnstudy.report.exhibits.bands import probe_bands
from bnstudy.report.exhibits.curves import learning_curves
from bnstudy.report.exhibits.factors import interaction
from bnstudy.report.exhibits.histograms import histogram_maps
from bnstudy.report.exhibits.inside import layer_lines, percentile_bands
from bnstudy.report.exhibits.levels import accuracy_by_batch, steps_by_batch
from bnstudy.report.exhibits.noise import batch_noise
from bnstudy.report.exhibits.printed import first_layer_parameters, printed_results
from bnstudy.report.exhibits.ranking import ranking
from bnstudy.report.exhibits.readings import probe_readings
from bnstudy.report.exhibits.shift import variance_shift
from bnstudy.report.exhibits.steps import learning_rates, steps_to_target
from bnstudy.report.exhibits.survival import kaplan_meier
from bnstudy.report.model import Finding

Maker = Callable[[Evidence, Exhibit, str], Finding]

MAKERS: Mapping[str, Maker] = MappingProxyType(
    {
        "learning-curves": learning_curves,
        "steps-to-target": steps_to_target,
        "learning-rates": learning_rates,
        "printed-results": printed_results,
        "first-layer-parameters": first_layer_parameters,
        "evaluation-statistics": evaluation_statistics,
        "final-accuracy": final_accuracy,
        "percentile-bands": percentile_bands,
        "layer-lines": layer_lines,
        "histogram-maps": histogram_maps,
        "affine-paths": affine_paths,
        "probe-bands": probe_bands,
        "kaplan-meier": kaplan_meier,
        "interaction": interaction,
        "batch-noise": batch_noise,
        "variance-shift": variance_shift,
        "accuracy-by-batch": accuracy_by_batch,
        "steps-by-batch": steps_by_batch,
        "ranking": ranking,
        "probe-readings": probe_readings,
    }
)


def make(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Make an exhibit.

    Raises
    ------
    ConfigError
        If there is no maker of its kind, or it names an arm that does not exist.
    """
    return find("exhibit", exhibit.kind, MAKERS)(evidence, exhibit, anchor)
