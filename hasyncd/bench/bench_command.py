"""`hasyncd bench`: which rows, their table and their file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hasyncd.bench import balance, commit, connect, forward, nat, sync, table, takeover
from hasyncd.bench.row import Row
from hasyncd.lab.lock import LabLock
from hasyncd.lab.namespaces import LabError

NAMES = {
    "forward.udp64": "64-byte UDP through NAT, packets a second",
    "forward.tcp1": "one TCP stream through NAT",
    "forward.tcp4": "four TCP streams through NAT",
    "forward.latency": "UDP round trips through NAT",
    "forward.flooded": "one TCP stream through NAT while SYNs flood the gateway",
    "connect.nat": "new TCP connections through NAT",
    "connect.lb": "new TCP connections through the balancer",
    "nat.full99": "a public port where most are taken, and whether there is one",
    "table.lookup": "searches in the flow table, beside a bare hash table",
    "table.insert": "flows into the table and out of it",
    "table.bytes_per_flow": "memory of a full engine",
    "balance.maglev_lookup": "the backend of a key, by a Maglev table",
    "balance.maglev_build": "such a table, built",
    "balance.ring_lookup": "the same by a ring of 160 vnodes a backend",
    "balance.ring_build": "such a ring, built",
    "balance.ecmp_lookup": "the same by 65,536 rendezvous buckets",
    "balance.ecmp_build": "such buckets, built",
    "balance.evenness": "the largest share beside the mean one",
    "balance.moved": "keys that move when one of equal backends leaves",
    "balance.changes": "what packets wait for while a hundred backends change one by one",
    "sync.replicate": "new flows to the peer's table, prepared and live, beside conntrackd",
    "sync.overhead": "what sync costs the gateway: packets and connections a second",
    "sync.wire_add": "bytes of an ADD on the link, all headers and TLS included",
    "sync.wire_update": "bytes of an UPDATE and of a DEL",
    "sync.full": "a whole table to an empty backup, and live deltas meanwhile",
    "sync.drift": "corrupted memory of the backup: found and repaired",
    "takeover.kill": "how long traffic waits for the survivor, beside keepalived + conntrackd and a full table",
    "takeover.switchover": "the same for a planned move",
    "commit.ack_delay": "what the first packet of a flow waits under emit and ack",
}
_SUITES: dict[str, Callable[[set[str], Callable[[str], None]], list[Row]]] = {
    "nat": nat.measure,
    "table": table.measure,
    "balance": balance.measure,
    "sync": sync.measure,
    "commit": commit.measure,
}
_OF_ENGINES = ("forward", "connect")
"""Those that are told which engine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """DESIGN §7's flags."""
    parser.add_argument("names", nargs="*", metavar="NAME-PREFIX", help="rows whose name begins so (all)")
    parser.add_argument("--list", action="store_true", help="name the rows and what each measures")
    parser.add_argument("--engine", default="packet", help="packet, or tc: forward and connect alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument(
        "--rounds",
        type=int,
        default=takeover.ROUNDS,
        metavar="N",
        help="takeover.*: drills of each kind (%(default)s); ctrl-C ends after those that were played",
    )


def run(args: argparse.Namespace) -> int:
    """0: measured; 2: bad usage, or the machine lacks something."""
    if args.list:
        for name, purpose in NAMES.items():
            print(f"{name:22}{purpose}")
        return 0
    wanted = {name for name in NAMES if not args.names or name.startswith(tuple(args.names))}
    problem = None
    if not wanted:
        problem = f"no row begins with {' or '.join(args.names)}; --list names them"
    elif args.rounds < 1:
        problem = f"--rounds: {args.rounds} is less than 1"
    elif args.engine not in ("packet", "tc"):
        problem = f"--engine: {args.engine!r} is no engine; packet and tc are"
    elif args.engine == "tc":
        wanted = {name for name in wanted if name.split(".")[0] in _OF_ENGINES}
        problem = None if wanted else "of the tc engine forward and connect are measured alone"
    if problem:
        print(f"hasyncd bench: {problem}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    suites: dict[str, Callable[[set[str], Callable[[str], None]], list[Row]]] = {
        "forward": partial(forward.measure, engine=args.engine),
        "connect": partial(connect.measure, engine=args.engine),
        **_SUITES,
        "takeover": partial(takeover.measure, rounds=args.rounds),
    }
    try:
        with LabLock():
            for suite, measure in suites.items():
                mine = {name for name in wanted if name.startswith(f"{suite}.")}
                if mine:
                    rows += measure(mine, _say)
    except LabError as error:
        print(f"hasyncd bench: {error}", file=sys.stderr)
        return 2
    finally:
        if args.json is not None:
            args.json.write_text(json.dumps([row.to_json() for row in rows], indent=2) + "\n")
    _show(rows)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _show(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "ours", "baseline", "ratio", "unit", "better", "cores", "notes")
    for row in rows:
        table.add_row(
            f"{row.name} ({row.variant})" if row.variant else row.name, _figure(row.value), _figure(row.baseline_value),
            "-" if row.ratio is None else f"{row.ratio:.2f}", row.unit, row.better, row.cores or "-", row.notes,
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1e4:
        return f"{value / 1e9:.2f} G" if value >= 1e9 else f"{value / 1e3:.0f} k"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"
