"""The C extension: a gateway's data path.

An address is an int in host order (IPv4) or 16 bytes in network order (IPv6), wherever an `Address` is taken or given;
ports are ints, moments are nanoseconds of CLOCK_BOOTTIME, sides are INSIDE (0) and OUTSIDE (1). Nothing here is called
per packet or per flow: `poll`, `drain`, `install`, `acknowledge` move batches. One Python thread calls it; the
packet thread, once started, shares the gateway with it under a lock of the extension's own.

NAT rules and ways in are IPv4's alone. The first IPv6 VIP, service or pass rule, or the first IPv6 flow of the peer,
reserves 48 bytes of address space a slot for the long addresses; memory is used only by flows that have them.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from typing_extensions import Buffer

Address: TypeAlias = int | bytes
Prefix: TypeAlias = tuple[Address, int]
"""(prefix, prefix_length)"""

INSIDE: Final = 0
OUTSIDE: Final = 1

def start_memory_keeper() -> int:
    """Starts a process that shares this one's memory and sleeps until this one is dead, so that the sockets of a killed
    daemon close before its tables are freed (native/io/memory_keeper.c). Once a process, before there are threads; its
    pid. Raises OSError: this kernel cannot (before Linux 5.9)."""

class BackendTable:
    """Which backend a key belongs to: an immutable function of its members, the algorithm and nothing else.

    `consistent-hash`, `maglev` and `ecmp` hash; `round-robin` and `weighted-round-robin` go in turn, and a flow keeps
    its backend through the flow table alone.
    """

    algorithm: str
    generation: int
    digest: int
    """Of all that a lookup can find: equal tables have equal ones, whatever their generation."""

    def __init__(
        self, algorithm: str, members: Sequence[tuple[int, int]], generation: int, vnodes: int = 160
    ) -> None:
        """Members as (server_id, weight), in any order; those of weight 0 are left out. `vnodes`: of the ring, for a
        unit of weight. Built without the interpreter's lock. ValueError: an id with two weights, more members or vnodes
        than a service can hold."""
    def find(self, hash: int, /) -> int | None:
        """The id of the member that a hash (u32) belongs to; None where there is none."""
    def shares(self) -> list[tuple[int, int, int]]:
        """(server_id, weight, how many of the 2**32 hashes are its own), by id."""
    def moved(self, after: BackendTable, /) -> int:
        """How many of the 2**32 hashes belong to another member in `after`; all, where one of both has none."""
    def ring(self) -> list[tuple[int, int, int, int]]:
        """The vnodes of a ring: (point, server_id, weight, generation), sorted."""
    def slots(self) -> list[int]:
        """The ids in the slots of `maglev` and the buckets of `ecmp`."""

class Engine:
    """One flow table, its rules, its delta log and, once opened, two packet sockets."""

    def __init__(
        self,
        *,
        capacity: int,
        seed: bytes,
        log_records: int = 262_144,
        held_packets: int = 4096,
        held_bytes: int = 8_388_608,
        log_file: int = -1,
    ) -> None:
        """`capacity` flows, fixed for life; `seed` is 16 bytes. `log_file`: a descriptor, open for reading and
        writing, of the file that is the delta log's memory and outlives the process (proto/last_word.md).

        Raises OSError."""

    # --- the machine ------------------------------------------------------------------------
    def open(
        self, side: int, ifindex: int, mac: bytes, mtu: int, ring: bool = False, behind: bool = False, /
    ) -> int:
        """Opens and binds the AF_PACKET socket of a side, with a receive ring or a queue only, and returns a file
        descriptor (owned by the engine) that is readable when packets wait. `behind`: only what tc ingress lets pass is
        seen, else every packet, before tc. Raises OSError; ENOMEM: the kernel has no 16 MiB for the ring."""
    def use_cache(
        self, maps: tuple[int, int, int, int, int], cpus: int, interfaces: tuple[int, int], /
    ) -> None:
        """From now on the kernel holds a copy of established flows and forwards them while the lease lasts. `maps`:
        descriptors of flows, flows6, uses, control and counters of tc/flow_cache.bpf.c, duplicated where they are kept;
        `cpus`: that the kernel counts with; `interfaces`: indexes, inside and outside. Raises OSError."""
    def attach(self, side: int, mac: bytes, mtu: int) -> None:
        """Describes a side without a socket: for `inject`."""
    def close(self) -> None: ...
    def set_routes(self, routes: Sequence[tuple[Address, int, int, Address]]) -> None:
        """Replaces the route mirror, both families in one list: (prefix, prefix_length, side, gateway), gateway 0 = on
        link; else of the prefix's family (an IPv6 gateway is mostly link-local, which the side makes unique)."""
    def set_neighbours(self, neighbours: Sequence[tuple[int, Address, bytes]]) -> None:
        """Adds or changes neighbours: (side, address, mac); an empty mac forgets one. Packets that
        waited for it leave."""
    def wanted_neighbours(self) -> list[tuple[int, Address]]:
        """(side, address) that packets or installed flows need and the mirror lacks; each is named
        once a second at most."""
    def used_neighbours(self) -> list[tuple[int, Address]]:
        """(side, address) used since the last call: worth keeping fresh in the kernel."""

    # --- the rules --------------------------------------------------------------------------
    def set_vips(self, vips: Sequence[tuple[int, Address]]) -> None:
        """(side, address): answered by ARP or neighbour discovery, and ICMP echo, while the lease lasts. A side with a
        socket joins each IPv6 VIP's solicited-node group."""
    def set_nat_rules(
        self,
        rules: Sequence[tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]], Sequence[int], int, int]],
    ) -> None:
        """Replaces the NAT rules, first match wins: (sources, destinations, publics, port_first,
        port_last); sources and destinations are (prefix, prefix_length), no destinations = any."""
    def set_nat_options(
        self,
        index: int,
        *,
        exempt: Sequence[tuple[int, int]] = (),
        reserved: Sequence[tuple[int, int]] = (),
        max_flows_per_source: int = 0,
        hold_down_s: int = 0,
        preserve_parity: bool = False,
        port_classes: bool = False,
        icmp_on_exhaustion: bool = False,
        log: bool = False,
    ) -> None:
        """The finer points of NAT rule `index`: destinations to which it does not translate, port ranges that are
        never given out, flows that one source may have (0: any number), seconds before a freed port serves another
        endpoint, whether a sender without a port is told by ICMP, and whether mappings are logged. IndexError: no such
        rule."""
    def open_mapping_log(self, size: int, destinations: bool, /) -> None:
        """Logs the mappings of rules that ask for it from now on, into a ring of `size` bytes (ValueError: too few)."""
    def take_mappings(self, clock_ns: int, /) -> bytes:
        """Finished lines of the mapping log that wait, in one piece; what comes next may be another. `clock_ns`: what
        the time of day is ahead of CLOCK_BOOTTIME, for lines to come."""
    def set_forwards(
        self, forwards: Sequence[tuple[int, int, int, int, int, Sequence[tuple[int, int]]]]
    ) -> None:
        """Replaces the ways in: (public, public_port, protocol, inside, inside_port, allow), first match wins;
        protocol 0 (ports 0 too) maps the whole public address and the inside host to each other, both ways."""
    def set_policy(
        self, *, half_open_per_source: int = 0, loose: bool = False, early_drop: bool = False
    ) -> None:
        """TCP flows of one source that may be half-open (0: any number within the cap for all); whether an ACK without
        a flow makes one where the rules lead it to the same host (services, ways in, exempt destinations); whether a
        full table drops flows that are unanswered or over."""
    def set_passes(self, passes: Sequence[tuple[Sequence[Prefix], Sequence[Prefix], bool]]) -> None:
        """Replaces the pass rules, IPv6 only (else ValueError): (sources, destinations, inbound), no destinations
        = any; at most 64 rules. A flow that one matches is forwarded untranslated and tracked. It is opened from
        inside, by a source to a destination, and where `inbound` from outside too, by a destination to a source.
        Link-local and multicast addresses are never forwarded, whatever a rule says."""
    def set_service(
        self,
        index: int,
        vip: Address,
        port: int,
        protocol: int,
        allow: Sequence[Prefix],
    ) -> None:
        """Declares service `index` (0, 1, 2 … in order of configuration), as yet without a table. A service is of one
        family: `allow` and its backends are of the VIP's (else ValueError); no source is allowed by an empty list."""
    def set_balance(self, index: int, key: str, load_limit_percent: int, when_empty: str = "drop", /) -> None:
        """What of a flow decides on its backend (`tuple`, `source`, `source-port`), and how many of all flows a backend
        may have, in percent of its fair share: above 100; 0 is no limit. It holds for a ring: other tables have no
        next backend. `when_empty`: without any backend, new flows are dropped in silence (`drop`), or (`reject`) TCP
        gets a reset and UDP a port unreachable, the latter at a bounded rate."""
    def publish(
        self,
        index: int,
        backends: Sequence[tuple[int, Address, int, int, int]],
        table: BackendTable,
        grace_until_ns: int = 0,
        /,
    ) -> None:
        """Makes `table` the service's own: backends as (server_id, address, port, weight, state), its members among
        them. state: 0 up, 1 draining, 2 down (a member all the same: taken for up). Backends that are not listed but
        have flows are *removed*: nothing passes of those flows (`drop_backend_removed`) until `end_backend_flows`;
        whoever wants to keep them lists the backend as draining. Until `grace_until_ns` (CLOCK_BOOTTIME) a connection
        under way whose flow is not known goes by the table before, unless that leads to a backend that is down or
        removed. ValueError, and nothing has changed: a member that is not listed or is draining, an id or address
        twice, or more backends (those that left and have flows included) than one service can hold."""
    def end_backend_flows(
        self, index: int, server_id: int, how: int, slot: int, count: int, /
    ) -> tuple[int, int]:
        """Ends flows of a backend that is not up, in `count` slots from `slot` on: (the next slot or -1, how many
        ended). Stops early after 1,024 (resets: 64), so that packets do not wait. Flows of a backend that is up are
        never touched, and a node that does not write the table ends nothing: (-1, 0). how: 0 silently; 1 TCP by
        resets to both ends (an end whose counterpart's sequence number is not known here, as after a takeover, gets
        an exact one in answer to its next packet), UDP silently, since the next datagram finds a live backend; 2 UDP
        flows are at once another backend's (DEL and ADD), TCP is left alone."""
    def backend_counters(self, index: int, /) -> list[tuple[int, int, int, int, int, int, int, int, int]]:
        """(server_id, state, flows, new_flows, packets, bytes, syn_unanswered, resets, refused) of every backend that
        is listed or has flows. state: as in `publish`, 3 removed, 4 known by the peer's flows alone (server_id 0).
        From new_flows on they only grow, and count what passed here: bytes of IP in both directions; flows whose SYN
        came again, or aged out, unanswered (once each); resets by the backend, and those of them in answer to a
        SYN."""
    def count_moving(self, index: int, table: BackendTable, slot: int, count: int, /) -> tuple[int, int, int]:
        """Of the flows of service `index` in `count` slots from `slot` on: (the next slot or -1, how many they are, how
        many have another backend than their key has in `table`). Nothing moves them: they are what a table without
        its flows would move."""
    def set_rule_commit(self, table: str, index: int, mode: str, /) -> None:
        """What the flows of one rule wait for, while anything is held at all: `emit`, `ack`, or `default` (what
        `set_commit` says). `table`: `service`, `nat`, `forward` (1:1 mappings too, in the order of `set_forwards`) or
        `pass`; a rule that is replaced has the default again. IndexError: no such rule."""
    # --- the lease --------------------------------------------------------------------------
    def set_lease(self, until_ns: int) -> None:
        """Forwards and answers only while CLOCK_BOOTTIME < until_ns; 0 disarms."""
    def arm(self, now_ns: int, lease_until_ns: int = ..., /) -> None:
        """This node creates and ages flows from now on: ageing resumes with its grace, imported TCP
        flows are judged liberally. The lease begins in the same step (default: as it was); where it holds, what waited
        since `hand_over` is judged here."""
    def disarm(self) -> None:
        """Lease 0, held packets dropped, ageing stopped: the table is the peer's to write."""
    def hand_over(self, relay_until_ns: int, /) -> None:
        """Disarms, but drops nothing: until then held packets, in the form in which they came, and all that arrives for
        the pair wait for the new owner's gratuitous ARP and are sent on to it. `arm` and `disarm` end it."""
    def announce(self) -> int:
        """Sends gratuitous ARP, request and reply form, for every IPv4 VIP, and an unsolicited neighbour advertisement
        for every IPv6 VIP (the lease permitting); frames sent."""
    def probe_vips(self) -> int:
        """Asks both sides who has the VIPs: an ARP probe (RFC 5227) or a solicitation for each, which change nobody's
        cache; armed or not. Frames sent."""
    def vip_states(self) -> list[tuple[int, Address, bytes, int, int]]:
        """(side, address, mac, claimed_ns, seen_ns), one a VIP: who else last said that he has it, and when (0:
        nobody), armed or not; when a packet of its family that came by its side was last forwarded or answered (0:
        none)."""

    # --- packets ----------------------------------------------------------------------------
    def poll(self, budget: int = 256) -> int:
        """Receives, judges and sends up to `budget` packets; the number received."""
    def start_thread(self) -> int:
        """Hands polling to a thread of its own that needs no interpreter; returns a descriptor that is readable (an
        eventfd to be read) once records were appended: then drain. Ends with `close`. Raises OSError."""
    def tick(self, now_ns: int) -> int:
        """Bounded housekeeping: ageing, commit timeouts, waiting packets. Flows aged out. Call every 10 ms: 8,192 flows
        may end in one call, and packets pass in between."""
    def inject(self, side: int, frame: Buffer, now_ns: int) -> None:
        """Judges one Ethernet frame as if received on `side` (sides made by `attach`)."""
    def take_sent(self) -> list[tuple[int, bytes]]:
        """Frames that sides made by `attach` would have sent: (side, frame)."""

    # --- the delta log (primary) ---------------------------------------------------------------
    def set_commit(self, mode: str, timeout_ns: int, fail_open: bool) -> None:
        """`none` (nothing is held; held packets leave), `emit` or `ack` for rules without a mode of their own
        (proto/sync.md §6)."""
    def drain(self, bytes_max: int = 65_536) -> tuple[int, int, bytes]:
        """The next unsent records: (first sequence, count, records); count 0 when there are none.
        They count as sent at once; `rewind` takes that back."""
    def emitted(self, sequence: int) -> int:
        """write(2) has accepted everything up to `sequence`: packets of `emit` flows released."""
    def acknowledge(self, sequence: int) -> int:
        """The peer has installed everything up to `sequence`: packets released."""
    def rewind(self, sequence: int) -> bool:
        """Continue sending at `sequence`; False when the log no longer holds it."""
    def log_state(self) -> tuple[int, int, int, bool]:
        """(oldest sequence held, next to send, next to be written, overrun since start_log or rewind)."""
    def moment(self) -> tuple[int, int, int, bool, int, int]:
        """`log_state` and `digest` of one moment, whatever the packet thread does beside:
        (oldest, next to send, next to be written, overrun, flows held, digest)."""
    def start_log(self, first: int) -> bool:
        """Sending goes on at `first`, and what is before it counts as acknowledged: a sync begins there that tells
        every flow anew, or refreshes it. (Where history goes on: `rewind`, then `acknowledge`, as without a sync;
        what is at risk is found out by that.) False when the log does not hold it."""
    def bucket_digests(self, capacity: int) -> bytes:
        """The digest of each bucket of a table of `capacity` slots (at most ours), u64 big endian each (proto/sync.md
        §8); of what the memory says now, where this node does not write the table and is scrubbed. Raises ValueError:
        no such capacity."""
    def compare_buckets(self, digests: bytes) -> tuple[bytes, int, int]:
        """What a peer said by `bucket_digests`, of our capacity, beside our own, at one moment: (suspects, the last
        sequence written then, flows held then). `suspects`: a bit a bucket, least significant first, 1: it differs.
        Raises ValueError: the wrong length."""
    def start_snapshot(self, suspects: bytes, refresh: bool) -> None:
        """The cursor goes to the first slot; b"" suspects every bucket. `refresh`: flows of the other buckets are told
        too, by an UPDATE each, because the records that were skipped may have moved their timeouts. Raises
        ValueError: the wrong length, or bits beyond the last bucket."""
    def append_snapshot(self, records_max: int) -> tuple[int, bool]:
        """Moves the cursor: appends ADDs of flows in suspect buckets (UPDATEs of others), at most `records_max`, and
        passes over a bounded number of slots: (appended, finished). 0 appended is not the end."""
    def count_at_risk(self) -> tuple[int, int]:
        """(flows whose ADD or state change is not acknowledged, age of the oldest in ns)."""

    # --- the mirror (backup) -------------------------------------------------------------------
    def reset(self, seed: bytes) -> None:
        """Empties the table and takes a new seed."""
    def begin_sync(self, suspects: bytes = b"", capacity: int | None = None) -> None:
        """A sync of the suspect buckets of a primary's table of `capacity` slots (None: as many as ours) begins; b""
        suspects every bucket. Slots from `capacity` on are suspect. Raises ValueError as `start_snapshot` does, or:
        no such capacity."""
    def end_sync(self) -> int:
        """Removes the flows of suspect buckets that were not installed since `begin_sync`; how many."""
    def sync_findings(self) -> tuple[int, int, int, int]:
        """What the sync that ended last, or is under way, found in suspect buckets: flows (added, replaced by other
        content, removed, unchanged). New flows of the meantime count as added."""
    def install(self, records: Buffer, now_ns: int) -> tuple[int, str | None]:
        """Applies packed records in order: (installed, rejection of the first that could not be)."""
    def digest(self) -> tuple[int, int]:
        """(flows held, digest): proto/sync.md §8."""

    def set_solo(self, solo: bool, upper: bool) -> None:
        """Alone, SNAT gives out the ports of this node's half first, pairs 2n, 2n + 1 by turns (`upper`: odd n), the
        others (`nat_other_half`) when those are gone; and it is remembered whose flows the log speaks of. Proto/pair.md
        §7a."""
    def start_offer(self) -> None:
        """The cursor of what a node that lost a split offers goes to the first slot."""
    def next_offer(self, bytes_max: int, now_ns: int) -> tuple[int, bytes, bool]:
        """(count, ADDs, whether the last slot is passed): flows that no peer has confirmed, or that the log spoke of
        while solo. A bounded number of slots is looked at. Raises ValueError: no room for one record."""
    def end_offer(self) -> None:
        """The peer has judged the offer: nothing here is at risk any more."""
    def merge(self, records: Buffer, now_ns: int) -> tuple[int, tuple[int, int, int, int, int], str | None]:
        """Adds offered flows that collide with none: (records judged, (known, merged, collided, refused for want of
        room, TCP connections closed), rejection of the first record that is none). A closed connection's ends are
        answered by a reset (`closed_resets_sent`) when they show themselves."""

    def set_scrub(self, seconds: int) -> None:
        """`tick` recomputes the digests of the whole table from the flows' memory once in so many seconds; 0: never.
        A bucket that is not what it was told to be counts as `scrub_mismatches`, and its digest becomes what its
        memory says. On an active node, flows there that cannot be told to a peer end (`corrupt_flows_ended`)."""

    # --- looking ------------------------------------------------------------------------------
    def counters(self) -> dict[str, int]:
        """Every counter by name, those of drops by reason among them (`drop_…`). `commit_now`: 0 nothing is held, 1
        emit, 2 ack; `commit_suspended_now`: 1 while new flows leave unconfirmed because the peer does not keep up. IPv6
        has some of its own:
        ndp_answered, ndp_announced, packet_too_big_sent, pass_flows, drop_extension_header. drop_scope: an address that
        is no host's to be reached from elsewhere (loopback, link-local, multicast, broadcast, reserved)."""
    def flow_counts(self) -> tuple[int, int, int, int]:
        """(total, tcp, udp, icmp), both families; icmp includes ICMPv6."""
    def backend_flow_counts(self, index: int) -> dict[int, int]:
        """server_id -> live flows of a service."""
    def list_flows(self, cursor: int, count: int, now_ns: int) -> tuple[int, list[tuple[object, ...]]]:
        """Up to `count` flows from a cursor (0 first; -1 returned at the end), an address as an `Address`, proto 58 is
        ICMPv6: (proto, src, sport, dst, dport,
        reply_src, reply_sport, reply_dst, reply_dport, state, timeout_s,
        service index or -1, server_id, nat rule index or -1, at_risk)."""
    def explain(
        self, proto: int, src: Address, sport: int, dst: Address, dport: int, now_ns: int, /
    ) -> dict[str, Any]:
        """What becomes of a packet with these ends, and why; nothing is changed, sent or counted. An echo's identifier
        is `sport`. `side` its packets come in by (-1: no route to the source), `armed`; `flow` (None: there is none):
        is_reply, original and reply as (src, sport, dst, dport), state, left_ms, service, nat_rule, backend,
        begins_anew (a SYN's effect), given_up. `decision`: what a first packet of the flow's original direction meets,
        as if there were no flow: passes, dropped (a counter's name or None), answered, told, forward, own (indices of
        `set_forwards` or -1), exempt, nat_rule, pass, reply, preference (the reply that NAT gives in an empty table).
        `choice` (None: no service): service, key, generation, digest, place and places (vnodes or slots), point,
        owner (whom the table names), backend (who gets it), before (who gets a packet from the middle of a connection
        that is not known). A backend: id, address, port, weight, state, in_table, flows. ValueError: no such packet."""
