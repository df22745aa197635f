"""`python -m tests.deploy.make_references` writes deploy/metrics.md and deploy/events.md from the program's lists."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from hasyncd.runtime.event_names import EVENTS, LOG_LINES
from hasyncd.runtime.metric_counters import CACHE_MISSES, COUNTERS, DROP_REASONS
from hasyncd.runtime.metric_names import OWN, PROCESS, Family
from hasyncd.runtime.role_reasons import OTHER, REASONS

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
_MADE: Final = (
    "<!-- Made by `python -m tests.deploy.make_references`; a test keeps it in step with the program. -->"
)
_LEVELS: Final = {logging.INFO: "", logging.WARNING: "warning", logging.ERROR: "error"}


def _table(*head: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _families(families: Iterable[Family]) -> Iterator[str]:
    yield from _table(
        "metric", "kind", "labels", "meaning",
        rows=((f"`{f.name}`", f.kind, ", ".join(f"`{label}`" for label in f.labels), f.meaning) for f in families),
    )  # fmt: skip


def metrics() -> str:
    """The text of deploy/metrics.md."""
    lines = [
        _MADE,
        "",
        "# Metrics",
        "",
        "`[metrics] listen` answers `GET /metrics` in Prometheus' text format. A gauge whose value is not known, or",
        "not this role's to know, has no series. Rates are Prometheus' to make: connections per second are",
        "`rate(hasyncd_flows_created_total[1m])`. Alert rules are in [prometheus/](prometheus), a dashboard in",
        "[grafana/](grafana).",
        "",
        "## The pair, its services and the process",
        "",
        *_families(OWN),
        "## What the packet engine counts",
        "",
        "Both sides and all rules together; the search for a public port is counted by its probes, not by flow.",
        "",
        *_families(COUNTERS.values()),
        "## Why packets are dropped",
        "",
        "`hasyncd_dropped_packets_total{reason=…}`; `status --json` has the same as `drop_…`.",
        "",
        *_table("reason", "meaning", rows=((f"`{name}`", why) for name, why in DROP_REASONS.items())),
        "## Why the kernel leaves packets to the engine",
        "",
        "`hasyncd_cache_misses_total{reason=…}`; `status --json` has the same as `cache_miss_…`.",
        "",
        *_table("reason", "meaning", rows=((f"`{name}`", why) for name, why in CACHE_MISSES.items())),
        "## Why roles change",
        "",
        "`hasyncd_role_changes_total{role=…, reason=…}`; the event `role_changed` has the sentence.",
        "",
        *_table(
            "reason", "meaning",
            rows=[(f"`{word}`", meaning) for word, (_, meaning) in REASONS.items()]
            + [(f"`{OTHER}`", "None of these: the event has the sentence.")],
        ),
        "## The process",
        "",
        *_families(PROCESS),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def events() -> str:
    """The text of deploy/events.md."""
    lines = [
        _MADE,
        "",
        "# Events",
        "",
        "`hasyncd events` follows them (`--since 1h` tells the last ones first, `--type NAME` only those), the log has",
        "each as one line, and `hasyncd_events_total` counts them. An event says what has changed; what holds now is",
        "in `hasyncd status`. Where the last column is empty the log says it as information.",
        "",
        *_table(
            "event", "meaning", "level",
            rows=((f"`{name}`", each.meaning, _LEVELS[each.level]) for name, each in EVENTS.items()),
        ),
        "## Other lines of the log",
        "",
        *_table("line", "meaning", rows=((f"`{name}`", meaning) for name, meaning in LOG_LINES.items())),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


REFERENCES: Final = {"metrics.md": metrics, "events.md": events}


if __name__ == "__main__":
    for name, text in REFERENCES.items():
        (DEPLOY / name).write_text(text())
