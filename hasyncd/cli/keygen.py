"""`hasyncd keygen DIR`: the keys that make two nodes a pair."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

_NODES: Final = ["gw-a", "gw-b"]
_DAYS: Final = 3650
_DAYS_MAX: Final = 36_500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="gets one directory for each node")
    parser.add_argument(
        "--node",
        metavar="NAME",
        action="append",
        help="node.name of a node; given twice (gw-a and gw-b)",
    )
    parser.add_argument(
        "--days", metavar="N", type=int, default=_DAYS, help="how long the certificates last (%(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="replace keys that are there already")


def run(args: argparse.Namespace) -> int:
    nodes = args.node or _NODES
    if len(nodes) != 2:
        return _refuse(f"--node: a pair has two names, not {len(nodes)}")
    if not 1 <= args.days <= _DAYS_MAX:
        return _refuse(f"--days: {args.days} is not within 1 and {_DAYS_MAX}")
    from hasyncd.pair_files import PairFilesError, make_pair_files

    try:
        make_pair_files(args.directory, (nodes[0], nodes[1]), days=args.days, force=args.force)
    except PairFilesError as error:
        return _refuse(str(error))
    print(f"The keys of the pair {nodes[0]} and {nodes[1]}, good for {args.days} days. Copy, as root:")
    for node in nodes:
        print(f"  {args.directory / node}  to  /etc/hasyncd/keys  on {node}")
    print('and write  keys = "/etc/hasyncd/keys"  under [peer] on both. The files stay readable by their')
    print(
        "owner only; a node needs nothing of its peer's directory, so remove this one when both are copied."
    )
    return 0


def _refuse(reason: str) -> int:
    print(f"hasyncd keygen: {reason}", file=sys.stderr)
    return 2
