"""`hasyncd status`: one screen that answers "what would be lost if this node died now?"."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hasyncd.cli.client import NoDaemon, add_target_arguments, ask, target_socket

if TYPE_CHECKING:
    from rich.console import Console

WATCH_INTERVAL_S: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object (with --watch: one a line)")
    parser.add_argument("--watch", action="store_true", help="again every second, until interrupted")
    parser.add_argument(
        "--check", action="store_true", help="exit 1 unless the pair could survive a death now"
    )


def run(args: argparse.Namespace) -> int:
    path = target_socket(args)
    if args.watch:
        return _watch(path, args.json)
    status = _fetch(path)
    if args.json:
        print(json.dumps(status, indent=2))
    else:
        _print(status)
    if not args.check:
        return 0
    reasons = complaints(status)
    for reason in reasons:
        print(f"not healthy: {reason}", file=sys.stderr)
    return 1 if reasons else 0


def complaints(status: dict[str, Any]) -> list[str]:
    """Why a death now would cost flows or service; empty when the pair is whole."""
    role, peer, sync = status.get("role"), status.get("peer") or {}, status.get("sync") or {}
    reasons = []
    if role not in ("primary", "backup"):
        reasons.append(f"the role is {role}")
    if peer.get("state") != "connected":
        reasons.append(f"the peer is {peer.get('state')}")
    if sync.get("state") != "ready":
        why = f" ({sync['reason']})" if sync.get("reason") else ""
        reasons.append(f"the sync state is {sync.get('state')}{why}")
    reasons += [
        f"the track {track.get('name')} fails ({track.get('reason')})"
        for track in status.get("tracks") or []
        if track.get("state") == "failed"
    ]
    if sync.get("digest_match") is False:
        reasons.append("the two tables differ")
    return reasons


def _fetch(path: Path) -> dict[str, Any]:
    items, code, message = ask(path, "status")
    if code != 0 or len(items) != 1:
        raise NoDaemon(f"the daemon at {path} has no status: {message or 'an empty answer'}")
    return items[0]


def _console() -> Console:
    from rich.console import Console

    # Piped output has no width of its own: wide enough that nothing wraps. With NO_COLOR it is plain, on terminals too.
    return Console(
        width=None if sys.stdout.isatty() else 120,
        highlight=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def _print(status: dict[str, Any]) -> None:
    from hasyncd.cli.status_screen import screen

    _console().print(screen(status))


def _watch(path: Path, as_json: bool) -> int:
    if as_json or not sys.stdout.isatty():
        return _watch_lines(path, as_json)
    from hasyncd.cli.status_watch import watch

    return watch(_console(), lambda: _fetch(path))


def _watch_lines(path: Path, as_json: bool) -> int:
    """Until interrupted. A daemon that is gone is part of what is watched, and may come back."""
    try:
        while True:
            try:
                status = _fetch(path)
            except NoDaemon as error:
                print(error, file=sys.stderr, flush=True)
            else:
                if as_json:
                    print(json.dumps(status), flush=True)
                else:
                    _print(status)
                    print(flush=True)
            time.sleep(WATCH_INTERVAL_S)
    except KeyboardInterrupt:
        return 0
