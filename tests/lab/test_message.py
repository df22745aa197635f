"""Requests and replies: every byte is known to both ends, and a wrong one is seen."""

from __future__ import annotations

from hasyncd.lab.traffic.message import (
    HEADER,
    PUSH_MAGIC,
    REPLY_HEADER,
    REQUEST_BYTES_MAX,
    REQUEST_MAGICS,
    Payloads,
    pack_identity,
    unpack_identity,
)

IDENTITY = pack_identity(21, "203.0.113.100", 40_000)


def test_reply_says_who_answered_and_whom_it_saw() -> None:
    payloads = Payloads(1)
    reply = payloads.reply_to(payloads.request(5, 9), IDENTITY)
    assert reply is not None
    assert payloads.read_reply(reply, 5) == (9, IDENTITY)
    assert unpack_identity(IDENTITY) == (21, "203.0.113.100", 40_000)
    assert unpack_identity(pack_identity(21, "2001:db8::7", 1)) == (21, "2001:db8::7", 1)


def test_any_changed_byte_of_a_request_is_seen() -> None:
    payloads = Payloads(1)
    request = payloads.request(5, 9)
    for place in range(len(request)):
        broken = bytearray(request)
        broken[place] ^= 1
        assert payloads.reply_to(bytes(broken), IDENTITY) is None, f"byte {place}"


def test_any_changed_byte_of_a_reply_is_seen_but_those_that_say_who_answered() -> None:
    payloads = Payloads(1)
    reply = payloads.reply_to(payloads.request(5, 9), IDENTITY)
    assert reply is not None
    for place in [*range(HEADER.size), *range(REPLY_HEADER.size, len(reply))]:
        broken = bytearray(reply)
        broken[place] ^= 1
        assert payloads.read_reply(bytes(broken), 5) is None, f"byte {place}"


def test_truncated_messages_and_other_flows_are_refused() -> None:
    payloads = Payloads(1)
    request = payloads.request(5, 9)
    reply = payloads.reply_to(request, IDENTITY)
    assert reply is not None
    assert payloads.reply_to(request[:-1], IDENTITY) is None
    assert payloads.reply_to(b"", IDENTITY) is None
    assert payloads.read_reply(reply[:-1], 5) is None
    assert payloads.read_reply(reply, 6) is None


def test_payloads_differ_by_seed_flow_sequence_and_direction() -> None:
    payloads = Payloads(1)
    assert payloads.of_request(1, 1) != payloads.of_request(2, 1)[: len(payloads.of_request(1, 1))]
    assert payloads.of_request(1, 1) != payloads.of_reply(1, 1)
    assert payloads.of_request(1, 1) != Payloads(2).of_request(1, 1)
    assert all(len(payloads.request(flow, flow * 3)) <= REQUEST_BYTES_MAX for flow in range(2000))


def test_push_says_when_it_was_sent_and_any_other_changed_byte_is_seen() -> None:
    payloads = Payloads(1)
    push = payloads.push(5, 9, 1_234_567)
    assert payloads.read_push(push, 5) == 1_234_567
    assert payloads.read_push(push, 6) is None
    for place in [*range(12), *range(24, len(push))]:
        broken = bytearray(push)
        broken[place] ^= 1
        assert payloads.read_push(bytes(broken), 5) is None, f"byte {place}"
    assert payloads.read_push(push[:10], 5) is None


def test_every_kind_of_request_is_answered_and_no_other() -> None:
    payloads = Payloads(1)
    for magic in REQUEST_MAGICS:
        assert payloads.reply_to(payloads.request(5, 9, magic), IDENTITY) is not None
    assert payloads.reply_to(payloads.request(5, 9, PUSH_MAGIC), IDENTITY) is None
