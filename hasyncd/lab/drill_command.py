"""`hasyncd drill`: its flags, its run, its files, its exit code (0 all survived, 1 a loss, 2 bad usage)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import hasyncd
from hasyncd.lab.crew import Load
from hasyncd.lab.drill import DrillOptions, Result, run_drill
from hasyncd.lab.incumbent import missing_packages
from hasyncd.lab.incumbent_files import IncumbentOptions
from hasyncd.lab.lock import LabLock, read_kept_lab
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.nodes import HEARTBEAT_MS
from hasyncd.lab.page import page, read_rows
from hasyncd.lab.report import ConsoleProgress, show, show_all
from hasyncd.lab.scenarios import DEFAULT, SCENARIOS
from hasyncd.lab.topology import sweep

_FLOWS_MAX = 15_000
"""Of one protocol: the files that a process may have open set the limit."""
_BACKGROUND_MAX = 1 << 21
"""Two nodes with twice the room for them take 1 GB."""
_Value = TypeVar("_Value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of DESIGN §7 and a few for whoever works on the lab."""
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help=f"`all`, or names from --list, or how several of them begin ({DEFAULT})",
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and what each does")
    parser.add_argument("--seed", type=int, help="repeat a drill: moment of the fault and payloads (random)")
    parser.add_argument("--tcp", type=int, default=1000, metavar="N", help="TCP flows (%(default)s)")
    parser.add_argument("--udp", type=int, default=500, metavar="N", help="UDP flows (%(default)s)")
    parser.add_argument(
        "--ipv6",
        type=int,
        default=20,
        metavar="PERCENT",
        help="share of the flows over IPv6: balanced and passed (%(default)s)",
    )
    parser.add_argument(
        "--background-flows",
        type=int,
        default=0,
        metavar="N",
        help="idle flows that fill the tables (%(default)s)",
    )
    parser.add_argument("--engine", default="packet", help="packet, tc or auto")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results, also when the drill fails"
    )
    parser.add_argument(
        "--pace-ms",
        type=int,
        default=150,
        metavar="MS",
        help="each flow asks once in so many ms (%(default)s)",
    )
    parser.add_argument(
        "--open-rate",
        type=float,
        default=50,
        metavar="N",
        help="new TCP and UDP flows a second (%(default)s)",
    )
    parser.add_argument(
        "--bulk-bytes", type=int, default=1 << 30, metavar="N", help="size of each transfer of `bulk` (1 GiB)"
    )
    parser.add_argument(
        "--logs", type=Path, metavar="DIR", help="keep the nodes' logs and the flows' records there"
    )
    _add_kill_arguments(parser)
    _add_nodes(parser)
    _add_comparison(parser)


def _add_kill_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate",
        type=float,
        default=2000,
        metavar="N",
        help="kill-under-load: new TCP connections a second (2000)",
    )
    parser.add_argument(
        "--kills",
        type=int,
        default=1,
        metavar="N",
        help="kill-under-load, switchover-under-load: so many, one node after the other (1)",
    )


def _add_nodes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--commit", choices=("ack", "emit"), default="ack", help="[sync] commit of both nodes (%(default)s)"
    )
    parser.add_argument(
        "--without-sync", action="store_true", help="switch the sync off: the drill has to fail"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="the peer channel in the plain (keys are made for each lab)"
    )
    parser.add_argument(
        "--heartbeat-ms",
        default=HEARTBEAT_MS,
        type=int,
        metavar="MS",
        help="hasyncd's heartbeats; three that are missed are a death (%(default)s)",
    )

    parser.add_argument(
        "--old-program",
        type=Path,
        metavar="PATH",
        help="rolling-upgrade: the other installation's hasyncd that both nodes begin with (this one, with the older "
        "version of the protocol)",
    )


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--system",
        default="hasyncd",
        metavar="NAME[,NAME]",
        help="hasyncd, incumbent (keepalived and conntrackd), or both with a comma (hasyncd); what the incumbent loses "
        "does not count for the exit code",
    )
    parser.add_argument(
        "--adverts-ms",
        default="1000",
        metavar="MS[,MS]",
        help="the incumbent's advertisement intervals, a drill for each (%(default)s)",
    )
    parser.add_argument(
        "--random-ports",
        action="store_true",
        help="the incumbent chooses source ports at random, as hasyncd does, and does not keep the host's",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="draw the results: one HTML page that needs nothing else"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="results of an earlier --json that --report draws too",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the drills one after the other; the process's exit code."""
    if args.list:
        width = max(map(len, SCENARIOS)) + 2
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:{width}}{scenario.purpose}")
        return 0
    names = _chosen_scenarios(args.scenarios)
    errors = _check(args, names)
    if errors:
        for error in errors:
            print(f"hasyncd drill: {error}", file=sys.stderr)
        return 2
    results: list[Result] = []
    try:
        with LabLock():
            _clear_the_way()
            for name, incumbent in product(names, _systems(args)):
                if incumbent is not None and SCENARIOS[name].ours_only:
                    print(f"hasyncd drill: {name} is not for the incumbent", file=sys.stderr)
                    continue
                results.append(_run_one(name, args, incumbent))
                show(results[-1])
                _write(args, results)
        if len(results) > 1:
            show_all(results)
    except LabError as error:
        print(f"hasyncd drill: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("hasyncd drill: interrupted; the lab is removed", file=sys.stderr)
        return 130
    return 1 if any(result.speaks_against_us for result in results) else 0


def _chosen_scenarios(words: list[str]) -> list[str]:
    if words == ["all"]:
        return list(SCENARIOS)
    chosen = []
    for word in words or [DEFAULT]:
        family = [name for name in SCENARIOS if name.startswith(f"{word}-") and word not in SCENARIOS]
        chosen += family or [word]
    return list(dict.fromkeys(chosen))


def _check(args: argparse.Namespace, names: list[str]) -> list[str]:
    errors = [
        f"no scenario is called {name!r}; --list names them: {', '.join(SCENARIOS)}"
        for name in names
        if name not in SCENARIOS
    ]
    if args.engine not in ("packet", "tc", "auto"):
        errors.append(f"--engine: {args.engine!r} is no engine; packet, tc and auto are")
    errors += _check_comparison(args)
    errors += _check_upgrade(args, names)
    for flag, value, least, most in (
        ("--tcp", args.tcp, 0, _FLOWS_MAX),
        ("--udp", args.udp, 0, _FLOWS_MAX),
        ("--ipv6", args.ipv6, 0, 100),
        ("--background-flows", args.background_flows, 0, _BACKGROUND_MAX),
        ("--heartbeat-ms", args.heartbeat_ms, 1, 10_000),
        ("--pace-ms", args.pace_ms, 10, 60_000),
        ("--open-rate", args.open_rate, 0, 1000),
        ("--rate", args.rate, 1, 20_000),
        ("--kills", args.kills, 1, 10_000),
        ("--bulk-bytes", args.bulk_bytes, 1 << 20, 1 << 40),
    ):
        if not least <= value <= most:
            errors.append(f"{flag}: {value} is not within {least} and {most}")
    if args.tcp + args.udp == 0:
        errors.append("--tcp, --udp: both 0 leaves nothing to judge")
    for flag, path in (("--json", args.json), ("--report", args.report)):
        if path is not None and not path.parent.is_dir():
            errors.append(f"{flag}: {path.parent} is no directory")
    return errors


def _check_upgrade(args: argparse.Namespace, names: list[str]) -> list[str]:
    errors = []
    if args.old_program is not None and not os.access(args.old_program, os.X_OK):
        errors.append(f"--old-program: {args.old_program} cannot be run")
    upgrades = any(name in SCENARIOS and SCENARIOS[name].starts_old for name in names)
    if args.old_program is not None and not upgrades:
        errors.append("--old-program: nothing is upgraded; rolling-upgrade does it")
    if upgrades and args.scenarios != ["all"] and "incumbent" in args.system.split(","):
        errors.append("--system: rolling-upgrade is about versions of hasyncd")
    return errors


def _check_comparison(args: argparse.Namespace) -> list[str]:
    errors = []
    systems = args.system.split(",")
    errors += [
        f"--system: {name!r} is unknown; hasyncd and incumbent are known"
        for name in systems
        if name not in ("hasyncd", "incumbent")
    ]
    for word in args.adverts_ms.split(","):
        # VRRPv3 counts hundredths of a second and has 12 bits for them (RFC 9568 §5.2.7).
        if not word.isascii() or not word.isdigit() or not 10 <= int(word) <= 40_950 or int(word) % 10:
            errors.append(f"--adverts-ms: {word!r} is no multiple of 10 within 10 and 40950")
    if "incumbent" in systems and (missing := missing_packages()):
        errors.append(
            f"--system: the incumbent is not installed: Debian packages {', '.join(missing)} "
            "(deploy/drill installs what is missing)"
        )
    if args.beside and args.report is None:
        errors.append("--beside: says what --report draws too; there is no --report")
    for path in args.beside:
        try:
            read_rows(path)
        except ValueError as error:
            errors.append(f"--beside: {error}")
    return errors


def _clear_the_way() -> None:
    """Removes what a killed drill left behind. Raises LabError where a lab stands that somebody keeps."""
    if read_kept_lab() is not None:
        raise LabError("a lab stands on this machine; `hasyncd lab down` removes it")
    if sweep():
        print("hasyncd drill: removed what a killed lab had left behind", file=sys.stderr)


def _systems(args: argparse.Namespace) -> list[IncumbentOptions | None]:
    """What each scenario is played with; None is hasyncd."""
    systems: list[IncumbentOptions | None] = []
    for name in args.system.split(","):
        if name == "hasyncd":
            systems.append(None)
        else:
            systems += [
                IncumbentOptions(int(word), args.random_ports, not args.without_sync)
                for word in args.adverts_ms.split(",")
            ]
    return systems


def _run_one(name: str, args: argparse.Namespace, incumbent: IncumbentOptions | None) -> Result:
    options = DrillOptions(
        seed=random.SystemRandom().randrange(1 << 31) if args.seed is None else args.seed,
        load=Load(
            tcp=args.tcp,
            udp=args.udp,
            ipv6=args.ipv6,
            pace_ms=args.pace_ms,
            open_rate=args.open_rate,
            connect_rate=args.rate,
            background=args.background_flows,
        ),
        engine=args.engine,
        sync_enabled=not args.without_sync,
        insecure=args.insecure,
        heartbeat_ms=args.heartbeat_ms,
        bulk_bytes=args.bulk_bytes,
        incumbent=incumbent,
        commit=args.commit,
        old_program=args.old_program,
        kills=args.kills,
        logs=args.logs / (name if incumbent is None else f"{name}-incumbent-{incumbent.adverts_ms}")
        if args.logs
        else None,
    )
    with ConsoleProgress(name if incumbent is None else f"{name}, {incumbent.variant}") as progress:
        return run_interruptible(run_drill(SCENARIOS[name], options, progress))


_ORDERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_interruptible(work: Coroutine[Any, Any, _Value]) -> _Value:
    """asyncio.run that takes ctrl-C, SIGTERM and SIGHUP as one order to clean up.

    A second one breaks neither the cleaning nor the end after it. Raises asyncio.CancelledError after such an order.
    """
    before = {number: signal.getsignal(number) for number in _ORDERS}
    ordered = False

    async def guarded() -> _Value:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)

        def order(*_: object) -> None:
            nonlocal ordered
            if not ordered and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
            ordered = True

        # Not the loop's own handlers: those end with it, and the process would die of what comes a moment later.
        for number in _ORDERS:
            signal.signal(number, order)
        return await task

    try:
        value = asyncio.run(guarded())
    finally:
        if not ordered:
            for number, handler in before.items():
                signal.signal(number, handler)
    if ordered:
        raise asyncio.CancelledError
    return value


def _write(args: argparse.Namespace, results: list[Result]) -> None:
    """After each drill, so that one that is interrupted leaves what it has shown so far."""
    rows = [result.to_json() for result in results]
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    if args.report is not None:
        beside = [row for path in args.beside for row in read_rows(path)]
        purposes = {scenario.name: scenario.purpose for scenario in SCENARIOS.values()}
        args.report.write_text(page([*rows, *beside], purposes, _about(args)), encoding="utf-8")


def _about(args: argparse.Namespace) -> list[str]:
    """Lines on the machine, the moment and the load, for whoever reads the page elsewhere."""
    kernel = os.uname()
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [
        f"{when}, hasyncd {hasyncd.__version__}, {kernel.sysname} {kernel.release}, {os.cpu_count()} cores",
        f"{args.tcp:,} TCP and {args.udp:,} UDP flows, {args.ipv6} % over IPv6, a question each in {args.pace_ms} ms; "
        f"{args.open_rate:g} more of each opened a second"
        + (f"; {args.background_flows:,} idle flows in the tables" if args.background_flows else ""),
    ]
