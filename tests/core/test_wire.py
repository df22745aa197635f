"""Arbitrary bytes become a message or a named rejection; messages become bytes and come back."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasyncd.core.messages import (
    Deltas,
    Frame,
    Heartbeat,
    Hello,
    HelloReply,
    Leaving,
    Refuse,
    Resume,
    SyncBegin,
    SyncEnd,
)
from hasyncd.core.types import Role
from hasyncd.core.wire import (
    FRAME_BYTES_MAX,
    HEARTBEAT_BYTES_MAX,
    FrameReader,
    Rejected,
    decode_frame,
    decode_heartbeat,
    encode_frame,
    encode_heartbeat,
)

DECODER_NAMES = {
    "oversized",
    "malformed",
    "non_canonical",
    "unknown_type",
    "unknown_protocol",
    "bad_field",
    "count_mismatch",
}

u64 = st.integers(0, 2**64 - 1)
sequences = st.integers(1, 2**64 - 1)
nodes = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        Hello, st.just(1), nodes, u64, u64, st.binary(min_size=8, max_size=8),
        st.integers(1, 2**32 - 1), st.binary(min_size=16, max_size=16), st.integers(7, 2**63),
        resume_from=st.integers(1, 8),
    ),
    st.builds(
        HelloReply, st.just(1), nodes, u64, u64, u64, u64, st.booleans(),
        digests=st.lists(st.binary(min_size=8, max_size=8), max_size=40).map(b"".join),
    ),
    st.builds(Refuse, st.sampled_from(["generation", "capacity", "protocol", "role"])),
    st.builds(Resume, u64, sequences),
    st.builds(SyncBegin, u64, sequences, u64, st.binary(max_size=20)),
    st.integers(1, 40).flatmap(
        lambda n: st.builds(
            Deltas, u64, st.integers(1, 2**63), st.just(n), st.binary(min_size=12 * n, max_size=36 * n)
        )
    ),
    st.builds(SyncEnd, u64, u64, u64, u64),
    st.builds(Leaving, u64, u64, st.booleans()),
)  # fmt: skip
HEARTBEATS = st.builds(
    Heartbeat, st.just(2), nodes, u64, u64, st.sampled_from(Role), u64, u64, st.booleans(), st.booleans(),
    st.booleans(), u64, u64, u64, st.integers(0, 2**32 - 1), u64, u64, u64, u64, u64, u64,
    st.binary(min_size=8, max_size=8), st.lists(st.integers(0, 2**32 - 1), max_size=30).map(tuple),
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 1000),
)  # fmt: skip


def outcome(decode: Callable[[bytes], object], data: bytes) -> object:
    """The message, or the rejection's name."""
    try:
        return decode(data)
    except Rejected as rejected:
        return rejected.name


@given(FRAMES)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    encoded = encode_frame(frame)
    [body] = FrameReader().feed(encoded)
    assert decode_frame(body) == frame


@given(HEARTBEATS)
def test_a_heartbeat_comes_back_as_it_was(beat: Heartbeat) -> None:
    assert decode_heartbeat(encode_heartbeat(beat)) == beat


@given(st.binary(max_size=600))
@settings(max_examples=400)
def test_arbitrary_bytes_are_a_message_or_a_named_rejection(data: bytes) -> None:
    for decode in (decode_frame, decode_heartbeat):
        result = outcome(decode, data)
        assert not isinstance(result, str) or result in DECODER_NAMES


plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary()
    ),
    lambda inner: st.lists(inner, max_size=22) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=30,
)


@given(plain)
@settings(max_examples=400)
def test_arbitrary_msgpack_is_a_message_or_a_named_rejection(value: object) -> None:
    test_arbitrary_bytes_are_a_message_or_a_named_rejection.hypothesis.inner_test(  # type: ignore[attr-defined]
        msgpack.packb(value, use_bin_type=True)
    )


@given(FRAMES, st.data())
def test_a_damaged_frame_is_a_message_or_a_named_rejection(frame: Frame, data: st.DataObject) -> None:
    body = bytearray(encode_frame(frame)[4:])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    result = outcome(decode_frame, bytes(body))
    if isinstance(result, str):
        assert result in DECODER_NAMES
    else:
        assert encode_frame(result)[4:] == bytes(body), "one value, one form"  # type: ignore[arg-type]


@given(FRAMES, st.data())
def test_a_frame_cut_short_is_refused(frame: Frame, data: st.DataObject) -> None:
    body = encode_frame(frame)[4:]
    with pytest.raises(Rejected, match="malformed"):
        decode_frame(body[: data.draw(st.integers(0, len(body) - 1))])


@given(st.lists(FRAMES, max_size=6), st.data())
def test_chunks_do_not_matter_to_the_stream(frames: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(frame) for frame in frames)
    reader, heard = FrameReader(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        heard += [decode_frame(body) for body in reader.feed(stream[:cut])]
        stream = stream[cut:]
    assert heard == frames


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_its_body_comes(length: int) -> None:
    with pytest.raises(Rejected, match="oversized"):
        list(FrameReader().feed(length.to_bytes(4, "big")))


def test_a_longest_frame_is_taken_and_nothing_of_it_stays() -> None:
    reader = FrameReader()
    body = b"\x91" * FRAME_BYTES_MAX
    assert list(reader.feed(FRAME_BYTES_MAX.to_bytes(4, "big") + body[:-1])) == []
    assert list(reader.feed(body[-1:])) == [body]
    assert list(reader.feed(b"")) == []


def test_more_ring_generations_than_fit_are_left_away() -> None:
    beat = Heartbeat(
        1, "n" * 64, 2**64 - 1, 2**64 - 1, Role.PRIMARY, 2**64 - 1, 2**64 - 1, True, True, True,
        *[2**64 - 1] * 3, 2**32 - 1, *[2**64 - 1] * 6, b"\xff" * 8, tuple([2**32 - 1] * 1000), 2**40, 2**40,
    )  # fmt: skip
    payload = encode_heartbeat(beat)
    assert HEARTBEAT_BYTES_MAX - 10 < len(payload) <= HEARTBEAT_BYTES_MAX
    heard = decode_heartbeat(payload)
    assert heard.generation == 2**64 - 1
    assert (heard.at_risk, heard.at_risk_oldest_ms) == (2**32 - 1, 2**32 - 1), "more is not said"
    assert len(heard.ring_generations) > 50


def test_a_longer_form_of_the_same_number_is_refused() -> None:
    canonical = encode_frame(Resume(3, 200))[4:]
    assert canonical == bytes([0x93, 4, 3, 0xCC, 200])
    with pytest.raises(Rejected, match="non_canonical"):
        decode_frame(bytes([0x93, 4, 3, 0xCD, 0, 200]))


@pytest.mark.parametrize(
    "frame",
    [HelloReply(1, "b", 1, 1, 1, 1, True, digests=bytes(524_296)), SyncBegin(1, 1, 1, bytes(8193))],
    ids=["digests", "suspects"],
)
def test_no_table_has_more_buckets_than_65536(frame: Frame) -> None:
    with pytest.raises(Rejected, match="bad_field"):
        decode_frame(encode_frame(frame)[4:])


def test_the_longest_reply_fits_into_a_frame() -> None:
    reply = HelloReply(1, "b" * 64, 1, 1, 1, 1, True, digests=bytes(range(256)) * 2048)
    [body] = FrameReader().feed(encode_frame(reply))
    assert decode_frame(body) == reply
