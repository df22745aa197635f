"""deploy/prometheus, deploy/grafana: promtool takes the rules, they fire as said; every metric named is exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hasyncd.runtime.event_names import EVENTS
from hasyncd.runtime.metric_counters import COUNTERS, DROP_REASONS
from hasyncd.runtime.metric_names import OWN, PROCESS, Family
from hasyncd.runtime.role_reasons import REASONS
from tests.deploy.make_references import DEPLOY

RULES: Final = DEPLOY / "prometheus" / "hasyncd.rules.yml"
RULE_TESTS: Final = Path(__file__).parent / "hasyncd.rules_test.yml"
DASHBOARD: Final = json.loads((DEPLOY / "grafana" / "hasyncd.json").read_text())
FAMILIES: Final = {family.name: family for family in (*OWN, *COUNTERS.values(), *PROCESS)}
NOT_OURS: Final = {"up"}


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    assert tool is not None, "promtool is missing: tests/run installs it (Debian's package prometheus)"
    return subprocess.run([tool, *words], capture_output=True, text=True, check=False, cwd=DEPLOY)


def test_promtool_takes_the_rules() -> None:
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{RULES.read_text().count('- alert:')} rules found" in checked.stdout


def test_the_alerts_fire_on_what_they_are_for_and_on_nothing_else() -> None:
    played = promtool("test", "rules", str(RULE_TESTS))
    assert played.returncode == 0, played.stdout + played.stderr


def test_a_rule_test_can_fail(tmp_path: Path) -> None:
    text = RULE_TESTS.read_text().replace("../../deploy/prometheus/", f"{RULES.parent}/")
    broken = tmp_path / "broken.yml"
    broken.write_text(text.replace('summary: "b took over"', 'summary: "a took over"'))
    assert promtool("test", "rules", str(broken)).returncode != 0


def alert_expressions() -> list[str]:
    return [
        json.loads(found) if found.startswith('"') else found
        for found in re.findall(r"^ +expr: (.+)$", RULES.read_text(), re.MULTILINE)
    ]


def dashboard_expressions() -> list[str]:
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return targets + [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]


def series_of(family: Family) -> set[str]:
    if family.kind == "histogram":
        return {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return {family.name}


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(metric, its label matchers' values) of an expression."""
    for name, labels in re.findall(r"\b(up|(?:hasyncd|process)_\w+)\b(?:\{([^}]*)\})?", expression):
        yield name, dict(re.findall(r'(\w+)=~?"([^"]*)"', labels))


@pytest.mark.parametrize("expression", [*alert_expressions(), *dashboard_expressions()])
def test_every_metric_that_is_named_is_exported_with_the_labels_that_are_asked_for(expression: str) -> None:
    exported = {series: family for family in FAMILIES.values() for series in series_of(family)}
    named = list(selectors(expression))
    assert named
    known: dict[str, set[str]] = {
        "reason": {*DROP_REASONS, *REASONS, "unauthenticated"},
        "event": set(EVENTS),
        "role": {"init", "backup", "primary", "fault"},
        "state": {"none", "syncing", "ready", "degraded", "connected", "lost", "never"},
    }
    for name, labels in named:
        if name in NOT_OURS:
            continue
        assert name in exported, name
        assert labels.keys() - {"job", "instance"} <= set(exported[name].labels), f"{name} {labels}"
        for label, text in labels.items():
            if label in known:
                assert set(text.split("|")) <= known[label], f"{name}: {label}={text}"


def test_every_alert_says_what_to_do() -> None:
    alerts = re.split(r"^ +- alert: ", RULES.read_text(), flags=re.MULTILINE)[1:]
    for alert in alerts:
        for key in ("expr", "severity", "summary", "description", "runbook"):
            assert re.search(rf"^ +{key}: .", alert, re.MULTILINE), f"{alert.split()[0]}: {key}"
        assert re.search(r"severity: (critical|warning)$", alert, re.MULTILINE)


def test_events_that_runbooks_name_exist() -> None:
    for name in re.findall(r"--type (\w+)", RULES.read_text()):
        assert name in EVENTS


def test_the_dashboards_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    identifiers: set[int] = set()
    panel: dict[str, Any]
    for panel in DASHBOARD["panels"]:
        assert panel["id"] not in identifiers
        identifiers.add(panel["id"])
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]


def test_the_readmes_example_of_a_scrape_is_taken(tmp_path: Path) -> None:
    text = (RULES.parent / "README.md").read_text()
    example = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    (tmp_path / "prometheus.yml").write_text(example)
    shutil.copy(RULES, tmp_path)
    checked = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
