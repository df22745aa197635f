"""`hasyncd ring`: who has which share of a service, and what a planned change would move."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from hasyncd.cli.client import add_target_arguments, ask, target_socket


def _weight(text: str) -> tuple[int, int]:
    server, separator, weight = text.partition("=")
    if not separator:
        weight = "1"
    if not server.isdigit() or not weight.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no ID or ID=WEIGHT")
    return int(server), int(weight)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="its name; without one: all")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, a line a service")
    change = parser.add_argument_group("a planned change", "is not made: what it would move is counted")
    change.add_argument("--add", type=_weight, action="append", default=[], metavar="ID[=WEIGHT]")
    change.add_argument("--remove", type=int, action="append", default=[], metavar="ID")
    change.add_argument("--weight", type=_weight, action="append", default=[], metavar="ID=WEIGHT")


def run(args: argparse.Namespace) -> int:
    answers, code, message = ask(
        target_socket(args),
        "ring",
        service=args.service,
        add=dict(args.add),
        remove=args.remove,
        weight=dict(args.weight),
    )
    console = Console()
    for answer in answers:
        if args.json:
            print(json.dumps(answer))
        else:
            show(console, answer)
    if message:
        print(message, file=sys.stderr)
    return code


def show(console: Console, answer: dict[str, Any]) -> None:
    """One service as a person reads it."""
    change = answer["change"]
    table = Table(title=headline(answer), title_justify="left", title_style="bold")
    for column in ("backend", "weight", "share", *(("then", "") if change else ()), "flows"):
        table.add_column(column, justify="right" if column != "" else "left")
    for row in answer["backends"]:
        weight, then = _known(row["weight"]), []
        if change:
            then = [_percent(row["share_then"]), _move(row["share"], row["share_then"])]
            if row["weight"] != row["weight_then"]:
                weight += f" → {_known(row['weight_then'])}"
        table.add_row(str(row["id"]), weight, _percent(row["share"]), *then, f"{row['flows']:,}")
    console.print(table)
    for line in sentences(answer):
        console.print(line)


def headline(answer: dict[str, Any]) -> str:
    """Which service, by what, how even."""
    even = answer["max_to_fair"]
    fair = "" if even is None else f", largest share {even:.3f} x its fair one"
    return f"{answer['service']}: {answer['algorithm']}, generation {answer['ring_generation']}{fair}"


def sentences(answer: dict[str, Any]) -> list[str]:
    """What the change would do, in words."""
    change = answer["change"]
    if change is None:
        return []
    lines = []
    if change["keys_moved"] is None:
        lines.append("No key belongs to a backend here: flows are given out in turn.")
    else:
        even = change["max_to_fair"]
        then = "nobody is left" if even is None else f"the largest share is {even:.3f} x its fair one"
        lines.append(f"{change['keys_moved']:.2%} of all keys would move; afterwards {then}.")
        lines.append(
            f"Of {change['flows']:,} live flows none moves while its backend is there; the new table would have put "
            f"{change['flows_elsewhere']:,} elsewhere."
        )
    if change["flows_of_removed"]:
        lines.append(f"{change['flows_of_removed']:,} live flows are on backends that would be removed.")
    return lines


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _known(weight: int | None) -> str:
    return "–" if weight is None else str(weight)


def _move(before: float, after: float) -> str:
    return f"{after - before:+.2%}" if abs(after - before) >= 0.00005 else ""
