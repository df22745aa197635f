"""`hasyncd drill`: its flags, its run, its files, its exit code (0 all survived, 1 a loss, 2 bad usage)."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hasyncd.lab.crew import Load
from hasyncd.lab.drill import DrillOptions, Result, run_drill
from hasyncd.lab.lock import LabLock, read_kept_lab
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.report import ConsoleProgress, show
from hasyncd.lab.scenarios import DEFAULT, SCENARIOS
from hasyncd.lab.topology import sweep

_FLOWS_MAX = 15_000
"""Of one protocol: the files that a process may have open set the limit."""
_BACKGROUND_MAX = 200_000
_Value = TypeVar("_Value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of DESIGN §7 and a few for whoever works on the lab."""
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"`all`, or names from --list ({DEFAULT})"
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
    parser.add_argument("--engine", default="packet", help="packet (tc is not available in this version)")
    parser.add_argument(
        "--system", default="hasyncd", help="hasyncd (incumbent is not available in this version)"
    )
    parser.add_argument(
        "--without-sync", action="store_true", help="switch the sync off: the drill has to fail"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="the peer channel in the plain (keys are made for each lab)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results, also when the drill fails"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="not available in this version")
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
        "--bulk-bytes", type=int, default=1 << 30, metavar="N", help="size of each bulk transfer (1 GiB)"
    )
    parser.add_argument(
        "--logs", type=Path, metavar="DIR", help="keep the nodes' logs and the flows' records there"
    )
    _add_kill_arguments(parser)


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
        help="kill-under-load: so many, one node after the other (1)",
    )
    parser.add_argument(
        "--commit", choices=("ack", "emit"), default="ack", help="[sync] commit of both nodes (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the drills one after the other; the process's exit code."""
    if args.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:17}{scenario.purpose}")
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
            for name in names:
                results.append(_run_one(name, args))
                show(results[-1])
                _write(args.json, results)
    except LabError as error:
        print(f"hasyncd drill: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("hasyncd drill: interrupted; the lab is removed", file=sys.stderr)
        return 130
    return 0 if all(result.passed for result in results) else 1


def _chosen_scenarios(words: list[str]) -> list[str]:
    if words == ["all"]:
        return list(SCENARIOS)
    return words or [DEFAULT]


def _check(args: argparse.Namespace, names: list[str]) -> list[str]:
    errors = [
        f"no scenario is called {name!r}; --list names them: {', '.join(SCENARIOS)}"
        for name in names
        if name not in SCENARIOS
    ]
    if args.engine == "tc":
        errors.append("--engine: tc is not available in this version")
    elif args.engine not in ("packet", "auto"):
        errors.append(f"--engine: {args.engine!r} is no engine; packet is the one of this version")
    if args.system == "incumbent":
        errors.append("--system: incumbent is not available in this version")
    elif args.system != "hasyncd":
        errors.append(f"--system: {args.system!r} is unknown; hasyncd is the one of this version")
    if args.report is not None:
        errors.append("--report: not available in this version")
    for flag, value, least, most in (
        ("--tcp", args.tcp, 0, _FLOWS_MAX),
        ("--udp", args.udp, 0, _FLOWS_MAX),
        ("--ipv6", args.ipv6, 0, 100),
        ("--background-flows", args.background_flows, 0, _BACKGROUND_MAX),
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
    if args.json is not None and not args.json.parent.is_dir():
        errors.append(f"--json: {args.json.parent} is no directory")
    return errors


def _clear_the_way() -> None:
    """Removes what a killed drill left behind. Raises LabError where a lab stands that somebody keeps."""
    if read_kept_lab() is not None:
        raise LabError("a lab stands on this machine; `hasyncd lab down` removes it")
    if sweep():
        print("hasyncd drill: removed what a killed lab had left behind", file=sys.stderr)


def _run_one(name: str, args: argparse.Namespace) -> Result:
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
        sync_enabled=not args.without_sync,
        insecure=args.insecure,
        bulk_bytes=args.bulk_bytes,
        commit=args.commit,
        kills=args.kills,
        logs=args.logs / name if args.logs else None,
    )
    with ConsoleProgress(name) as progress:
        return run_interruptible(run_drill(SCENARIOS[name], options, progress))


def run_interruptible(work: Coroutine[Any, Any, _Value]) -> _Value:
    """asyncio.run that takes ctrl-C, SIGTERM and SIGHUP as one order to clean up.

    A second one does not break the cleaning.     Raises asyncio.CancelledError after such an order.
    """

    async def guarded() -> _Value:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, _cancel_once(task))
        return await task

    return asyncio.run(guarded())


def _cancel_once(task: asyncio.Future[Any]) -> Any:
    ordered = False

    def cancel() -> None:
        nonlocal ordered
        if not ordered:
            ordered = True
            task.cancel()

    return cancel


def _write(path: Path | None, results: list[Result]) -> None:
    if path is not None:
        path.write_text(json.dumps([result.to_json() for result in results], indent=2) + "\n")
