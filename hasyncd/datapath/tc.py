"""The tc engine: the packet engine, and before it a program of the kernel's that forwards established flows by itself.

Links of tcx die with the process. Where the kernel has none (before 6.6) the program hangs at clsact, which outlives
it: there the lease ends it, and a successor replaces it. Whatever is not forwarded goes up to the engine's
sockets, which then see only that; what is the engine's is kept from the stack as `kernel_drop` does it, and by it once
this is gone.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hasyncd.addresses import Address, Network
from hasyncd.datapath.interfaces import Interface, local_addresses
from hasyncd.datapath.packet import Engine

if TYPE_CHECKING:
    from hasyncd._tc import Loaded

OBJECT: Final = Path(__file__).with_name("flow_cache.bpf.o")
CLSACT_PRIORITY: Final = 60
"""Before kernel_drop's filters: what the program lets pass is asked there, what it keeps for the engine is not."""

HOST: Final = 1
OWNED: Final = 2
GROUP: Final = 4
LINK: Final = 8
PRIVATE: Final = 16
"""enum hs_cache_whose."""
_EVERYWHERE: Final[tuple[tuple[Network, int], ...]] = (
    (IPv4Network("224.0.0.0/3"), GROUP),
    (IPv6Network("ff00::/8"), GROUP),
    (IPv6Network("fe80::/10"), LINK),
)
_KEY: Final = struct.Struct("=I16s")  # struct hs_cache_prefix
_VALUE: Final = struct.Struct("=I")
_MAPPED: Final = b"\0" * 10 + b"\xff" * 2


class TcUnavailable(Exception):
    """The tc engine cannot run here; the text says what is missing."""


def judge_prefixes(
    own: Iterable[Address], owned: Iterable[Network], private: Iterable[Network]
) -> dict[bytes, int]:
    """The longest-prefix map of the program: what each prefix is, what wider ones say of it included."""
    said: dict[Network, int] = {}
    for network, what in (
        *_EVERYWHERE,
        *((ip_network(address), HOST) for address in own),
        *((network, OWNED) for network in owned),
        *((network, PRIVATE) for network in private),
    ):
        said[network] = said.get(network, 0) | what
    return {_key(network): _inherit(network, said) for network in said}


def _inherit(network: Network, said: dict[Network, int]) -> int:
    what = 0
    for wider, meaning in said.items():
        if wider.version == network.version and network.subnet_of(wider):  # type: ignore[arg-type]
            what |= meaning
    return what


def _key(network: Network) -> bytes:
    if isinstance(network, IPv4Network):
        return _KEY.pack(network.prefixlen + 96, _MAPPED + network.network_address.packed)
    return _KEY.pack(network.prefixlen, network.network_address.packed)


class FlowCache:
    """The program with its maps, on the gateway's interfaces from `attach` to `close`."""

    def __init__(self, capacity: int, *, ipv6: bool = True) -> None:
        """Loads it, for `capacity` flows, some of IPv6 among them or none. Raises TcUnavailable."""
        self._loader = _import_loader()
        if not OBJECT.exists():
            raise TcUnavailable(f"{OBJECT.name} was not built: clang was missing")
        try:
            self._loaded: Loaded = self._loader.load(str(OBJECT), capacity, capacity if ipv6 else 0)
        except OSError as error:
            raise TcUnavailable(_explain(error)) from error
        self._descriptors = [value for name, value in self._loaded.items() if name != "cpus"]
        self._links: list[int] = []
        self._filtered: list[int] = []
        self._judged: dict[bytes, int] = {}

    @property
    def program(self) -> int:
        """Its descriptor."""
        return self._loaded["program"]

    @property
    def maps(self) -> Loaded:
        return self._loaded

    @property
    def hook(self) -> str:
        """How it hangs on the interfaces: "tcx" or "clsact"."""
        return "clsact" if self._filtered else "tcx"

    def keep(self, own: Iterable[Address], owned: Iterable[Network], private: Iterable[Network]) -> None:
        """Whose addresses are whose, from now on. Raises OSError."""
        judged = judge_prefixes(own, owned, private)
        for key, what in judged.items():
            if self._judged.get(key) != what:
                self._loader.put(self._loaded["whose"], key, _VALUE.pack(what))
        for key in self._judged.keys() - judged.keys():
            self._loader.take_out(self._loaded["whose"], key)
        self._judged = judged

    def keep_machine(self, owned: Sequence[Network], private: Sequence[Network]) -> None:
        """The same with the machine's own addresses as they are now. Raises OSError."""
        self.keep((local.address.ip for local in local_addresses()), owned, private)

    def attach(self, interfaces: Sequence[Interface], *, tcx: bool = True) -> None:
        """From now on it sees every packet that comes in. `tcx`: where the kernel has it. Raises TcUnavailable."""
        try:
            for interface in interfaces:
                with contextlib.suppress(OSError):  # of a predecessor that was killed
                    self._loader.detach_clsact(interface.index, CLSACT_PRIORITY)
                self._attach(interface.index, tcx=tcx)
        except OSError as error:
            self.close()
            raise TcUnavailable(_explain(error)) from error

    def _attach(self, index: int, *, tcx: bool) -> None:
        if tcx:
            try:
                self._links.append(self._loader.attach_tcx(self.program, index))
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        self._loader.attach_clsact(self.program, index, CLSACT_PRIORITY)
        self._filtered.append(index)

    def join(self, engine: Engine, inside: Interface, outside: Interface) -> None:
        """The engine's flows are in it from now on. Raises OSError."""
        maps = self._loaded
        engine.use_cache(
            (maps["flows"], maps["flows6"], maps["uses"], maps["control"], maps["counters"]),
            maps["cpus"],
            (inside.index, outside.index),
        )

    def close(self) -> None:
        """Takes it off the interfaces."""
        for index in self._filtered:
            self._loader.detach_clsact(index, CLSACT_PRIORITY)
        for descriptor in (*self._links, *self._descriptors):
            os.close(descriptor)
        self._links, self._descriptors, self._filtered = [], [], []


def _import_loader() -> Any:
    try:
        return importlib.import_module("hasyncd._tc")
    except ModuleNotFoundError:
        raise TcUnavailable("hasyncd was built without it: clang or libbpf-dev was missing") from None
    except ImportError as error:
        raise TcUnavailable(f"its loader cannot be loaded: {error}") from error


def _explain(error: OSError) -> str:
    text = str(error.args[-1])
    if error.errno in (errno.EPERM, errno.EACCES):
        text += " (it needs CAP_BPF and CAP_NET_ADMIN)"
    return text
