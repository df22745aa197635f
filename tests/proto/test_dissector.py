"""proto/hasync.lua, as tshark runs it: every vector is shown as the page says, and nothing makes it stumble."""

from __future__ import annotations

import random
from collections.abc import Mapping
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from hasyncd.core.members import encode_members
from hasyncd.core.messages import Deltas, Members
from hasyncd.core.paths import NAMES as PATHS
from hasyncd.core.paths import bit_of
from hasyncd.core.versions import PROTOCOL_OF_FITNESS, PROTOCOL_OF_MEMBERS, PROTOCOL_OF_YOUTH
from hasyncd.core.wire import encode_frame
from tests.proto.make_vectors import BEAT, DELTAS, HELLO
from tests.proto.messages_json import from_json
from tests.proto.record_bytes import ADD_LB, ADD_NAT, DEL, UPDATE, pack
from tests.proto.vector_files import Vector, load
from tests.proto.wireshark import datagram, dissect, findings, segment, tshark, write_capture

VECTORS = [vector for vector in load() if vector.data or vector.decode != "frame"]
"""An empty body has no place on a wire: its length is refused."""
OF_THE_PAIR = {"stale_version", "unknown_handle", "handle_out_of_range"}
"""What a node rejects for its keys or its table, and nobody beside the wire can judge."""
Fields = Mapping[str, list[str]]


def wrapped(vector: Vector, number: int) -> bytes:
    """The vector as it would stand on the wire."""
    if vector.decode in ("heartbeat", "sealed"):
        return datagram(vector.data)
    if vector.decode == "stream":
        return segment(vector.data, 20_000 + number)
    if vector.decode == "records":
        accepted = vector.expect == "accepted" and isinstance(vector.value, list)
        count = len(vector.value) if accepted else (vector.installed or 0) + 1  # type: ignore[arg-type]
        return segment(encode_frame(Deltas(7, 100, count, vector.data)), 20_000 + number)
    return segment(len(vector.data).to_bytes(4, "big") + vector.data, 20_000 + number)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fields]:
    """What tshark shows of each vector."""
    capture = tmp_path_factory.mktemp("capture") / "vectors.pcap"
    write_capture(capture, (wrapped(vector, number) for number, vector in enumerate(VECTORS)))
    return dict(zip((vector.name for vector in VECTORS), dissect(capture), strict=True))


def same(shown_text: str, value: object) -> bool:
    match value:
        case bool():
            return shown_text in ("1", "True") if value else shown_text in ("0", "False")
        case int() if "." in shown_text:
            return shown_text == ".".join(str(octet) for octet in value.to_bytes(4, "big"))
        case int():
            return int(shown_text, 0) == value
        case str() if "::" in value:
            return IPv6Address(shown_text) == IPv6Address(value)
        case _:
            return shown_text.replace(":", "") == value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_what_a_node_rejects_is_marked_by_the_same_name_and_nothing_else_is(
    vector: Vector, shown: dict[str, Fields]
) -> None:
    rejection = vector.expect.removeprefix("rejected ")
    found = findings(shown[vector.name])  # type: ignore[arg-type]
    if rejection == "accepted" or rejection in OF_THE_PAIR:
        assert found == []
    elif rejection != "unauthenticated":  # the key is the pair's
        assert rejection in found


ROLES = {"init": 0, "backup": 1, "primary": 2, "fault": 3}
SINCE = {"fitness": PROTOCOL_OF_FITNESS, "young": PROTOCOL_OF_YOUTH, "tables": PROTOCOL_OF_MEMBERS}
"""The version that brought an element of the heartbeat."""
SHOWN_ELSEWHERE = {"type", "leaving", "ready", "solo", "hears"}


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v.expect == "accepted" and v.decode != "records"],
    ids=lambda vector: vector.name,
)
def test_every_field_of_a_message_is_shown_with_its_value(vector: Vector, shown: dict[str, Fields]) -> None:
    assert isinstance(vector.value, dict)
    fields = shown[vector.name]
    for name, value in vector.value.items():
        if name in SHOWN_ELSEWHERE:
            continue
        wanted = value if isinstance(value, list) else [ROLES[value] if name == "role" else value]
        found = fields.get(f"hasync.{name}", [])
        if value == "":  # a bin of nothing: there is nothing to show
            wanted = []
        if name in SINCE and int(str(vector.value["protocol"])) < SINCE[name]:
            wanted = []  # what it counts as was not said
        if name == "members":
            said = from_json(vector.value)
            assert isinstance(said, Members)
            wanted = [encode_members(said.members).hex()] if said.members else []
        assert len(found) == len(wanted), name
        assert all(map(same, found, wanted)), f"{name}: {found} is not {wanted}"
    for name in vector.value.keys() & {"leaving", "ready", "solo"}:
        assert same(fields[f"hasync.flags.{name}"][0], vector.value[name])
    if "hears" in vector.value:
        for path in PATHS:
            wanted_bit = bool(int(str(vector.value["hears"])) & bit_of(path))
            assert same(fields[f"hasync.flags.hears_{path}"][0], wanted_bit)


def with_long_names(record: Mapping[str, object]) -> dict[str, object]:
    """Addresses of IPv6 are fields of their own."""
    longer = "6" if record["kind"] == "ADD6" else ""
    return {name + longer if name.endswith("_addr") else name: value for name, value in record.items()}


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v.expect == "accepted" and v.decode == "records"],
    ids=lambda vector: vector.name,
)
def test_every_field_of_a_record_is_shown_with_its_value(vector: Vector, shown: dict[str, Fields]) -> None:
    assert isinstance(vector.value, list)
    fields, records = shown[vector.name], [with_long_names(each) for each in vector.value]
    names = {name for each in records for name in each} - {"kind"}
    for name in names:
        values = [each[name] for each in records if name in each]
        found = fields[f"hasync.record.{name}"]
        if name in ("flags", "timeout_s"):  # shown of each record, zeros too
            values = [each.get(name, 0) for each in records]
        if name == "state":
            values = [each.get(name, 0) for each in records if "reason" not in each]
        assert len(found) == len(values), name
        assert all(map(same, found, values)), f"{name}: {found} is not {values}"
    assert fields["hasync.record.sequence"] == [str(100 + index) for index in range(len(vector.value))]


IPV6 = bytes.fromhex(
    "06 02 05 00 00000011 0001 003c"
    "20010db8000000000000000000000007 20010db8000000000000000000000050 20010db80000000000000000000000aa"
    "9c40 0035 1f90 0000"
)


def test_an_add_with_ipv6_addresses(tmp_path: Path) -> None:
    frame = encode_frame(Deltas(7, 1, 2, IPV6 + pack(DEL)))
    [fields] = dissect(write_capture(tmp_path / "six.pcap", [segment(frame, 4000)]))
    assert findings(fields) == []
    assert fields["hasync.record.kind"] == ["6", "3"]
    assert fields["hasync.record.src_addr6"] == ["2001:db8::7"]
    assert fields["hasync.record.dst_addr6"] == ["2001:db8::50"]
    assert fields["hasync.record.nat_addr6"] == ["2001:db8::aa"]
    ports = [fields[f"hasync.record.{name}_port"] for name in ("src", "dst", "nat")]
    assert ports == [["40000"], ["53"], ["8080"]]


def test_a_sealed_heartbeat_shows_its_seal_and_its_body(shown: dict[str, Fields]) -> None:
    sealed = next(vector for vector in VECTORS if vector.name == "sealed_heartbeat")
    assert shown[sealed.name]["hasync.seal"][0].replace(":", "") == sealed.data[:16].hex()
    assert shown[sealed.name]["hasync.node"] == ["gw-a"]
    assert "hasync.seal" not in shown["heartbeat_primary"]


# --- the stream ----------------------------------------------------------------------------------------------


def story() -> bytes:
    """A handshake's frames and a thousand records, as one stream of bytes."""
    records = [pack({**(ADD_LB if n % 2 else ADD_NAT), "handle": n}) for n in range(1000)]
    batches = [Deltas(7, 1 + at, 100, b"".join(records[at : at + 100])) for at in range(0, 1000, 100)]
    return b"".join(map(encode_frame, [HELLO, *batches, Deltas(7, 1001, 1, pack(UPDATE))]))


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    packets, at = [], 0
    while at < len(stream):
        size = sizes[len(packets) % len(sizes)]
        packets.append(segment(stream[at : at + size], 4000, 1 + at))
        at += size
    return packets


@pytest.mark.parametrize("sizes", [[60_000], [1448], [3, 5], [1], [700, 1, 2, 3]], ids=str)
def test_frames_are_found_however_tcp_has_cut_them(tmp_path: Path, sizes: list[int]) -> None:
    stream = story() if sizes != [1] else story()[:3000]
    capture = write_capture(tmp_path / "story.pcap", cut(stream, sizes))
    packets = dissect(capture, "-Y", "hasync.type")
    assert [name for packet in packets for name in findings(packet)] == []
    types = [kind for packet in packets for kind in packet["hasync.type"]]
    handles = [number for packet in packets for number in packet.get("hasync.record.handle", [])]
    if sizes == [1]:
        assert types[0] == "1"
        return
    assert types == ["1"] + ["6"] * 11
    assert handles == [str(n) for n in range(1000)] + ["17"]
    sequences = [number for packet in packets for number in packet.get("hasync.record.sequence", [])]
    assert sequences == [str(1 + n) for n in range(1001)]


def test_other_ports_are_recognised_or_given(tmp_path: Path) -> None:
    first, later = encode_frame(HELLO), encode_frame(DELTAS)
    packets = [segment(first, 4000, port=9000), segment(later, 4000, 1 + len(first), port=9000)]
    packets += [datagram(VECTOR_BEAT, port=9000)]
    capture = write_capture(tmp_path / "elsewhere.pcap", packets)
    by_looks = dissect(capture)
    assert ["hasync.generation" in packet for packet in by_looks] == [True] * 3
    not_asked = dissect(capture, "-o", "hasync.anywhere:false")
    assert ["hasync.generation" in packet for packet in not_asked] == [False] * 3
    told = dissect(capture, "-o", "hasync.anywhere:false", "-o", "hasync.ports:9000")
    assert ["hasync.generation" in packet for packet in told] == [True] * 3


def test_strangers_on_other_ports_are_left_alone(tmp_path: Path) -> None:
    rng = random.Random(1)
    packets = [segment(b"GET / HTTP/1.1\r\n\r\n", 4000, port=8000), datagram(bytes(100), port=8000)]
    packets += [segment(rng.randbytes(200), 5000 + n, port=8000) for n in range(200)]
    assert tshark(write_capture(tmp_path / "strangers.pcap", packets), "-Y", "hasync") == ""


VECTOR_BEAT = next(vector.data for vector in VECTORS if vector.name == "heartbeat_primary")


def test_whatever_the_bytes_are_the_script_never_fails(tmp_path: Path) -> None:
    """Vectors with bytes changed, cut away and put in: what is wrong is marked, and the next packet is shown."""
    rng = random.Random(20_261_123)
    packets = []
    for number in range(4000):
        vector = rng.choice(VECTORS)
        data = bytearray(wrapped(vector, number))
        head = 28 if vector.decode in ("heartbeat", "sealed") else 40
        for _ in range(rng.randint(1, 4)):
            at = rng.randint(head, max(head, len(data) - 1))
            match rng.randint(0, 3):
                case 0 if at < len(data):
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randint(1, 9)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 9))
                case _ if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
        body = bytes(data[head:])
        packets.append(datagram(body) if head == 28 else segment(body, 10_000 + number))
    capture = write_capture(tmp_path / "hostile.pcap", [*packets, datagram(VECTOR_BEAT)])
    shown = dissect(capture)  # fails where the script did
    assert len(shown) == len(packets) + 1
    assert sum(bool(findings(packet)) for packet in shown) > len(packets) // 3
    assert shown[-1]["hasync.counter"] == [str(BEAT.counter)]


def test_a_capture_that_kept_only_the_first_bytes_of_packets_is_shown_as_far_as_it_goes(
    tmp_path: Path,
) -> None:
    packets = [wrapped(vector, number)[:60] for number, vector in enumerate(VECTORS)]
    assert len(dissect(write_capture(tmp_path / "short.pcap", packets))) == len(VECTORS)
