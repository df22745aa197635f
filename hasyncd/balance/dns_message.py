"""One DNS question and the head of its answer (RFC 1035 4.1): what a health check needs of the protocol. Pure."""

from __future__ import annotations

import struct
from typing import Final

MESSAGE_BYTES_MAX: Final = 65_535
_HEADER: Final = struct.Struct("!6H")
_TAIL: Final = struct.Struct("!2H")
_IN: Final = 1
_RESPONSE, _OPCODE, _RECURSION_DESIRED, _RCODE = 0x8000, 0x7800, 0x0100, 0x000F
# RFC 1035 3.2.2, RFC 3596 2.1
TYPES: Final = {"A": 1, "NS": 2, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
RCODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


class NotTheAnswer(ValueError):
    """Bytes that do not answer the question; the message says why."""


def encode_query(number: int, name: str, record_type: str) -> bytes:
    """The question for `name` (ASCII, checked by the configuration) with this u16 as its id; recursion desired."""
    labels = [label.encode("ascii") for label in name.split(".") if label]
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return (
        _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + question + _TAIL.pack(TYPES[record_type], _IN)
    )


def decode_rcode(query: bytes, answer: bytes) -> str:
    """The response code of the answer to a query. Raises NotTheAnswer.

    What answers has the query's id and repeats its question, the letters' case apart; a server that could not even read
    the question may leave it out (FORMERR, RFC 1035 4.1.1). What follows the question is not looked at.
    """
    if len(answer) < _HEADER.size:
        raise NotTheAnswer(f"{len(answer)} bytes are no DNS message")
    number, flags, questions, *_ = _HEADER.unpack_from(answer)
    if number != _HEADER.unpack_from(query)[0] or not flags & _RESPONSE or flags & _OPCODE:
        raise NotTheAnswer("it answers another question")
    rcode = flags & _RCODE
    word = RCODES[rcode] if rcode < len(RCODES) else f"rcode {rcode}"
    if questions == 0 and word != "NOERROR":
        return word
    asked = query[_HEADER.size :]
    if questions != 1 or answer[_HEADER.size : _HEADER.size + len(asked)].lower() != asked.lower():
        raise NotTheAnswer("it answers another question")
    return word
