"""Runs the flow cache's program on one frame (bpf(2), BPF_PROG_TEST_RUN): what the kernel runs, after its verifier."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass

_SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_PROG_TEST_RUN = 10
_CONTEXT = 192  # struct __sk_buff
_MARK_AT, _IFINDEX_AT = 8, 40
_ROOM = 4096
_libc = ctypes.CDLL(None, use_errno=True)

OK, UNSPEC, REDIRECT = 0, 0xFFFF_FFFF, 7


@dataclass(frozen=True, slots=True)
class Verdict:
    code: int
    frame: bytes
    mark: int

    @property
    def is_hit(self) -> bool:
        return self.code == REDIRECT

    @property
    def is_kept(self) -> bool:
        """For the engine's sockets and nobody else."""
        return self.code == OK and self.mark == 0x68617379


def run_program(program: int, ifindex: int, frame: bytes) -> Verdict:
    """What the program makes of a frame that comes in by the interface of this namespace."""
    given, taken = ctypes.create_string_buffer(frame, len(frame)), ctypes.create_string_buffer(_ROOM)
    context = bytearray(_CONTEXT)
    struct.pack_into("=I", context, _IFINDEX_AT, ifindex)
    inside = ctypes.create_string_buffer(bytes(context), _CONTEXT)
    outside = ctypes.create_string_buffer(_CONTEXT)
    attribute = ctypes.create_string_buffer(
        struct.pack(
            "=IIIIQQIIIIQQIII",
            program, 0, len(frame), _ROOM, ctypes.addressof(given), ctypes.addressof(taken),
            1, 0, _CONTEXT, _CONTEXT, ctypes.addressof(inside), ctypes.addressof(outside), 0, 0, 0,
        )
    )  # fmt: skip
    if _libc.syscall(_SYS_BPF, _PROG_TEST_RUN, attribute, len(attribute) - 1) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _, code, _, length = struct.unpack_from("=IIII", attribute.raw)
    (mark,) = struct.unpack_from("=I", outside.raw, _MARK_AT)
    return Verdict(code, taken.raw[:length], mark)
