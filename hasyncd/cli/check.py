"""`hasyncd check FILE`: judges a configuration by the file alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the node's configuration (TOML)")


def run(args: argparse.Namespace) -> int:
    from hasyncd.config import ConfigError, load

    try:
        settings = load(args.file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    counts = (
        (len(settings.vip), "VIP"),
        (len(settings.nat), "NAT rule"),
        (len(settings.service), "service"),
        (sum(len(service.backends) for service in settings.service), "backend"),
    )
    what = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    print(f"{args.file}: good: node {settings.node.name}, {what}")
    return 0
