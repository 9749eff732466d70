"""Pages in a real browser: axe-core finds nothing wrong with them, in light and in dark."""

import html
import json
import re
import shutil
import subprocess
from importlib.resources import files as resources
from pathlib import Path

import pytest

from bnstudy.config import canonical_json
from bnstudy.judging import judge
from bnstudy.report.build import build
from bnstudy.report.render import render
from tests.synthetic import examples, studies

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
OFFLINE = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUN = """
axe.run(document, {resultTypes: ["violations"]}).then(found => {
  const rows = found.violations.flatMap(rule => rule.nodes.map(
    node => `${rule.id}: ${node.html.slice(0, 200)} ${node.failureSummary}`));
  const out = document.createElement("pre");
  out.id = "axe";
  out.textContent = JSON.stringify({rules: found.passes.length, rows});
  document.body.append(out);
});
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


def violations(page: str, scheme: str, folder: Path) -> list[str]:
    """Return what axe-core has against a page, a line for each element."""
    axe = (resources("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    scripts = f"<script>{axe}</script><script>{RUN}</script></body>"
    target = folder / "page.html"
    target.write_text(page.replace("</body>", scripts), encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            *OFFLINE,
            f"--user-data-dir={folder / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
            "--window-size=1280,2000",
            "--virtual-time-budget=60000",
            "--dump-dom",
            target.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (found,) = re.findall(r'<pre id="axe">(.*?)</pre>', done.stdout, re.S)
    result = json.loads(html.unescape(found))
    assert result["rules"] + len(result["rows"]) >= 5  # it did look
    return result["rows"]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Pages with every part: hostile words, figures, verdicts with rules and robustness rows."""
    plan = studies.plan(
        examples.source(title=examples.HOSTILE),
        examples.convergence(bn=examples.HOSTILE),
        sample=True,
    )
    made = render(build(plan, studies.tables(plan)))
    judged = studies.claims_plan(examples.claim(), examples.accuracy_claim())
    tables = studies.tables(judged)
    verdicts = judge(judged, tables, json.loads(canonical_json(judged.canonical())))
    more = render(build(judged, tables, None, verdicts))
    seen = studies.plan(examples.histograms())
    inside = render(build(seen, studies.tables(seen)))
    both = {
        **made,
        **{f"judged-{name}": content for name, content in more.items()},
        **{f"watched-{name}": content for name, content in inside.items()},
    }
    return {name: content for name, content in both.items() if name.endswith(".html")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_any_page(scheme, pages, tmp_path):
    for name, page in pages.items():
        assert violations(page, scheme, tmp_path) == [], name


def test_axe_finds_what_is_wrong(tmp_path):
    page = (
        '<!doctype html><html><head><title>t</title></head><body style="background:#fff">'
        '<img src="x.png"><p style="color:#bbb">pale</p></body></html>'
    )
    rules = {row.split(":")[0] for row in violations(page, "light", tmp_path)}
    assert {"html-has-lang", "image-alt", "color-contrast"} <= rules
