"""libFuzzer on the three targets of fuzz_target.c, under the address and undefined-behaviour sanitizers.

    python -m tests.native.fuzzing [SECONDS]     each target for so long (600), from the seeds below; `tests/run fuzz`

The seeds are made here, from frames.py and the vectors of proto/, and go to a directory of the target beside what is
found: in /var/tmp/hasyncd-fuzz, or where HS_FUZZ_DIRECTORY says. A crash leaves its input there and its name in the
output; `HS_FUZZ_TARGET=TARGET DIRECTORY/fuzz_target INPUT` runs it once more.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.native import frames, frames6
from tests.native.frames import ACK, FIN, ICMP, RST, SYN, TCP, UDP, ipv4
from tests.native.sanitized import NATIVE, ROOT

TARGETS = ("receive", "rewrite", "install")
CLANG = "clang-14"
PACKAGES = "clang-14 libclang-rt-14-dev"
FOUND = "/var/tmp/hasyncd-fuzz"
FLAGS = ["-std=c11", "-g", "-O1", "-D_GNU_SOURCE", f"-I{NATIVE}", f"-I{Path(__file__).parent}"]
FLAGS += ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
HOST, SERVER, CLIENT, VIP, PUBLIC = "10.0.1.7", "8.8.8.8", "198.51.100.9", "203.0.113.5", "203.0.113.6"
HOST6, SERVER6, CLIENT6 = "2001:db8:1::7", "2001:4860:4860::8888", "2001:db8:5::9"
VIP6, OWN6 = "2001:db8:2::5", "2001:db8:1::1"
INSIDE, OUTSIDE, REPAIR, LATER, TICK, COMMIT = 0, 1, 8, 16, 32, 64


def build(directory: Path) -> Path:
    """One program for the three targets."""
    made = directory / "fuzz_target"
    sources = map(str, [Path(__file__).parent / "fuzz_target.c", *sorted((NATIVE / "core").glob("*.c"))])
    try:
        done = subprocess.run(
            [CLANG, *FLAGS, *sources, "-o", str(made)], check=False, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"{CLANG} is not installed: {PACKAGES} (tests/run does that)") from error
    assert done.returncode == 0, done.stderr
    return made


# --- seeds ------------------------------------------------------------------------------------------------


def piece(side: int, frame: bytes, control: int = 0) -> bytes:
    return struct.pack("!BH", side | control, len(frame)) + frame


def stories() -> Iterator[bytes]:
    """A packet, an answer, an end: what random bytes would not find."""
    ways = (
        (INSIDE, HOST, SERVER, 53),
        (OUTSIDE, CLIENT, VIP, 80),
        (OUTSIDE, CLIENT, PUBLIC, 8443),
        (INSIDE, HOST, PUBLIC, 8443),
    )
    for side, source, target, port in ways:
        ends = source, 5000, target, port
        segments = [frames.tcp(*ends, flags) for flags in (SYN, ACK, FIN | ACK, RST)]
        datagrams = [frames.udp(*ends, b"data", summed=summed) for summed in (True, False)]
        for talk in (segments, datagrams):
            yield b"".join(piece(side, frame, REPAIR) for frame in talk)
            yield b"".join(piece(side, frame, REPAIR | LATER | TICK | COMMIT) for frame in talk)
    for port in range(40000, 40032, 8):  # one of them is the port that was given
        there, back = (
            frames.udp(HOST, 5000, SERVER, 53, b"data"),
            frames.udp(SERVER, 53, PUBLIC, port, b"back"),
        )
        told = frames.error("192.0.2.1", PUBLIC, back[14:42])
        yield piece(INSIDE, there) + piece(OUTSIDE, back, REPAIR) + piece(OUTSIDE, told, REPAIR)
    whole = frames.datagram(HOST, 5000, SERVER, 53, b"x" * 64)
    first = frames.ethernet(ipv4(HOST, SERVER, UDP, whole[:32], fragment=0x2000))
    later = frames.ethernet(ipv4(HOST, SERVER, UDP, whole[32:], fragment=4))
    yield piece(INSIDE, first) + piece(INSIDE, later)
    yield piece(INSIDE, later) + piece(INSIDE, first)
    yield piece(INSIDE, frames.echo(HOST, SERVER, 7)) + piece(INSIDE, frames.echo(HOST, VIP, 7))
    yield piece(INSIDE, frames.echo(HOST, SERVER, 7, ttl=1)) + piece(
        INSIDE, frames.arp(1, b"\6" * 6, HOST, "10.0.1.1")
    )


def stories6() -> Iterator[bytes]:
    ways = (
        (INSIDE, HOST6, SERVER6, 53),
        (OUTSIDE, CLIENT6, VIP6, 80),
        (OUTSIDE, CLIENT6, "2001:db8:1::8", 22),
    )
    for side, source, target, port in ways:
        ends = source, 5000, target, port
        segments = [frames6.tcp6(*ends, flags) for flags in (SYN, ACK, FIN | ACK, RST)]
        for talk in (segments, [frames6.udp6(*ends, b"data"), frames6.echo6(source, target, 7)]):
            yield b"".join(piece(side, frame, REPAIR) for frame in talk)
            yield b"".join(piece(side, frame, REPAIR | LATER | TICK | COMMIT) for frame in talk)
    there, back = (
        frames6.udp6(HOST6, 5000, SERVER6, 53, b"data"),
        frames6.udp6(SERVER6, 53, HOST6, 5000, b"back"),
    )
    told = frames6.error6("2001:db8:ffff::1", HOST6, there[14:])
    yield piece(INSIDE, there) + piece(OUTSIDE, back) + piece(OUTSIDE, told)
    whole = frames6.datagram6(HOST6, 5000, SERVER6, 53, b"x" * 64)
    first, later = (
        frames6.ethernet6(
            frames6.ipv6(HOST6, SERVER6, frames6.FRAGMENT, frames6.fragment_header(UDP, *place) + part)
        )
        for place, part in (((0, True), whole[:32]), ((32, False), whole[32:]))
    )
    yield piece(INSIDE, first) + piece(INSIDE, later)
    yield piece(INSIDE, later) + piece(INSIDE, first)
    chain = (
        frames6.extension(60)
        + frames6.extension(43, 16)
        + frames6.extension(UDP, 24, b"\2\0\0\0\0\0")
        + whole
    )
    yield piece(INSIDE, frames6.ethernet6(frames6.ipv6(HOST6, SERVER6, frames6.HOP_BY_HOP, chain)))
    yield piece(INSIDE, frames6.udp6(HOST6, 5000, SERVER6, 53, hops=1)) + piece(
        INSIDE, frames6.udp6(HOST6, 1, SERVER6, 2, bytes(1500))
    )
    yield piece(INSIDE, frames6.echo6(HOST6, OWN6, 7)) + piece(INSIDE, frames6.solicitation(HOST6, OWN6))
    yield piece(INSIDE, frames6.solicitation("::", OWN6, mac=None)) + piece(
        INSIDE, frames6.advertisement(OWN6, OWN6, b"\6" * 6)
    )


def rewrites() -> Iterator[bytes]:
    ends = bytes(range(1, 13))
    options = b"\x94\x04\0\0"
    for partial in (b"\0", b"\1"):
        yield ends + partial + frames.tcp(HOST, 5000, SERVER, 80, SYN, b"odd")
        yield ends + partial + frames.udp(HOST, 5000, SERVER, 53, b"odd")
        yield ends + partial + frames.udp(HOST, 5000, SERVER, 53, summed=False)
        segment = frames.segment(HOST, 5000, SERVER, 80, ACK, b"data")
        yield ends + partial + frames.ethernet(ipv4(HOST, SERVER, TCP, segment, options=options))
    # Data for which the checksum towards the new ends is 0, which has to become 0xffff.
    head = struct.pack("!HHHH", 0x090A, 0x0B0C, 10, 0)
    word = frames.checksum(frames.pseudo_header("1.2.3.4", "5.6.7.8", UDP, 10) + head)
    yield ends + b"\0" + frames.udp(HOST, 5000, SERVER, 53, struct.pack("!H", word))
    yield ends + b"\0" + frames.echo(HOST, SERVER, 7)
    yield ends + b"\0" + frames.ethernet(ipv4(HOST, SERVER, ICMP, frames.icmp(0, 0, 7 << 16, b"odd")))


def records() -> Iterator[bytes]:
    """Every record of proto/vectors, alone and one behind the other."""
    found = []
    for file in sorted((ROOT / "proto" / "vectors").glob("records_*.txt")):
        lines = file.read_text().split("\n\n", 1)[1].splitlines()
        found.append(bytes.fromhex(" ".join(line.partition("#")[0] for line in lines)))
    assert len(found) > 5, "the vectors of records"
    yield from found
    yield b"".join(found)


def all_stories() -> Iterator[bytes]:
    yield from stories()
    yield from stories6()


SEEDS = {"receive": all_stories, "rewrite": rewrites, "install": records}


def write_seeds(target: str, directory: Path) -> Path:
    corpus = directory / f"corpus_{target}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]()):
        (corpus / f"seed_{number:03}").write_bytes(seed)
    return corpus


# --- runs -------------------------------------------------------------------------------------------------


def fuzz(program: Path, target: str, directory: Path, seconds: int, *, seed: int = 1) -> str:
    """Runs a target for `seconds`; what libFuzzer said. AssertionError: it found something, and says what."""
    corpus = write_seeds(target, directory)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        "-max_len=2048",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    environment = {
        "HS_FUZZ_TARGET": target,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    # Through a shell: libFuzzer's limit is for the peak since the fork, and a child of ours begins with our own peak.
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", program, *options, f"-artifact_prefix={directory}/{target}-", corpus],
        check=False, capture_output=True, text=True, errors="replace", timeout=seconds + 120,
        env=os.environ | environment,
    )  # fmt: skip
    said = done.stdout[-4000:] + done.stderr[-12_000:]
    assert done.returncode == 0, said
    return said


def main(arguments: list[str]) -> None:
    seconds = int(arguments[0]) if arguments else 600
    directory = Path(os.environ.get("HS_FUZZ_DIRECTORY", FOUND))
    directory.mkdir(parents=True, exist_ok=True)
    program = build(directory)
    for target in TARGETS:
        print(f"{target}: {seconds} s", flush=True)
        said = fuzz(program, target, directory, seconds, seed=0)
        print("\n".join(line for line in said.splitlines() if line.startswith(("stat::", "Done"))))


if __name__ == "__main__":
    main(sys.argv[1:])
