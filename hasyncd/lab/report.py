"""What a person sees of a drill: progress on stderr, a small table and one plain sentence on stdout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from hasyncd.lab.drill import Result
from hasyncd.lab.judge import ESTABLISHED, HALF_CLOSED, HANDSHAKE, LATER, Verdict

_NAMED_MAX = 3
_TABLE_WIDTH = 110


class ConsoleProgress:
    """A progress bar where stderr is a terminal, one line an act where it is not."""

    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True)
        self._title = title
        self._act: str | None = None
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> ConsoleProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, what: str, done: float = 0, total: float | None = None) -> None:
        """Shows an act; the same `what` again moves its bar."""
        if what != self._act:
            self._act = what
            if not self._console.is_terminal:
                self._console.print(f"{self._title}: {what}", highlight=False, soft_wrap=True)
            self._bar.reset(self._task, total=total, description=f"{self._title}: {what}")
        self._bar.update(self._task, completed=int(done), total=None if total is None else int(total))


class Silent:
    """Progress for tests."""

    def step(self, what: str, done: float = 0, total: float | None = None) -> None:
        """Shows nothing."""


def show(result: Result) -> None:
    """The table and the sentence, on stdout."""
    console = Console(highlight=False)
    system = "" if result.system == "hasyncd" else f", {result.system} ({result.variant})"
    table = Table(title=f"{result.scenario.name}{system}, seed {result.options.seed}", title_justify="left")
    table.add_column("flows")
    for column in ("opened", *(verdict.value for verdict in Verdict), "lost datagrams"):
        table.add_column(column, justify="right")
    for name, tally in (("tcp", result.judgement.tcp), ("udp", result.judgement.udp)):
        if tally.opened:
            cells = [tally.opened, *(tally.verdicts[verdict] for verdict in Verdict)]
            lost = str(tally.lost_datagrams) if name == "udp" else ""
            table.add_row(name, *(str(cell) for cell in cells), lost)
    if table.row_count:
        console.print(table)
    if result.judgement.paths:
        console.print(f"  {_ways(result)}", markup=False)
    if result.judgement.states:
        console.print(f"  {_states(result)}", markup=False)
    for name, count in sorted(result.judgement.losses.items(), key=lambda item: -item[1]):
        console.print(f"  {count:6}  {name}", markup=False)
    for row in result.judgement.table:
        console.print(f"  {row}", markup=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    for failure in result.failures:
        console.print(f"  {failure}", markup=False, soft_wrap=True)
    console.print(sentence(result), markup=False, soft_wrap=True)


def show_all(results: Sequence[Result]) -> None:
    """What several drills showed, a row each, on stdout; whole even where the terminal is narrower."""
    console = Console(highlight=False)
    failed = [result for result in results if not result.passed]
    table = Table(title=f"{len(results) - len(failed)} of {len(results)} drills passed", title_justify="left")
    for name in ("scenario", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("flows", "lost", "silence p50", "p99", "max ms", "promoted ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        row = result.to_json()
        opened = result.judgement.tcp.opened + result.judgement.udp.opened
        times = [row["gap_ms"]["p50"], row["gap_ms"]["p99"], row["gap_ms"]["max"], row["promoted_ms"]]
        name = result.scenario.name + ("" if result.system == "hasyncd" else f" ({result.variant})")
        cells = ["–" if value is None else f"{value:,.0f}" for value in times]
        lost = f"{result.judgement.lost:,}" + (" excused" if result.passed and result.judgement.lost else "")
        table.add_row(name, "passed" if result.passed else "FAILED", f"{opened:,}", lost, *cells)
    console.width = max(console.width, _TABLE_WIDTH)
    console.print(table)
    for result in failed:
        console.print(f"{result.scenario.name}: {sentence(result)}", markup=False, soft_wrap=True)


def sentence(result: Result) -> str:
    """The verdict in one plain sentence."""
    judgement = result.judgement
    opened = judgement.tcp.opened + judgement.udp.opened
    what = _what_happened(result)
    if result.passed and judgement.lost:
        return f"PASSED: {what}, {judgement.lost:,} of {opened:,} flows were lost, as announced{_silence(result)}."
    if result.passed:
        return f"PASSED: {what}, all {opened:,} flows survived and none was remapped{_silence(result)}."
    reasons = [failure.splitlines()[0].rstrip(".") for failure in result.failures]
    if judgement.lost > judgement.excused:
        besides = f"; besides, {reasons[0]}" if reasons else ""
        return f"FAILED: {what}, {judgement.lost:,} of {opened:,} flows were lost{_silence(result)}{besides}."
    return f"FAILED: {'; '.join(reasons) or 'the drill did not get so far'}."


def _what_happened(result: Result) -> str:
    deeds = [(fault.node, fault.deed or result.scenario.deed) for fault in result.faults]
    if len(deeds) > _NAMED_MAX and len({deed for _, deed in deeds}) > 1:
        return f"{len(deeds)} faults were made"
    if len(deeds) > _NAMED_MAX:
        words = Counter(word for _, word in deeds)
        return ", ".join(
            f"{count} times a node {word}" if count > 1 else f"a node {word}" for word, count in words.items()
        )
    return " and ".join(f"{node} {deed}" for node, deed in deeds) or "nothing happened"


def _ways(result: Result) -> str:
    """How many flows went which way."""
    names = {"lb": "balanced", "nat": "translated", "lb6": "balanced over IPv6", "pass": "passed over IPv6"}
    paths = result.judgement.paths
    return ", ".join(f"{paths[path].opened:,} {name}" for path, name in names.items() if path in paths)


def _states(result: Result) -> str:
    """In which states the fault met the connections."""
    states = result.judgement.states
    names = (ESTABLISHED, HANDSHAKE, *HALF_CLOSED, LATER)
    return "TCP: " + ", ".join(f"{states[name].opened:,} {name}" for name in names if name in states)


def _silence(result: Result) -> str:
    figures = result.to_json()["gap_ms"]
    if figures["p50"] is None:
        return ""
    return f"; a flow's longest silence was {figures['p50']:.0f} ms (median), {figures['max']:.0f} ms (worst)"
