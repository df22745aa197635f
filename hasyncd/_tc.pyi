"""The loader of the flow cache (hasyncd/native/tc): built where clang and libbpf are.

Only datapath/tc.py imports it."""

from typing import TypedDict

class Loaded(TypedDict):
    """Descriptors of the program and its maps, the caller's to close; `cpus`: that the kernel counts with."""

    program: int
    flows: int
    flows6: int
    uses: int
    control: int
    counters: int
    whose: int
    cpus: int

def load(path: str, capacity: int, capacity6: int, /) -> Loaded:
    """Loads the object at `path` with room for so many flows, of these so many of IPv6.
    Raises OSError, which says what libbpf said."""

def attach_tcx(program: int, ifindex: int, /) -> int:
    """The descriptor of a link: it ends when nobody holds it. Raises OSError; EINVAL: a kernel before 6.6."""

def attach_clsact(program: int, ifindex: int, priority: int, /) -> None:
    """In place of what was there at that priority; outlives the process. Raises OSError."""

def detach_clsact(ifindex: int, priority: int, /) -> bool:
    """False: there was none."""

def put(map: int, key: bytes, value: bytes, /) -> None:
    """Raises OSError."""

def take_out(map: int, key: bytes, /) -> None:
    """Raises OSError."""
