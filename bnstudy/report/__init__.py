"""Reports: one model built from the plan and the store, rendered as HTML and as Markdown.

``evidence`` arranges the tables of the store, ``exhibits`` turn them into
findings, ``sentences``, ``claim_tables`` and ``claim_charts`` turn verdicts into
judgements, ``build`` makes the :class:`~bnstudy.report.model.Report`, ``render``
renders it and ``write`` puts it into a folder.  ``text`` alone formats numbers.
"""
