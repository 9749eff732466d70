"""Reports: one model built from the plan and the store, set as HTML and as Markdown.

``evidence`` arranges what the store has, ``exhibits`` turn it into findings,
``build`` makes the :class:`~bnstudy.report.model.Report`, ``render`` sets it,
``write`` puts it into a folder.  ``text`` alone formats numbers.
"""

from bnstudy.report.build import build
from bnstudy.report.model import Report
from bnstudy.report.trace import trace_table
from bnstudy.report.write import write_report

__all__ = ["Report", "build", "trace_table", "write_report"]
