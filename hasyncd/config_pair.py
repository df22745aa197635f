"""The tables that make a node one of a pair: `[node]`, `[interfaces]`, `[[vip]]`, `[peer]`, `[sync]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hasyncd import addresses
from hasyncd.config_section import AsText, Commit, Name, Section, Socket, Some, Unit
from hasyncd.config_values import read_absolute_path, read_engine, read_interface, read_interface_choice
from hasyncd.config_witness import Witness


class Node(Section):
    """This node and what it may take of its machine."""

    name: Name
    """What the node is called; its peer must be called something else."""
    priority: int = Field(100, ge=0, le=65535)
    """Higher wins, but only where nothing else decides: there is no preemption."""
    state_dir: Annotated[Path, BeforeValidator(read_absolute_path)] = Path("/var/lib/hasyncd")
    """Where the generation is kept. It must outlive the process, and a container."""
    engine: Annotated[Literal["auto", "packet", "tc"], BeforeValidator(read_engine)] = "auto"
    """How packets move: `packet`, in this process; `tc`, those of established flows in the kernel; `auto`: `tc` where
    it can be, and `status` says why where it cannot."""
    capacity: Annotated[int, Unit("flows")] = Field(1 << 20, ge=1024, le=8 << 20)
    """How large the flow table is. Fixed for the life of the process; 126 bytes each from its start."""
    nice: int = Field(-10, ge=-20, le=19)
    """The daemon's scheduling priority: a heartbeat that leaves late looks like a death. Below 0 it needs CAP_SYS_NICE
    or a sufficient RLIMIT_NICE; without these it is not applied and the log says `priority_kept`."""
    packet_thread: bool | None = None
    """Packets move in a thread of their own; by default where there is more than one core."""
    packet_io: Literal["auto", "ring", "mmsg"] = "auto"
    """How packets come in: a ring shared with the kernel (16 MiB a side), or recvmmsg; `auto`: the ring where the
    kernel has room for it (hasyncd/native/README.md says what was measured)."""


class Interfaces(Section):
    """The two sides of the gateway."""

    inside: Annotated[str, BeforeValidator(read_interface_choice)]
    """The LAN of the private hosts and the backends: an interface's name, or an address with its prefix found on it."""
    outside: Annotated[str, BeforeValidator(read_interface_choice)]
    """The LAN of the clients and of the way out, likewise."""


class Vip(Section):
    """An address of the pair, on whichever node is primary. On no interface of the machine: the daemon answers ARP,
    neighbour discovery and echo for it, so that it dies with it."""

    address: Annotated[addresses.Interface, BeforeValidator(read_interface), AsText]
    """With its network's prefix; `/32` or `/128` for one that is routed (`[routes]`)."""
    interface: Literal["inside", "outside"]
    """The side it is on."""


class LanPath(Section):
    """Heartbeats over a service LAN, from and to the two machines' own addresses on it."""

    listen: Socket
    """This machine's own address there, which never moves, and a UDP port."""
    address: Socket
    """The peer's."""


class Peer(Section):
    """The peer, how it is heard, and when it counts as dead."""

    listen: Socket
    """This node's end of the sync link: TCP for the stream, UDP for heartbeats."""
    address: Socket
    """The peer's end."""
    keys: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """The directory that `hasyncd keygen` made for this node; the only other way is `insecure`."""
    insecure: bool = False
    """The sync link in the plain, without authentication. For a trial."""
    key_log: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """For debugging: the stream's TLS secrets are written here, for Wireshark (proto/README.md)."""
    protocol: int = Field(3, ge=1, le=3)
    """The newest version of proto/sync.md §4.1 that is spoken: an older one keeps the way back to an older program."""
    heartbeat_ms: int = Field(50, ge=1, le=60_000)
    """Between two heartbeats on each path."""
    dead_after_ms: int = Field(150, ge=3, le=600_000)
    """A peer that was silent on every path for so long is dead; at least three heartbeats."""
    paths: Some[Literal["sync", "inside", "outside"]] = ("sync",)
    """What heartbeats go over. Only silence on all of them is silence."""
    inside: LanPath | None = None
    """The two ends on the inside LAN, where `paths` names it."""
    outside: LanPath | None = None
    """The two ends on the outside LAN, where `paths` names it."""
    prefer: Literal["availability", "safety"] = "availability"
    """What a silent peer means. `availability`: act alone; `safety`: only on proof, by the witness, by an operator."""
    on_vip_owned: Literal["wait", "take"] = "wait"
    """Nobody is heard, but somebody else answers for a VIP on its LAN (proto/pair.md §4c)."""
    wait_ms: int = Field(0, ge=0, le=600_000)
    """A backup without all flows waits so much longer for a primary that is only silent."""
    witness: Witness | None = None
    """A third party that is asked when silence alone speaks."""

    @property
    def has_upper_ports(self) -> bool:
        """Which half of the public ports is this node's while it is alone: proto/pair.md P20."""
        return (int(self.listen.address), self.listen.port) > (int(self.address.address), self.address.port)

    def lan(self, name: str) -> LanPath | None:
        """The path over the service LAN `inside` or `outside`, where it is configured."""
        return self.inside if name == "inside" else self.outside


class Sync(Section):
    """How flows get to the peer."""

    enabled: bool = True
    """Without it there is a takeover of addresses and no flow survives: for a drill that has to fail."""
    commit: Commit = "ack"
    """What the first packet of a new flow waits for: `ack` the peer has installed the flow, `emit` it was sent. Of
    every rule and service that has none of its own."""
    commit_timeout_ms: int = Field(50, ge=1, le=60_000)
    """How long a first packet waits at most."""
    on_commit_timeout: Literal["fail_open", "fail_closed"] = "fail_open"
    """Then it is released and counted (`fail_open_released`), or dropped and counted."""
    log_records: Annotated[int, Unit("records")] = Field(262_144, ge=1024, le=1 << 24)
    """The delta log's room: what was sent and not acknowledged. A peer that is further behind gets a new sync."""
    scrub_s: int = Field(30, ge=0, le=86_400)
    """Memory is compared with what was written there, the whole table once in so many seconds; 0: never."""
