"""The command line: `hasyncd VERB …`, one small file a verb.

A verb's module offers `add_arguments(parser)` and `run(args) -> int`, and is imported only when its verb
was typed. Operator verbs know the daemon by its control socket alone.

Exit codes: 0 good, 1 a verdict against us, 2 bad usage or configuration, 3 no daemon at the socket.
Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from hasyncd import __version__
from hasyncd.cli.client import BadTarget, NoDaemon

VERBS: Final = {
    "run": "the daemon, in the foreground",
    "check": "judge a configuration file: every error with its key",
    "keygen": "make the keys of a pair",
    "status": "role, peer, what would be lost now, VIPs, services",
    "flows": "list the flows, as conntrack -L users expect",
    "ring": "who has which share of a service, and what a change would move",
    "events": "follow role changes and what happens to the pair",
    "switchover": "hand the addresses to the peer; loses nothing",
    "resync": "compare both nodes' flows and send what differs",
    "last-word": "what a node that died had not got confirmed",
    "drill": "build the lab, inject a fault, judge every flow",
    "lab": "the same lab, kept for playing",
    "bench": "measure this machine beside the kernel, in one run",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; the process's exit code. Raises SystemExit (2) on bad usage, as argparse does."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="hasyncd",
        description="Two Linux gateways that look like one which never forgets a flow.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=16),
    )
    parser.add_argument("--version", action="version", version=f"hasyncd {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    module = None
    for name, purpose in VERBS.items():
        sub = verbs.add_parser(name, help=purpose, description=f"hasyncd {name}: {purpose}.")
        if name == verb:
            module = importlib.import_module(f"hasyncd.cli.{name.replace('-', '_')}")
            module.add_arguments(sub)
    args = parser.parse_args(words)
    assert module is not None, "argparse lets no other word through as a verb"
    return _run(module.run, args)


def _run(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    try:
        code = run(args)
        sys.stdout.flush()
    except (NoDaemon, BadTarget) as error:
        print(f"hasyncd: {error}", file=sys.stderr)
        return 3 if isinstance(error, NoDaemon) else 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough; nothing may be flushed into the broken pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
