"""The command line: `hasyncd VERB …`, one small file a verb.

A verb's module offers `add_arguments(parser)` and `run(args) -> int`, and is imported only when its verb
was typed. Operator verbs know the daemon by its control socket alone.

The exit codes are `EXIT_CODES`. Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Callable, Container, Sequence
from typing import Any, Final

from hasyncd import __version__
from hasyncd.cli.client import BadTarget, NoDaemon
from hasyncd.cli.examples import EXAMPLES

VERBS: Final = {
    "run": "the daemon, in the foreground",
    "check": "judge a configuration file: every error with its key",
    "keygen": "make the keys of a pair",
    "status": "role, peer, what would be lost now, VIPs, services",
    "flows": "list the flows, as conntrack -L users expect",
    "ring": "who has which share of a service, and what a change would move",
    "explain": "which backend or public port a flow has, or would get, and why",
    "events": "follow role changes and what happens to the pair",
    "drain": "take a backend out: it keeps its flows and gets no new ones",
    "undrain": "give a drained backend new flows again",
    "weight": "give a backend another share of the new flows",
    "reload": "read the file again: backends, weights, checks",
    "switchover": "hand the addresses to the peer; loses nothing",
    "resync": "compare both nodes' flows and send what differs",
    "last-word": "what a node that died had not got confirmed",
    "drill": "build the lab, inject a fault, judge every flow",
    "lab": "the same lab, kept for playing",
    "bench": "measure this machine beside the kernel, in one run",
}


EXIT_CODES: Final = {
    0: "good",
    1: "a verdict against us: a flow was lost (`drill`), the pair is not whole (`status --check`), a refusal",
    2: "bad usage or configuration; every error of a file is named as `FILE: key.path: message`",
    3: "no daemon at the socket",
    130: "interrupted",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; the process's exit code. Raises SystemExit (2) on bad usage, as argparse does."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in words if not word.startswith("-")), None)
    parser, _ = make_parser(() if verb is None else (verb,))
    args = parser.parse_args(words)
    module = _module(args.verb)
    return _run(module.run, args)


def make_parser(whole: Container[str]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The command line's parser, and those of its verbs; only verbs in `whole` know their arguments."""
    parser = argparse.ArgumentParser(
        prog="hasyncd",
        description="Two Linux gateways that look like one which never forgets a flow.",
        epilog="exit codes:\n"
        + "\n".join(_folded(f"  {code:<4}", text) for code, text in EXIT_CODES.items()),
        formatter_class=_formatter,
    )
    parser.add_argument("--version", action="version", version=f"hasyncd {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    parsers = {}
    for name, purpose in VERBS.items():
        parsers[name] = verbs.add_parser(
            name,
            help=purpose,
            description=f"hasyncd {name}: {purpose}.",
            epilog=_examples(name),
            formatter_class=_formatter,
        )
        if name in whole:
            _module(name).add_arguments(parsers[name])
    return parser, parsers


def _examples(verb: str) -> str | None:
    lines = [f"  {line}\n      {why}" for line, why in EXAMPLES.get(verb, ())]
    return "\n".join(["examples:", *lines]) if lines else None


def _module(verb: str) -> Any:
    return importlib.import_module(f"hasyncd.cli.{verb.replace('-', '_')}")


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26)


def _folded(label: str, text: str) -> str:
    return textwrap.fill(text, 78, initial_indent=label, subsequent_indent=" " * len(label))


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
