"""Messages as JSON and back: the `value:` of a vector. Bytes are hex strings, a role is its word."""

from __future__ import annotations

import dataclasses

from hasyncd.core import messages
from hasyncd.core.members import MemberWord
from hasyncd.core.types import Role

TYPES: dict[str, type] = {
    "HELLO": messages.Hello,
    "HELLO_REPLY": messages.HelloReply,
    "REFUSE": messages.Refuse,
    "RESUME": messages.Resume,
    "SYNC_BEGIN": messages.SyncBegin,
    "DELTAS": messages.Deltas,
    "SYNC_END": messages.SyncEnd,
    "LEAVING": messages.Leaving,
    "OFFER": messages.Offer,
    "MEMBERS": messages.Members,
    "HEARTBEAT": messages.Heartbeat,
}
_NAMES = {cls: name for name, cls in TYPES.items()}


def to_json(message: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(message)
    assert not isinstance(message, type)
    fields = {field.name: _plain(getattr(message, field.name)) for field in dataclasses.fields(message)}
    return {"type": _NAMES[type(message)], **fields}


def from_json(value: dict[str, object]) -> object:
    cls = TYPES[str(value["type"])]
    hints = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    return cls(**{name: _typed(hint, value[name]) for name, hint in hints.items()})


def _plain(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case Role():
            return value.value
        case tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _typed(hint: str, value: object) -> object:
    match hint:
        case "bytes":
            return bytes.fromhex(str(value))
        case "Role":
            return Role(value)
        case "tuple[MemberWord, ...]":
            assert isinstance(value, list)
            return tuple(MemberWord(row[0], bytes.fromhex(row[1]), *row[2:]) for row in value)
        case "tuple[int, ...]":
            assert isinstance(value, list)
            return tuple(value)
        case _:
            return value
