"""`hasyncd lab up/down/shell`: the drill's lab, kept for playing."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from hasyncd.lab import plan
from hasyncd.lab.crew import Crew
from hasyncd.lab.drill_command import run_interruptible
from hasyncd.lab.lock import KeptLab, LabLock, forget_kept_lab, read_kept_lab
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.nodes import NodeOptions, Nodes
from hasyncd.lab.topology import Topology, remove_run_files, sweep

_SEED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the three actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="up|down|shell")
    up = actions.add_parser("up", help="build the lab and start both nodes in the background")
    up.add_argument("--without-sync", action="store_true", help="both nodes with their sync switched off")
    up.add_argument("--insecure", action="store_true", help="the peer channel in the plain, to be read")
    actions.add_parser("down", help="remove the lab, and what a killed drill left behind")
    shell = actions.add_parser("shell", help="a shell, or a command, inside one of the lab's hosts")
    shell.add_argument("host", choices=plan.NAMES, metavar="HOST", help=", ".join(plan.NAMES))
    shell.add_argument("command", nargs=argparse.REMAINDER, help="the command (your shell)")


def run(args: argparse.Namespace) -> int:
    """Performs the action; 0, or 2 with a message where it cannot be."""
    try:
        match args.action:
            case "up":
                return _up(args)
            case "down":
                return _down()
            case _:
                return _shell(args.host, args.command)
    except LabError as error:
        print(f"hasyncd lab: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("hasyncd lab: interrupted; the lab is removed", file=sys.stderr)
        return 130


def _up(args: argparse.Namespace) -> int:
    with LabLock():
        if read_kept_lab() is not None:
            raise LabError("the lab stands already; `hasyncd lab down` removes it")
        sweep()
        topology = Topology()
        try:
            topology.up()
            run_interruptible(
                _start(topology, NodeOptions(sync_enabled=not args.without_sync, insecure=args.insecure))
            )
        except BaseException:
            topology.down()
            remove_run_files()
            raise
    print(_HOW_TO_LOOK.format(directory=topology.directory))
    return 0


async def _start(topology: Topology, options: NodeOptions) -> None:
    nodes = Nodes(topology, options, outlive=True)
    crew = Crew(topology, _SEED, outlive=True)
    await crew.start_servers()
    await nodes.start()
    pids = [process.pid for process in nodes.processes.values()] + [
        server.process.pid for server in crew.servers
    ]
    KeptLab(topology.lab_id, str(topology.directory), pids).save()
    await crew.leave()


_HOW_TO_LOOK = """\
The lab stands: two hasyncd nodes, gw-a and gw-b, two backends, two outside servers, a client and two private hosts.

  hasyncd status --node gw-a                              who is primary, what is synchronised
  hasyncd lab shell client                                a shell on the outside client; then
    python3 -c 'import urllib.request as u; print(u.urlopen("http://203.0.113.5/").read().decode())'
    (and the same service over IPv6: http://[2001:db8:2::5]/)
  hasyncd lab shell host-7                                a shell on a private host
    servers: 203.0.113.50:7000, .51, [2001:db8:2::50]:7000, …
  hasyncd flows --node gw-a                               what the table holds
  hasyncd switchover --node gw-a                          hand over as planned
  tail -f {directory}/gw-a.log
  hasyncd lab down                                        remove everything"""


def _down() -> int:
    with LabLock():
        lab = read_kept_lab()
        if lab is not None:
            _end(lab)
        found = sweep()
        forget_kept_lab()
    print("the lab is removed" if found else "no lab stood here")
    return 0


def _end(lab: KeptLab) -> None:
    """Lets the nodes and servers end by themselves; what does not is killed with its namespace."""
    ours = [pid for pid in lab.pids if _is_ours(pid, lab)]
    for pid in ours:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 3
    while any(_is_ours(pid, lab) for pid in ours) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_ours(pid: int, lab: KeptLab) -> bool:
    """Whether the process still lives in one of the lab's namespaces: a number may have been given away since."""
    names = [Path("/run/netns", f"hs-{lab.lab_id}-lab-{name}") for name in plan.NAMES]
    with contextlib.suppress(OSError):
        inode = Path(f"/proc/{pid}/ns/net").stat().st_ino
        return any(name.exists() and name.stat().st_ino == inode for name in names)
    return False


def _shell(host: str, command: list[str]) -> int:
    lab = read_kept_lab()
    if lab is None:
        raise LabError("no lab stands here; `hasyncd lab up` builds one")
    words = command or [os.environ.get("SHELL", "/bin/sh")]
    sys.stdout.flush()
    os.execvp("ip", ["ip", "netns", "exec", f"hs-{lab.lab_id}-lab-{host}", *words])
