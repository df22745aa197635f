"""The report: one file, nothing outside of it, everything said, nothing believed."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hasyncd.lab.page import page, read_rows
from hasyncd.lab.page.rows import gather
from hasyncd.lab.page.svg import Frame, duration, log_ticks, nice, ticks
from hasyncd.lab.scenarios import SCENARIOS

_VOID = {"meta"}


def row(scenario: str = "kill-primary", system: str = "hasyncd", **changes: Any) -> dict[str, Any]:
    """A result as `--json` writes it, of a second of traffic around a fault."""
    steps = 400
    made: dict[str, Any] = {
        "scenario": scenario,
        "passed": True,
        "seed": 7,
        "system": system,
        "variant": None,
        "flows": {
            "tcp": {"opened": 100, "survived": 100, "reset": 0, "stalled": 0, "remapped": 0},
            "udp": {"opened": 50, "survived": 50, "stalled": 0, "remapped": 0, "lost_datagrams": 3},
        },
        "gap_ms": {"p50": 155.0, "p99": 300.0, "max": 1020.0},
        "outage_ms": 21.5,
        "faults": [{"node": "gw-a", "at_ms": 0.0, "deed": "was killed", "promoted_ms": 12.5}],
        "silence_percentiles_ms": " ".join(str(100 + share) for share in range(101)),
        "timeline": {
            "step_ms": 10.0,
            "begin_ms": -2000.0,
            "open": " ".join(["150"] * steps),
            "silent": " ".join(["0"] * 206 + ["40"] * 10 + ["0"] * (steps - 216)),
            "remapped": " ".join(["0"] * steps),
            "dead": " ".join(["0"] * steps),
            "tcp_answers": " ".join(["7"] * steps),
            "udp_answers": " ".join(["9"] * steps),
        },
        "notes": [],
    }
    return made | changes


class _Tags(HTMLParser):
    """Raises AssertionError where a tag is not closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def tags(document: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(document)
    parser.close()
    assert parser.open == []
    return parser.seen


def drawings(document: str) -> list[ElementTree.Element]:
    """Every picture, parsed as XML: a stricter reader than a browser."""
    return [
        ElementTree.fromstring(found) for found in re.findall(r"<svg viewBox=.*?</svg>", document, re.DOTALL)
    ]


def words(element: ElementTree.Element) -> str:
    return " ".join(element.itertext())


def test_every_scenario_has_its_verdict_its_figures_and_its_pictures() -> None:
    document = page([row(name) for name in SCENARIOS], dict.fromkeys(SCENARIOS, "does a thing"))
    seen = tags(document)
    sections = [attributes.get("id") for tag, attributes in seen if tag == "section"]
    assert sections == [*(f"scenario-{name}" for name in SCENARIOS), None]
    assert document.count("✓ passed") >= len(SCENARIOS)
    for section in document.split("<section id=")[1:]:
        shown = [words(one) for one in drawings(section)]
        assert any("gw-a was killed, promotion after 12 ms" in text for text in shown)
        assert any("packets answered a second" in text for text in shown)
        assert "22 ms" in section
    assert f"{len(SCENARIOS)} of {len(SCENARIOS)} passed" in document


def test_page_needs_nothing_but_itself() -> None:
    document = page([row(), row(system="incumbent", variant="adverts 100 ms")])
    for tag, attributes in tags(document):
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base"}
        for name in ("src", "data", "action", "srcset"):
            assert name not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert "//" not in document.replace("<!DOCTYPE html>", "")
    assert set(re.findall(r"url\((.)", document)) == {"#"}
    assert "default-src 'none'" in document


def test_nothing_that_a_result_says_becomes_markup() -> None:
    bite = "<script>alert('x')</script>\"'&"
    hostile = row(bite, bite, variant=bite, notes=[bite], faults=[
        {"node": bite, "at_ms": 0, "deed": bite, "promoted_ms": 1}
    ])  # fmt: skip
    document = page([hostile], {bite: bite}, [bite])
    assert "script" not in {tag for tag, _ in tags(document)}
    assert "<script" not in document
    assert document.count("&lt;script&gt;") > 5
    drawings(document)


def test_incumbent_stands_beside_with_what_it_lost() -> None:
    lost = row(system="incumbent", variant="adverts 1000 ms", passed=False, outage_ms=3021.0)
    lost["flows"]["udp"] |= {"survived": 11, "remapped": 39}
    document = page([lost, row()])
    assert "39 remapped" in document
    assert "3.02 s" in document
    table = document.split("<tbody>")[1]
    assert table.index("hasyncd</td>") < table.index("adverts 1000 ms</td>"), "ours stand first"
    assert "hasyncd drill: 1 of 1 passed" in document, "the title judges us, not the incumbent"
    assert "✗ failed" in document


def test_runs_of_one_kind_are_taken_together() -> None:
    runs = [row(seed=seed, outage_ms=float(seed)) for seed in (30, 10, 20)]
    [candidate] = gather(runs)["kill-primary"]
    assert (candidate.outage_ms, candidate.shown.seed, candidate.opened) == (20.0, 20, 450)
    document = page(runs)
    assert "the median of 3 runs, seed 20" in document
    dots = [element for one in drawings(document) for element in one.iter() if element.tag == "circle"]
    assert len(dots) == 3


def test_silence_of_one_step_is_drawn_however_long_the_axis() -> None:
    late = row(faults=[
        {"node": "gw-a", "at_ms": 0.0, "deed": "was killed", "promoted_ms": 12.5},
        {"node": "gw-b", "at_ms": 19_000.0, "deed": "was killed", "promoted_ms": 12.5},
    ])  # fmt: skip
    late["timeline"] |= {
        "open": " ".join(["150"] * 2_400),
        "silent": " ".join(["0"] * 206 + ["40"] + ["0"] * (2_400 - 207)),
    }
    assert "state silent" in page([late])


def test_flow_that_stays_lost_does_not_stretch_the_axis() -> None:
    lost = row()
    lost["timeline"]["silent"] = " ".join(["0"] * 206 + ["40"] * 10 + ["2"] * 184)
    [candidate] = gather([lost])["kill-primary"]
    assert candidate.shown.calm_ms == 160


RING = {
    "service": "web",
    "what": "backend 22 was <drained>",
    "before": [{"id": 21, "share": 0.5, "flows": 10}, {"id": 22, "share": 0.5, "flows": 30}],
    "after": [
        {"id": 21, "share": 0.75, "flows": 12},
        {"id": 22, "share": 0, "flows": 30},
        {"id": 33, "share": 0.25, "flows": 3},
    ],
}


def test_a_change_of_backends_is_drawn_before_and_after() -> None:
    (picture,) = [one for one in drawings(page([row(rings=[RING])])) if "33" in words(one).split()]
    said = words(picture)
    for figure in ("50.0% → 75.0%", "50.0% → 0.0%", "– → 25.0%", "10 → 12", "30", "– → 3"):
        assert figure in said
    bars = [float(bar.attrib["width"]) for bar in picture.iter() if "bar is" in bar.attrib.get("class", "")]
    assert len(bars) == 6
    assert bars[0] / bars[2] == pytest.approx(3, rel=0.01), "three quarters beside one"
    assert bars[4] == max(bars[3:])
    assert bars[1] < 1, "a share of nothing is a stroke"
    hollow = [bar for bar in picture.iter() if "bar was" in bar.attrib.get("class", "")]
    assert len(hollow) == 4, "who was not there before has no bar of before"
    label = picture.attrib["aria-label"]
    assert label == "web: backend 22 was <drained>; backends before and after"


@pytest.mark.parametrize(
    "change", [{"before": 7}, {"after": [{"id": 1}]}, {"before": [{"id": 1, "share": "x", "flows": 0}]}]
)
def test_a_change_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        gather([row(rings=[RING | change])])


def test_drill_that_got_nowhere_has_its_reason_and_no_picture() -> None:
    nowhere = row(
        passed=False, gap_ms={"p50": None, "p99": None, "max": None}, outage_ms=None, faults=[],
        silence_percentiles_ms="", timeline=None, notes=["the lab itself broke"],
    )  # fmt: skip
    for one in nowhere["flows"].values():
        one |= {"opened": 0, "survived": 0}
    document = page([nowhere])
    assert "the lab itself broke" in document
    assert "No series over time: hasyncd." in document
    assert not drawings(document.split("class='charts'")[1].split("</section>")[0])
    tags(document)


def test_transfer_is_drawn_in_megabytes() -> None:
    transfer = row("bulk", outage_ms=None)
    transfer["timeline"] = {"step_ms": 50.0, "begin_ms": -500.0, "megabytes_a_second": " ".join(["300"] * 60)}
    assert any("megabytes a second" in words(one) for one in drawings(page([transfer])))


def test_results_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = row()
    for later in ("variant", "faults", "silence_percentiles_ms", "timeline", "outage_ms"):
        del old[later]
    kept = tmp_path / "old.json"
    kept.write_text(json.dumps([old]))
    tags(page(read_rows(kept)))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not JSON"),
        ("{}", "no list of results"),
        ("[3]", "result 1 is none of a drill"),
        ('[{"scenario": "x"}]', "result 1 is none of a drill"),
        (json.dumps([row(), row(outage_ms="soon")]), "result 2 is none of a drill"),
        (json.dumps([row(timeline={"open": "1 2 x"})]), "result 1 is none of a drill"),
        (json.dumps([row(timeline={"open": "1 " * 30_000})]), "a series of 30000 values"),
        (json.dumps([row(timeline={"step_ms": 1e999})]), "result 1 is none of a drill"),
    ],
)
def test_what_is_no_result_is_refused(content: str, complaint: str, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text(content)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        read_rows(given)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        read_rows(tmp_path / "absent.json")


def test_axes_have_round_numbers() -> None:
    assert [nice(value) for value in (0, 0.3, 1, 1.2, 730, 2_500)] == [1, 0.5, 1, 2, 1_000, 2_500]
    assert ticks(-120, 1000, 6) == [0, 200, 400, 600, 800, 1000]
    assert log_ticks(10, 1000) == [10, 20, 50, 100, 200, 500, 1000]
    assert log_ticks(1, 10_000) == [1, 10, 100, 1000, 10_000]
    assert [duration(value) for value in (0.44, 9.96, 59.4, 3021, 12345)] == [
        "0.4 ms", "10 ms", "59 ms", "3.02 s", "12.3 s",
    ]  # fmt: skip


def test_what_lies_outside_of_a_frame_is_drawn_on_its_edge() -> None:
    frame = Frame(0, 0, 100, 50, 10, 1000, 1, log=True)
    assert [frame.x(value) for value in (1, 10, 100, 5_000)] == [0, 0, 50, 100]
    assert [frame.y(value) for value in (-1, 0, 2)] == [50, 50, 0]
