"""The report in a real headless Chromium: it renders, complains of nothing, and fits a desk and a phone.

Chromium has to be installed, and `tests/run e2e` installs it: without it these tests fail, they are not passed over.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from hasyncd.lab.page import page
from hasyncd.lab.scenarios import SCENARIOS
from tests.lab.test_page import row

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
# Runs in a frame's parent, which alone may have script; its findings go into the document that --dump-dom prints.
_MEASURE = """<!DOCTYPE html><body style="margin:0">
<iframe src="report.html" style="border:0;width:%dpx;height:900px"></iframe><pre id="found"></pre><script>
onload = () => {
  const inner = document.querySelector("iframe").contentDocument, width = %d;
  const box = element => element.getBoundingClientRect();
  const drawn = [...inner.querySelectorAll("figure > svg")];
  const outside = drawn.flatMap(svg => [...svg.querySelectorAll("text")].filter(text =>
    box(text).left < box(svg).left - 1 || box(text).right > box(svg).right + 1).map(text => text.textContent));
  document.getElementById("found").textContent = JSON.stringify({
    overflow: inner.documentElement.scrollWidth - width, drawings: drawn.length,
    empty: drawn.filter(svg => box(svg).width < 200 || box(svg).height < 50).length, outside,
    least: Math.min(...[...inner.querySelectorAll("figure > svg text")].map(text => box(text).height)),
    background: getComputedStyle(inner.body).backgroundColor });
};
</script>"""


def chromium(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("chromium")
    assert program is not None, "chromium is not installed (`tests/run e2e` installs it)"
    command = [
        program,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Every scenario, of us and of three incumbents; some of which lost flows."""
    rows = []
    for name in SCENARIOS:
        rows.append(row(name))
        for place, adverts_ms in enumerate((1000, 100, 10)):
            other = row(
                name,
                "incumbent",
                variant=f"adverts {adverts_ms} ms",
                outage_ms=3.0 * adverts_ms,
                passed=place > 1,
            )
            other["faults"][0]["promoted_ms"] = 3.0 * adverts_ms
            rows.append(other)
    path = tmp_path / "report.html"
    path.write_text(
        page(rows, {name: scenario.purpose for name, scenario in SCENARIOS.items()}, ["a machine"])
    )
    return path


def complaints(said: str) -> list[str]:
    """What the page itself caused, of all that a browser without a desktop says."""
    return [line for line in said.splitlines() if ":CONSOLE" in line]


def measure(report: Path, width: int) -> dict[str, Any]:
    outer = report.with_name("measure.html")
    outer.write_text(_MEASURE % (width, width))
    done = chromium(
        "--allow-file-access-from-files", "--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom",
        outer.as_uri(),
    )  # fmt: skip
    assert not complaints(done.stderr)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:]
    measured: dict[str, Any] = json.loads(unescape(found[1]))
    return measured


@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_a_desk_and_a_phone(report: Path, width: int) -> None:
    found = measure(report, width)
    assert found["drawings"] == len(SCENARIOS) * (4 + 2)
    assert found["empty"] == 0
    assert found["overflow"] <= 0, "the page itself never scrolls sideways"
    assert found["outside"] == [], "no words run out of their picture"
    assert found["least"] >= 11, "pixels of height of the smallest words"


def test_page_is_drawn_without_complaint(report: Path, tmp_path: Path) -> None:
    shot = tmp_path / "report.png"
    done = chromium("--window-size=1280,2000", f"--screenshot={shot}", report.as_uri())
    assert not complaints(done.stderr)
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert shot.stat().st_size > 100_000, "an empty page compresses to less"


def test_browser_would_complain_of_what_the_page_may_not_do(report: Path) -> None:
    """The other way round: script or a picture from elsewhere is refused by the page's own policy, and said."""
    text = report.read_text()
    assert _POLICY.search(text)
    report.write_text(text.replace("</body>", "<script>document.title = 'moved'</script></body>"))
    done = chromium("--virtual-time-budget=2000", "--dump-dom", report.as_uri())
    assert complaints(done.stderr)
    assert "<title>moved" not in done.stdout
