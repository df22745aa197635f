"""What the verbs share that ask the daemon to do something and print what it said."""

from __future__ import annotations

import sys
from pathlib import Path

from hasyncd.cli.client import ask


def command(path: Path, verb: str, **arguments: object) -> int:
    """Sends one command; its message goes to standard output if it was done, to standard error if not."""
    _, code, message = ask(path, verb, **arguments)
    if message:
        print(message, file=sys.stdout if code == 0 else sys.stderr)
    return code
