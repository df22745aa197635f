"""What single values of a configuration cannot show: contradictions between its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hasyncd.addresses import Address
from hasyncd.config_values import Endpoint

if TYPE_CHECKING:
    from hasyncd.config import Log
    from hasyncd.config_metrics import Metrics
    from hasyncd.config_pair import Interfaces, Peer, Vip
    from hasyncd.config_routes import Routes
    from hasyncd.config_rules import Forward, NatRule, OneToOne
    from hasyncd.config_services import Service
    from hasyncd.config_tracks import Track

Contradiction = tuple[str, str]
"""Key and message."""


@dataclass(frozen=True)
class Parts:
    """The parts of a document that are good by themselves, to be judged against each other."""

    interfaces: Interfaces | None
    peer: Peer | None
    vips: dict[int, Vip]
    tracks: dict[int, Track]
    nats: dict[int, NatRule]
    routes: Routes | None
    log: Log | None
    metrics: Metrics | None
    forwards: dict[int, Forward]
    one_to_ones: dict[int, OneToOne]
    services: dict[int, Service]
    vips_whole: bool
    """All VIPs are good, so what is not among them is nowhere."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Yields every contradiction; one bad part never hides those of the others."""
        yield from self._interfaces_and_peer()
        yield from self._vips()
        yield from self._tracks()
        yield from self._nats()
        yield from self._logs()
        yield from self._metrics()
        yield from self._routes()
        yield from self._ways_in()
        yield from self._services()

    def _routes(self) -> Iterator[Contradiction]:
        """What is announced is the pair's, and no LAN's: those are found by ARP."""
        owned = {vip.address.ip for vip in self.vips.values()}
        owned |= {public for rule in self.nats.values() for public in rule.public}
        owned |= {mapping.public for mapping in self.one_to_ones.values()}
        owned |= {forward.public.address for forward in self.forwards.values()}
        lans = [vip.address.network for vip in self.vips.values() if vip.address.network.num_addresses > 1]
        for place, prefix in enumerate(self.routes.prefixes if self.routes else ()):
            key = f"routes.prefixes[{place}]"
            overlapped = next((lan for lan in lans if prefix.overlaps(lan)), None)
            if overlapped is not None:
                yield (
                    key,
                    f"{prefix} overlaps {overlapped}, a LAN of the pair: its addresses are found by ARP",
                )
            elif self.vips_whole and not any(address in prefix for address in owned):
                yield key, f"{prefix} holds no address of the pair: no VIP, no public address of a rule"

    def _logs(self) -> Iterator[Contradiction]:
        for place, nat in self.nats.items():
            if nat.log != "off" and self.log and self.log.mappings is None:
                yield f"nat[{place}].log", "needs log.mappings, the file to write to"

    def _metrics(self) -> Iterator[Contradiction]:
        """The kernel must not have what is the pair's: nobody would ever reach a socket bound there."""
        listen = self.metrics.listen.address if self.metrics else None
        if listen is not None and listen in [vip.address.ip for vip in self.vips.values()]:
            yield "metrics.listen", f"{listen} is a VIP; each node is asked at an address of its own"

    def _interfaces_and_peer(self) -> Iterator[Contradiction]:
        if self.interfaces and self.interfaces.inside == self.interfaces.outside:
            yield "interfaces.outside", "is the inside interface too; the gateway needs two"
        if self.peer is None:
            return
        if self.peer.listen.address.version != self.peer.address.address.version:
            yield "peer.address", f"{self.peer.address} is of another address family than peer.listen"
        elif self.peer.listen.address == self.peer.address.address:
            yield "peer.address", f"{self.peer.address.address} is this node's own address (peer.listen)"
        if self.peer.keys is None and not self.peer.insecure:
            yield (
                "peer.keys",
                "is missing: `hasyncd keygen` makes the keys of a pair; insecure = true is the only way without",
            )
        if self.peer.keys is not None and self.peer.insecure:
            yield "peer.insecure", "contradicts peer.keys: take one of them away"
        if self.peer.key_log is not None and self.peer.keys is None:
            yield "peer.key_log", "logs the secrets of TLS, and without peer.keys there is no TLS"
        yield from self._witness(self.peer)
        yield from self._paths(self.peer)
        least = 3 * self.peer.heartbeat_ms
        if self.peer.dead_after_ms < least:
            yield (
                "peer.dead_after_ms",
                f"{self.peer.dead_after_ms} is less than 3 heartbeats ({least} ms): one late one is no death",
            )

    def _paths(self, peer: Peer) -> Iterator[Contradiction]:
        if "sync" not in peer.paths:
            yield "peer.paths", "must name 'sync': the stream has no other path"
        for place, name in enumerate(peer.paths):
            if name in peer.paths[:place]:
                yield f"peer.paths[{place}]", f"{name!r} is listed twice"
        taken = [peer.listen.address, peer.address.address]
        for name in ("inside", "outside"):
            lan, key = peer.lan(name), f"peer.{name}"
            if lan is None:
                if name in peer.paths:
                    yield (
                        key,
                        "is missing: peer.paths names it; { listen = …, address = … } of this node and its peer",
                    )
                continue
            if name not in peer.paths:
                yield key, "is not used: peer.paths does not name it"
            here, there = lan.listen.address, lan.address.address
            if here.version != there.version:
                yield f"{key}.address", f"{lan.address} is of another address family than {key}.listen"
            for place_of, address in (("listen", here), ("address", there)):
                if address in taken:
                    yield f"{key}.{place_of}", f"{address} is an address of another path, or of its other end"
                elif address in [vip.address.ip for vip in self.vips.values()]:
                    yield (
                        f"{key}.{place_of}",
                        f"{address} is a VIP; heartbeats need addresses that never move",
                    )
                taken.append(address)
        if peer.insecure and peer.keys is None and set(peer.paths) - {"sync"}:
            yield (
                "peer.insecure",
                "is for the sync link alone: on a service LAN anybody could speak as the peer",
            )

    def _witness(self, peer: Peer) -> Iterator[Contradiction]:
        witness = peer.witness
        if witness is None:
            return
        for place, endpoint in enumerate(witness.endpoints):
            if endpoint in witness.endpoints[:place]:
                yield f"peer.witness.endpoints[{place}]", f"{endpoint!r} is listed twice"
        speaks_tls = any(endpoint.startswith("https:") for endpoint in witness.endpoints)
        for name, file in (("ca", witness.ca), ("cert", witness.cert), ("key", witness.key)):
            if file is not None and not speaks_tls:
                yield f"peer.witness.{name}", "is for https, and no endpoint is https"
        if witness.key is not None and witness.cert is None:
            yield "peer.witness.cert", "is missing: peer.witness.key belongs to one"

    def _vips(self) -> Iterator[Contradiction]:
        seen: dict[Address, int] = {}
        for place, vip in self.vips.items():
            key = f"vip[{place}].address"
            if vip.address.ip in seen:
                yield key, f"{vip.address.ip} is vip[{seen[vip.address.ip]}] already"
                continue
            for other in seen.values():
                theirs = self.vips[other]
                if vip.interface != theirs.interface and vip.address.network.overlaps(theirs.address.network):
                    overlap = f"{theirs.address.network} of vip[{other}] ({theirs.interface})"
                    yield key, f"{vip.address.network} ({vip.interface}) overlaps {overlap}"
            if self.peer and vip.address.ip in (self.peer.listen.address, self.peer.address.address):
                yield (
                    key,
                    f"{vip.address.ip} is an address of the peer channel; a VIP moves, that one must not",
                )
            seen[vip.address.ip] = place

    def _tracks(self) -> Iterator[Contradiction]:
        names = {"inside": "the LAN's own track", "outside": "the LAN's own track"}
        for place, track in self.tracks.items():
            key = f"track[{place}]"
            if track.name in names:
                yield f"{key}.name", f"{track.name!r} is {names[track.name]} already"
            names.setdefault(track.name, f"track[{place}]")
            yield from self._what_is_tracked(key, track)
            if track.timeout_ms is not None and track.timeout_ms > track.interval_ms:
                yield (
                    f"{key}.timeout_ms",
                    f"{track.timeout_ms} is more than interval_ms ({track.interval_ms}): the next check would be late",
                )

    def _what_is_tracked(self, key: str, track: Track) -> Iterator[Contradiction]:
        needs = {"interface": "interface", "gateway": "", "command": "command"}[track.kind]
        fits = {"interface": ("interface",), "gateway": ("interface", "address"), "command": ("command",)}
        for name in ("interface", "address", "command"):
            given = bool(getattr(track, name))
            if given and name not in fits[track.kind]:
                yield f"{key}.{name}", f"is not for a track of kind {track.kind!r}"
            elif name == needs and not given:
                yield f"{key}.{name}", f"is missing: a track of kind {track.kind!r} needs it"
        if track.kind == "gateway" and track.interface not in (None, "inside", "outside"):
            yield f"{key}.interface", f"must be 'inside' or 'outside' for a gateway, not {track.interface!r}"
        if track.kind == "interface" and track.interface and "/" in track.interface:
            yield f"{key}.interface", f"must be an interface's name, not {track.interface!r}"
        if track.command and not track.command[0].startswith("/"):
            yield (
                f"{key}.command",
                f"must begin with an absolute path, not {track.command[0]!r}: no shell reads it",
            )
        if track.address in [vip.address.ip for vip in self.vips.values()]:
            yield f"{key}.address", f"{track.address} is a VIP, which the primary answers for itself"

    def _nats(self) -> Iterator[Contradiction]:
        inside = {vip.address.ip for vip in self.vips.values() if vip.interface == "inside"}
        for place, rule in self.nats.items():
            yield from self._reserved(place, rule)
            for at, public in enumerate(rule.public):
                key = f"nat[{place}].public[{at}]"
                if public in rule.public[:at]:
                    yield key, f"{public} is listed twice"
                elif public in inside:
                    yield key, f"{public} is an inside VIP; a public address lies outside"

    def _reserved(self, place: int, rule: NatRule) -> Iterator[Contradiction]:
        first, last = rule.ports
        left = set(range(first, last + 1))
        for at, ports in enumerate(rule.reserved):
            if ports.last < first or ports.first > last:
                yield f"nat[{place}].reserved[{at}]", f"{ports} lies outside of ports ({rule.ports})"
            left.difference_update(range(ports.first, ports.last + 1))
        if not left:
            yield f"nat[{place}].reserved", f"reserves every port of {rule.ports}"

    def _ways_in(self) -> Iterator[Contradiction]:
        """Each public end leads to one place; a 1:1 address serves nothing else."""
        vips = {vip.address.ip: vip.interface for vip in self.vips.values()}
        pools = {public for rule in self.nats.values() for public in rule.public}
        services = {(service.vip, service.protocol) for service in self.services.values()}
        owned: dict[Address, int] = {}
        insides: dict[Address, int] = {}
        for place, mapping in self.one_to_ones.items():
            key = f"one_to_one[{place}]"
            if mapping.public in owned:
                yield f"{key}.public", f"{mapping.public} is one_to_one[{owned[mapping.public]}] already"
            elif mapping.public in pools or vips.get(mapping.public):
                yield (
                    f"{key}.public",
                    f"{mapping.public} is a VIP or in a NAT rule's pool; this host's it is alone",
                )
            if mapping.inside in insides:
                yield f"{key}.inside", f"{mapping.inside} is one_to_one[{insides[mapping.inside]}] already"
            owned.setdefault(mapping.public, place)
            insides.setdefault(mapping.inside, place)
        fronts: dict[tuple[Endpoint, str], int] = {}
        for place, forward in self.forwards.items():
            key, front = f"forward[{place}].public", (forward.public, forward.protocol)
            if front in fronts:
                yield key, f"{forward.public}/{forward.protocol} is forward[{fronts[front]}] already"
            elif front in services:
                yield key, f"{forward.public}/{forward.protocol} is a service's"
            elif vips.get(forward.public.address) == "inside":
                yield key, f"{forward.public.address} is an inside VIP; a public address lies outside"
            elif forward.public.address in owned:
                yield key, f"{forward.public.address} is one_to_one[{owned[forward.public.address]}] already"
            fronts.setdefault(front, place)

    def _services(self) -> Iterator[Contradiction]:
        names: dict[str, int] = {}
        fronts: dict[tuple[Endpoint, str], int] = {}
        vips = {vip.address.ip: vip for vip in self.vips.values()}
        for place, service in self.services.items():
            key = f"service[{place}]"
            if service.name in names:
                yield f"{key}.name", f"{service.name!r} is service[{names[service.name]}] already"
            names.setdefault(service.name, place)
            front = (service.vip, service.protocol)
            if front in fronts:
                yield f"{key}.vip", f"{service.vip}/{service.protocol} is service[{fronts[front]}] already"
            fronts.setdefault(front, place)
            vip = vips.get(service.vip.address)
            if vip is None and self.vips_whole:
                yield f"{key}.vip", f"{service.vip.address} is no [[vip]] of this file"
            elif vip is not None and vip.interface == "inside":
                yield f"{key}.vip", f"{service.vip.address} is an inside VIP; clients come from outside"
            if service.load_limit is not None and service.algorithm != "consistent-hash":
                yield f"{key}.load_limit", f"is for consistent-hash: {service.algorithm} has no next backend"
            if service.source is not None:
                yield from service.source.contradictions(f"{key}.source")
            elif not service.backends:
                yield f"{key}.backends", "is empty, and there is no source"
            yield from self._health(key, service)
            yield from self._families(key, service)
            yield from self._backends(key, service, set(vips))

    def _health(self, key: str, service: Service) -> Iterator[Contradiction]:
        if service.health is not None:
            yield from service.health.contradictions(f"{key}.health")
        if service.passive is not None and service.protocol == "udp":
            yield f"{key}.passive", "is for tcp: a datagram that nobody answers says nothing"
        for place, backend in enumerate(service.backends):
            if backend.health_timeout_ms is not None and service.health is None:
                yield f"{key}.backends[{place}].health_timeout_ms", "is for a service with health checks"

    def _families(self, key: str, service: Service) -> Iterator[Contradiction]:
        """Nothing is translated between the families."""
        family = service.vip.address.version
        front = f"{service.vip} is IPv{family}"
        for place, network in enumerate(service.allow):
            if network.version != family:
                yield f"{key}.allow[{place}]", f"{network} is IPv{network.version}, and {front}"
        for place, backend in enumerate(service.backends):
            if backend.address.address.version != family:
                yield (
                    f"{key}.backends[{place}].address",
                    f"{backend.address} is IPv{backend.address.address.version}, and {front}",
                )

    def _backends(self, key: str, service: Service, vips: set[Address]) -> Iterator[Contradiction]:
        ids: dict[int, int] = {}
        addresses: dict[Endpoint, int] = {}
        for place, backend in enumerate(service.backends):
            here = f"{key}.backends[{place}]"
            if backend.id in ids:
                yield f"{here}.id", f"{backend.id} is backends[{ids[backend.id]}] already"
            if backend.address in addresses:
                yield (
                    f"{here}.address",
                    f"{backend.address} is backends[{addresses[backend.address]}] already",
                )
            if backend.address.address in vips:
                yield f"{here}.address", f"{backend.address.address} is a VIP; a backend is a real server"
            ids.setdefault(backend.id, place)
            addresses.setdefault(backend.address, place)
