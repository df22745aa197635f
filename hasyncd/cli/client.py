"""The control socket, seen from the operator's side: one request, an answer of JSON lines, an end line.

Standard library only, and nothing of the program: whoever may open the socket can use this file as it is.
"""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

RUN_DIRECTORY: Final = Path("/run/hasyncd")
ANSWER_TIMEOUT_S: Final = 30.0
_END: Final = '{"end":true'
"""How the last line begins: the daemon writes it without spaces, the key first (runtime/README.md)."""


class NoDaemon(Exception):
    """Nobody answers at the socket, or what answers is no daemon of ours."""


class BadTarget(Exception):
    """The command line does not say which daemon is meant."""


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """`--node` and `--socket`: which daemon an operator's verb is for."""
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--node", metavar="NAME", help="the daemon of this node on this machine")
    target.add_argument("--socket", metavar="PATH", type=Path, help="its control socket, wherever it is")


def target_socket(args: argparse.Namespace) -> Path:
    """The socket that `--node` or `--socket` names; without either, the only one there is.

    Raises:
        BadTarget: several daemons could be meant, or the name is none.
        NoDaemon: no daemon runs here.
    """
    if args.socket is not None:
        return Path(args.socket)
    if args.node is not None:
        if "/" in args.node or args.node in ("", ".", ".."):
            raise BadTarget(f"--node: {args.node!r} is no node's name")
        return RUN_DIRECTORY / f"{args.node}.sock"
    sockets = sorted(RUN_DIRECTORY.glob("*.sock"))
    if not sockets:
        raise NoDaemon(f"no daemon runs on this machine (no socket in {RUN_DIRECTORY})")
    if len(sockets) > 1:
        raise BadTarget(f"several daemons run here; name one: --node {', '.join(s.stem for s in sockets)}")
    return sockets[0]


class Answer:
    """One request's answer. Iterate over its objects; `exit_code` and `message` are its end line's.

    A context manager; leaving it closes the connection, which ends a stream that has no end of its own.

    Raises:
        NoDaemon: at construction or while iterating.
    """

    def __init__(
        self, path: Path, request: Mapping[str, object], *, timeout_s: float | None = ANSWER_TIMEOUT_S
    ) -> None:
        """`timeout_s`: the longest silence that is waited through; None for streams that may be silent."""
        self.exit_code: int | None = None
        self.message = ""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            self._socket.close()
            raise NoDaemon(f"no daemon at {path}: {error.strerror or error}") from None
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self.lines():
            yield self._parse(line)

    def lines(self) -> Iterator[str]:
        """The objects as they came, each with its end of line: for whoever only passes them on."""
        while self.exit_code is None:
            line = self._read()
            if not line.startswith(_END):
                yield line
                continue
            item = self._parse(line)
            code, message = item.get("exit"), item.get("message", "")
            self.exit_code = code if isinstance(code, int) else 1
            self.message = message if isinstance(message, str) else ""

    def _read(self) -> str:
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise NoDaemon(f"the daemon at {self._path} does not answer") from None
        except OSError as error:
            raise NoDaemon(f"the daemon at {self._path} is gone: {error.strerror or error}") from None
        if not line.endswith(b"\n"):
            raise NoDaemon(f"the daemon at {self._path} went away before its answer ended")
        return line.decode(errors="replace")

    def _parse(self, line: str) -> dict[str, Any]:
        try:
            item = json.loads(line)
        except ValueError:
            item = None
        if not isinstance(item, dict):
            raise NoDaemon(f"what answers at {self._path} is no hasyncd daemon")
        return item


def ask(path: Path, verb: str, **arguments: object) -> tuple[list[dict[str, Any]], int, str]:
    """A whole short answer: (objects, exit code, message). Raises NoDaemon."""
    with Answer(path, {"verb": verb, **arguments}) as answer:
        items = list(answer)
    assert answer.exit_code is not None, "iteration ends at the end line only"
    return items, answer.exit_code, answer.message
