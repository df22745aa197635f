"""Every vector of proto/vectors that the Python side can judge, judged; all of them, held to their script."""

from __future__ import annotations

import pytest

from hasyncd.core.wire import (
    FrameReader,
    Rejected,
    decode_frame,
    decode_heartbeat,
    encode_frame,
    encode_heartbeat,
)
from tests.proto.make_vectors import vectors
from tests.proto.messages_json import from_json, to_json
from tests.proto.record_bytes import pack
from tests.proto.vector_files import FOLDER, Vector, load, text

VECTORS = load()
MESSAGES = [vector for vector in VECTORS if vector.decode != "records"]


def decode(vector: Vector) -> object:
    if vector.decode == "heartbeat":
        return decode_heartbeat(vector.data)
    if vector.decode == "stream":
        [body] = FrameReader().feed(vector.data)
        return decode_frame(body)
    return decode_frame(vector.data)


@pytest.mark.parametrize("vector", MESSAGES, ids=lambda vector: vector.name)
def test_a_message_decodes_as_its_vector_says(vector: Vector) -> None:
    verdict, _, rejection = vector.expect.partition(" ")
    if verdict == "rejected":
        with pytest.raises(Rejected) as caught:
            decode(vector)
        assert caught.value.name == rejection
        return
    message = decode(vector)
    assert to_json(message) == vector.value
    again = from_json(vector.value)  # type: ignore[arg-type]
    if vector.decode == "heartbeat":
        assert encode_heartbeat(again) == vector.data  # type: ignore[arg-type]
    else:
        assert encode_frame(again)[4:] == vector.data  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v.decode == "records" and v.expect == "accepted"], ids=lambda v: v.name
)
def test_the_value_of_records_is_what_their_bytes_say(vector: Vector) -> None:
    assert isinstance(vector.value, list)
    assert b"".join(pack(record) for record in vector.value) == vector.data


def test_the_files_are_what_the_script_writes() -> None:
    files = {path.name: path.read_text() for path in FOLDER.glob("*.txt")}
    assert files == {f"{vector.name}.txt": text(vector) for vector in vectors()}
