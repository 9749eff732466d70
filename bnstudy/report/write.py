"""Writing of a report into its folder, which is replaced as a whole."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from bnstudy.config import canonical_json
from bnstudy.errors import ReportError
from bnstudy.judging import Calibration, finished_runs, judge
from bnstudy.plan import Plan
from bnstudy.report.build import build
from bnstudy.report.claim_values import CLAIM_VALUES, claim_values_text
from bnstudy.report.comparison import VERDICTS, filed_text
from bnstudy.report.model import Report
from bnstudy.report.render import render
from bnstudy.runs.provenance import commit_date
from bnstudy.runs.registration import stored_plan
from bnstudy.runs.store import Store
from bnstudy.runs.tables import read_tables

SIGNATURE = '<meta name="generator" content="bnstudy">'
RESERVED = ("index", "readme")


def write_report(
    plan: Plan,
    store: Store,
    folder: Path,
    *,
    provenance: Mapping[str, str] | None = None,
    calibration: Calibration | None = None,
) -> Path:
    """Write the report of a study.

    Parameters
    ----------
    plan
        The study.
    store
        Store of its runs.
    folder
        Folder of the report; an older report there is replaced, stale files included.
    provenance
        Further lines of the provenance table.
    calibration
        Calibration of this plan, from :func:`~bnstudy.judging.stored_calibration`.

    Returns
    -------
    pathlib.Path
        Of ``index.html``.

    Raises
    ------
    ReportError
        If the folder cannot be written, or holds anything but a report.
    StoreError
        If the store holds a damaged run.
    """
    tables = read_tables(store, plan)
    frozen = stored_plan(store.root) or json.loads(canonical_json(plan.canonical()))
    runs = finished_runs(plan, tables)
    verdicts = judge(plan, tables, frozen, runs=runs)
    more = {**registration(tables.runs), **(provenance or {})}
    kept = {VERDICTS: filed_text(plan, verdicts), CLAIM_VALUES: claim_values_text(verdicts)}
    report = build(plan, tables, more, verdicts, calibration, runs=runs)
    return write_files(report, folder, kept)


def registration(runs: pd.DataFrame) -> dict[str, str]:
    """Return the date of registration: the day of the first commit that trained a run.

    Claims are part of the code, and a plan is stored before its first run.  The
    result is empty if git does not know the commit.
    """
    known = runs["git.commit"].dropna() if "git.commit" in runs else pd.Series(dtype=object)
    dates = {revision: commit_date(revision) for revision in sorted(set(map(str, known)))}
    dated = sorted((date, revision) for revision, date in dates.items() if date)
    if not dated:
        return {}
    date, revision = dated[0]
    return {"Plan registered": f"{date}, by commit {revision[:12]}"}


def write_files(
    report: Report, folder: Path, more: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """Write a finished report and further files, as in :func:`write_report`."""
    for page in report.pages:
        if page.name in RESERVED:
            raise ReportError(
                f"the pages of a report need names of their own, got {page.name!r}: "
                "rename the experiment"
            )
    final = Path(folder).resolve()
    refuse_foreign(final)
    fresh, old = (final.with_name(f".{final.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    try:
        fresh.mkdir(parents=True)
        for name, content in sorted({**render(report), **more}.items()):
            path = fresh / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="\n")
        if final.exists():
            final.rename(old)
        fresh.rename(final)
    except OSError as error:
        raise ReportError(
            f"a report needs a folder that can be written, got {folder}: "
            f"{(error.strerror or str(error)).lower()}; choose another with --reports"
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if not final.exists() and old.exists():
            old.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    return Path(folder) / "index.html"


def refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but a report.

    Raises
    ------
    ReportError
        If it is not empty, and has no ``index.html`` with the signature of a report.
    """
    if not os.path.lexists(folder):
        return
    try:
        empty = folder.is_dir() and not any(folder.iterdir())
        index = folder / "index.html"
        ours = index.is_file() and SIGNATURE in index.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # the error of writing to it is more precise
    if not (empty or ours):
        raise ReportError(
            f"a report replaces its whole folder, and {folder.name!r} holds something else: "
            "move that away, or choose another folder with --reports"
        )
