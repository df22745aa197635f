"""Network namespaces for tests: made with unique names, entered, and removed on every way out."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x4000_0000
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> str:
    """Runs a command to its end; its standard output. Fails loudly."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Namespace:
    """A network namespace with loopback up, forwarding off and IPv6 silent."""

    def __init__(self) -> None:
        self.name = f"hs-{os.getpid()}-{next(_numbers)}"
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        self.sysctl("ipv4/ip_forward", "0")
        self.sysctl("ipv6/conf/default/disable_ipv6", "1")

    def speak_ipv6(self) -> None:
        """Interfaces get link-local addresses, usable at once (no duplicate address detection)."""
        with self.entered():
            # The last one lets the interfaces that are there begin, each by its own settings.
            for name in ("accept_dad", "accept_ra", "disable_ipv6"):
                for interface in Path("/proc/sys/net/ipv6/conf").iterdir():
                    (interface / name).write_text("0", encoding="ascii")

    def close(self) -> None:
        run("ip", "netns", "del", self.name)

    def ip(self, *arguments: str) -> str:
        """Runs `ip` in the namespace."""
        return run("ip", "-n", self.name, *arguments)

    def run(self, *command: str) -> str:
        """Runs any command in the namespace."""
        return run("ip", "netns", "exec", self.name, *command)

    def sysctl(self, path: str, value: str) -> None:
        with self.entered():
            Path("/proc/sys/net", path).write_text(value, encoding="ascii")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the namespace; sockets opened meanwhile stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(f"/run/netns/{self.name}")
            try:
                yield
            finally:
                _enter(f"/proc/self/fd/{home}")
        finally:
            os.close(home)

    def counters(self, group: str) -> dict[str, int]:
        """The kernel's counters of `Ip`, `Icmp`, `Tcp` … in the namespace."""
        lines = self.run("cat", "/proc/net/snmp").splitlines()
        names, values = [line.split()[1:] for line in lines if line.startswith(f"{group}:")]
        return dict(zip(names, map(int, values), strict=True))


def _enter(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


@contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """`count` namespaces, removed at the end."""
    made: list[Namespace] = []
    try:
        for _ in range(count):
            namespace = Namespace()
            made.append(namespace)
        yield made
    finally:
        for namespace in made:
            namespace.close()


def join(left: Namespace, left_name: str, right: Namespace, right_name: str) -> None:
    """A cable: two veth ends, up."""
    left.ip("link", "add", left_name, "type", "veth", "peer", "name", right_name, "netns", right.name)
    left.ip("link", "set", left_name, "up")
    right.ip("link", "set", right_name, "up")
