"""Questions and answers of DNS, byte by byte; whatever comes instead of an answer is refused by name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasyncd.balance.dns_message import RCODES, TYPES, NotTheAnswer, decode_rcode, encode_query

QUERY = encode_query(0x1234, "www.example.org.", "AAAA")


def answer(query: bytes = QUERY, *, flags: int = 0x8180, rest: bytes = b"\xc0\x0c") -> bytes:
    """What a server says to a query."""
    return query[:2] + flags.to_bytes(2) + query[4:] + rest


def test_a_question_is_as_rfc_1035_has_it() -> None:
    assert bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\3www\7example\3org\0\0\x1c\0\1" == QUERY
    assert encode_query(0, ".", "NS") == bytes.fromhex("0000 0100 0001 0000 0000 0000 00 0002 0001")


@pytest.mark.parametrize("rcode", range(16))
def test_each_response_code_has_its_word(rcode: int) -> None:
    word = RCODES[rcode] if rcode < len(RCODES) else f"rcode {rcode}"
    assert decode_rcode(QUERY, answer(flags=0x8180 | rcode)) == word


def test_the_case_of_letters_says_nothing() -> None:
    assert decode_rcode(QUERY, answer().replace(b"example", b"eXAMPLe")) == "NOERROR"


def test_who_could_not_read_the_question_may_leave_it_out() -> None:
    assert decode_rcode(QUERY, QUERY[:2] + bytes.fromhex("8001 0000 0000 0000 0000")) == "FORMERR"
    with pytest.raises(NotTheAnswer):
        decode_rcode(QUERY, QUERY[:2] + bytes.fromhex("8000 0000 0000 0000 0000"))


@pytest.mark.parametrize(
    "other",
    [
        b"",
        QUERY,  # our own, reflected
        b"\x12\x35" + answer()[2:],
        answer(flags=0x8980),  # another opcode
        answer().replace(b"org", b"com"),
        answer().replace(b"\0\x1c\0\1", b"\0\1\0\1"),
        answer()[:20],
    ],
)
def test_what_answers_another_question_is_none(other: bytes) -> None:
    with pytest.raises(NotTheAnswer):
        decode_rcode(QUERY, other)


@given(st.binary(max_size=600) | st.binary(max_size=60).map(lambda tail: answer(rest=tail)))
def test_no_bytes_break_it(received: bytes) -> None:
    with contextlib.suppress(NotTheAnswer):
        assert decode_rcode(QUERY, received)


@given(
    st.integers(0, 65_535),
    st.lists(st.text("abcdefghij-0123", min_size=1, max_size=63), max_size=3).map(".".join),
    st.sampled_from(sorted(TYPES)),
)
def test_what_was_asked_is_answered(number: int, name: str, record_type: str) -> None:
    query = encode_query(number, name or ".", record_type)
    assert decode_rcode(query, answer(query, flags=0x8183)) == "NXDOMAIN"
