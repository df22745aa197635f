"""The incumbent's bed: two kernels with nft NAT, and conntrackd (FTFW) on both where it is wanted.

Same links, same cores, same load as `pair_bed.py`. The configuration is what the package's example for FTFW and its
manual recommend, with room for the flows that are measured; it speaks unicast UDP over the link, not encrypted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from hasyncd.bench.cores import ENDS_CORE, GATEWAY_CORE
from hasyncd.bench.pair_bed import BACKUP_ADDRESS, GATEWAY_ADDRESS, SyncLinkBed
from hasyncd.lab.namespaces import LabError, inside, write_sysctls

_READY_S = 30
_CONFIGURATION = """
Sync {{
    Mode FTFW {{
        ResendQueueSize 131072
        ACKWindowSize 300
        DisableExternalCache Off
    }}
    UDP {{
        IPv4_address {own}
        IPv4_Destination_Address {other}
        Port 3780
        Interface sync
        SndSocketBuffer 24985600
        RcvSocketBuffer 24985600
        Checksum on
    }}
}}
General {{
    HashSize 262144
    HashLimit 4194304
    LogFile {directory}/{name}.log
    Syslog off
    LockFile {directory}/{name}.lock
    UNIX {{
        Path {directory}/{name}.ctl
    }}
    NetlinkBufferSize 8388608
    NetlinkBufferSizeMaxGrowth 134217728
    Filter From Kernelspace {{
        Protocol Accept {{
            TCP
            UDP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address {own}
            IPv4_address {other}
        }}
    }}
}}
"""
_TIMEOUTS = {
    # Flows of which only one packet was seen stay as long as a measurement lasts.
    "net/netfilter/nf_conntrack_udp_timeout": 600,
    "net/netfilter/nf_conntrack_events": 1,
}


def program() -> str | None:
    """Where conntrackd is; None: it is not installed (Debian package conntrackd)."""
    return shutil.which("conntrackd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def version() -> str:
    """As it says itself."""
    told = subprocess.run([program() or "conntrackd", "-v"], capture_output=True, text=True, check=False)
    return (told.stdout or told.stderr).strip().splitlines()[0].rstrip(".")


class KernelPairBed(SyncLinkBed):
    """The kernel forwards; with `synced`, conntrackd tells the other kernel's conntrackd."""

    def __init__(self, name: str, *, synced: bool) -> None:
        super().__init__("kernel", name)
        self._synced = synced
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def _start_kernel(self) -> None:
        super()._start_kernel()
        self.run(self.backup, "nft", self.rules)  # so that it tracks at all, and commits find their NAT
        for namespace in (self.middle, self.backup):
            write_sysctls(namespace, _TIMEOUTS)
        if self._synced:
            self._start_daemon_of("a", self.middle, GATEWAY_CORE, (GATEWAY_ADDRESS, BACKUP_ADDRESS))
            self.start_backup()

    def start_backup(self) -> None:
        """conntrackd on the backup, with empty caches. Raises LabError."""
        self._start_daemon_of("b", self.backup, ENDS_CORE, (BACKUP_ADDRESS, GATEWAY_ADDRESS))

    def _start_daemon_of(self, name: str, namespace: str, core: int, addresses: tuple[str, str]) -> None:
        file = self.directory / f"{name}.conf"
        file.write_text(
            _CONFIGURATION.format(own=addresses[0], other=addresses[1], directory=self.directory, name=name)
        )
        command = ["taskset", "-c", str(core), program() or "conntrackd", "-C", str(file)]
        self._daemons[name] = self.start(namespace, *command)
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if self._daemons[name].poll() is not None:
                break
            if (self.directory / f"{name}.ctl").exists():
                return
            time.sleep(0.05)
        raise LabError(f"conntrackd does not start: {self._messages(name)}")

    def order(self, name: str, *flags: str) -> str:
        """What `conntrackd FLAGS` prints for the daemon `a` (gateway) or `b` (backup). Raises LabError."""
        namespace = self.middle if name == "a" else self.backup
        words = [program() or "conntrackd", "-C", str(self.directory / f"{name}.conf"), *flags]
        return self.run(namespace, *words)

    def cached(self, name: str, which: str) -> int:
        """Entries in a daemon's `internal` or `external` cache."""
        told = self.order(name, "-s", "cache").partition(f"cache:{which}")[2]
        return int(told.split("active objects:")[1].split()[0])

    def replicated(self) -> int:
        """Flows that the backup has ever heard of."""
        if not self._synced:
            return 0
        told = self.order("b", "-s", "cache").partition("cache:external")[2]
        return int(told.split("creation OK/failed:")[1].split("/")[0])

    def resync(self, flows: int) -> tuple[float, float]:
        """Seconds until the backup's empty cache has `flows` entries, and until its kernel has them then: what a
        takeover waits for. Raises LabError."""
        self.order("a", "-R")
        self._await(lambda: self.cached("a", "internal") >= flows, "knew its own flows")
        self.order("b", "-f", "external")
        self.order("b", "-F")
        began = time.monotonic()
        self.order("b", "-n")
        self._await(lambda: self.cached("b", "external") >= flows, "was sent all flows")
        filled = time.monotonic()
        self.order("b", "-c")
        self._await(lambda: self.tracked(self.backup) >= flows, "had committed all flows")
        return filled - began, time.monotonic() - filled

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _READY_S
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"conntrackd never {what}: {self._messages('b')}")
            time.sleep(0.005)

    def tracked(self, namespace: str) -> int:
        """Entries in a kernel's own table."""
        with inside(namespace):
            return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())

    def flows(self) -> int:
        """What the gateway's kernel has."""
        return self.tracked(self.middle)

    def pin_backup(self, core: int) -> None:
        """Puts the backup's daemon on another core."""
        if "b" in self._daemons:
            os.sched_setaffinity(self._daemons["b"].pid, {core})

    def _messages(self, name: str) -> str:
        files = [self.directory / f"{name}.log", self.directory / "out.log"]
        return "\n".join(file.read_text(errors="replace")[-2000:] for file in files if file.exists())
