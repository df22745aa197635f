"""`hasyncd status --watch`: the screen again every second, on the terminal's alternate screen, until interrupted.

A daemon that is gone is part of what is watched, and may come back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from hasyncd.cli.client import NoDaemon
from hasyncd.cli.sparkline import History
from hasyncd.cli.status_screen import Traces, screen
from hasyncd.cli.status_words import ALARM, QUIET, number, word

INTERVAL_S: Final = 1.0


class Cropped:
    """As much as the terminal has lines for; the last one says what is missing."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.max_height
        lines = console.render_lines(self._content, options.update(height=None), pad=False)
        if len(lines) > height:
            missing = len(lines) - height + 1
            told = Text(f"… {missing} more lines: a taller window, or `hasyncd status`", style=QUIET)
            lines = (
                lines[: height - 1] + console.render_lines(told, options.update(height=None), pad=False)[:1]
            )
        for place, line in enumerate(lines):
            if place:
                yield Segment.line()
            yield from line


def watch(console: Console, fetch: Callable[[], dict[str, Any]]) -> int:
    """Until SIGINT. `fetch` raises NoDaemon."""
    history, last = History(), None
    again = threading.Event()
    before = signal.signal(signal.SIGWINCH, lambda *_: again.set())
    try:
        with Live(
            Text(""), console=console, screen=True, auto_refresh=False, vertical_overflow="crop"
        ) as live:
            while True:
                trouble = None
                try:
                    last = fetch()
                    history.add(last)
                except NoDaemon as error:
                    trouble = str(error)
                    history.add(None)
                live.update(Cropped(frame(last, history, trouble)), refresh=True)
                # A resized window is drawn anew at once, from what is known.
                while again.wait(INTERVAL_S):
                    again.clear()
                    live.update(Cropped(frame(last, history, trouble)), refresh=True)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGWINCH, before)


def frame(last: dict[str, Any] | None, history: History, trouble: str | None) -> RenderableType:
    """One screen. Of a daemon that does not answer only what it was is told: nothing of it can be judged."""
    clock = Text(f"{datetime.now().astimezone():%H:%M:%S}  every second, ctrl-C ends", style=QUIET)
    if trouble is None and last is not None:
        return Group(screen(last, history), Text(""), clock)
    parts: list[RenderableType] = [Text(f"! {trouble}", style=ALARM), Text("waiting for it …"), Text("")]
    if last is not None:
        flows = (last.get("flows") or {}).get("total")
        said = f"{word(last.get('node'))} was {word(last.get('role'))} in generation {number(last.get('generation'))}"
        parts += [
            Text(f"{said}, with {number(flows)} flows", style=QUIET),
            Text(""),
            Traces(history),
            Text(""),
        ]
    return Group(*parts, clock)
