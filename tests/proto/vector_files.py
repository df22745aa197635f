"""Reads and writes the files of proto/vectors: `key: value` lines, an empty line, hex."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "proto" / "vectors"


@dataclass(frozen=True, slots=True)
class Vector:
    name: str
    spec: str
    decode: str
    """`frame` (a body), `stream` (with its length before it), `heartbeat` or `records`."""
    expect: str
    """`accepted`, or `rejected NAME`."""
    comment: str
    data: bytes
    value: object = None
    """Accepted: the message as JSON, or the list of records."""
    installed: int | None = None
    """Rejected records: how many before it were installed."""
    notes: tuple[tuple[int, str], ...] = field(default=())
    """Where a line of hex ends, and what it says."""


def read(path: Path) -> Vector:
    head, _, body = path.read_text().partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    digits = "".join(line.partition("#")[0] for line in body.splitlines())
    return Vector(
        name=fields["name"],
        spec=fields["spec"],
        decode=fields["decode"],
        expect=fields["expect"],
        comment=fields["comment"],
        data=bytes.fromhex(digits),
        value=json.loads(fields["value"]) if "value" in fields else None,
        installed=int(fields["installed"]) if "installed" in fields else None,
    )


def text(vector: Vector) -> str:
    lines = [f"{key}: {getattr(vector, key)}" for key in ("name", "spec", "decode", "expect", "comment")]
    if vector.value is not None:
        lines.append(f"value: {json.dumps(vector.value)}")
    if vector.installed is not None:
        lines.append(f"installed: {vector.installed}")
    lines.append("")
    at = 0
    for end, note in (*vector.notes, (len(vector.data), "")):
        rows = textwrap.wrap(vector.data[at:end].hex(" "), 95)
        lines += [f"{row:<96}# {note}" if note and number == 0 else row for number, row in enumerate(rows)]
        at = end
    return "\n".join(lines) + "\n"


def load() -> list[Vector]:
    """Every vector, by name."""
    return [read(path) for path in sorted(FOLDER.glob("*.txt"))]
