"""Makers of exhibits: from the evidence on an experiment to a finding on its page.

A maker is a function of the :class:`~bnstudy.report.evidence.Evidence`, the
:class:`~bnstudy.study.Exhibit` and the anchor of the finding.  Every one of
them has an answer for runs that are missing, censored, diverged or alone.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits.accuracy import evaluation_statistics, final_accuracy
from bnstudy.report.exhibits.curves import learning_curves
from bnstudy.report.exhibits.inside import layer_lines, percentile_bands
from bnstudy.report.exhibits.printed import first_layer_parameters, printed_results
from bnstudy.report.exhibits.steps import learning_rates, steps_to_target
from bnstudy.report.model import Finding
from bnstudy.study import Exhibit, known

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
    }
)


def make(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Make an exhibit.

    Raises
    ------
    ConfigError
        If there is no maker of its kind, or it names an arm that does not exist.
    """
    return known("exhibit", exhibit.kind, MAKERS)(evidence, exhibit, anchor)
