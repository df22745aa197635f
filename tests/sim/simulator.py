"""Two nodes of the core in a world without real time: one seed, one run.

`World` holds the clock and the queue of what happens next; `Shell` is one machine. Faults are methods of
`World`, named as sentences say them.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hasyncd.core import effects as fx
from hasyncd.core.types import MILLISECOND_NS, Role
from tests.sim.certificates import CertificatesHold
from tests.sim.checkers import (
    Broken,
    GenerationGrows,
    GivesWayRarely,
    Leastness,
    NoStorm,
    NothingAcknowledgedIsLost,
    OneArmed,
)
from tests.sim.machine import Machine
from tests.sim.memory import corrupt
from tests.sim.network import Network, Stream
from tests.sim.options import NAMES, Options
from tests.sim.shell import Shell
from tests.sim.split import Reunion
from tests.sim.witness import WitnessModel


@dataclass
class World:
    """The clock, the wire and both machines."""

    seed: int
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.now_ns = 0
        self.transcript: list[str] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._turn = 0
        self._next_flow = 1
        self.forced = False
        self.traffic = True
        self.mangled = False
        """A byte of a stream was changed: what no digest covers may be wrong."""
        self.network = Network(self.rng, self.at, lambda: self.now_ns)
        self.network.deliver_datagram = self._deliver_datagram
        self.network.deliver_bytes = self._deliver_bytes
        self.network.deliver_end = self._deliver_end
        self.network.room_again = lambda stream, index: self.shells[index].room_again(stream)
        self.network.lag_max_ns = self.options.lag_max_ns
        self.network.paths |= {
            name: links for name, links in self.network.lans.items() if name in self.options.paths
        }
        for links in (*self.network.paths.values(), *self.network.lans.values()):
            for link in links:
                link.loss, link.delay_ns = self.options.loss, self.options.delay_ns
        self.witness = WitnessModel(self)
        self.squatters: dict[str, str] = {}
        """Third hosts that have a VIP: their MACs, by LAN."""
        self.settings = self.options.settings_of(0)
        self.losses = NothingAcknowledgedIsLost()
        self.certificates = CertificatesHold()
        self.storm = NoStorm()
        self.reunion = Reunion()
        self.leastness = Leastness()
        self.giving_way = GivesWayRarely()
        self.generations = GenerationGrows()
        self._watchers = (OneArmed(), self.generations)
        self.shells = tuple(Shell(self, index, self.options.generations[index]) for index in (0, 1))
        self.machines = tuple(Machine(self, shell) for shell in self.shells)
        if self.options.flow_interval_ns:
            self.at(self.options.flow_interval_ns, self._traffic)

    # --- time ------------------------------------------------------------------------------------

    def at(self, after_ns: int, action: Callable[[], None]) -> None:
        self._turn += 1
        heapq.heappush(self._queue, (self.now_ns + after_ns, self._turn, action))

    def run_ms(self, milliseconds: float) -> None:
        """Lets the world go on for so long."""
        end = self.now_ns + int(milliseconds * MILLISECOND_NS)
        while self._queue and self._queue[0][0] <= end:
            self.now_ns, _, action = heapq.heappop(self._queue)
            action()
        self.now_ns = end
        self.look()

    def run_until(self, condition: Callable[[], bool], limit_ms: float, what: str) -> float:
        """Lets the world go on until `condition`; the milliseconds it took."""
        began, end = self.now_ns, self.now_ns + int(limit_ms * MILLISECOND_NS)
        while not condition():
            if not self._queue or self._queue[0][0] > end:
                raise Broken(f"not within {limit_ms:g} ms: {what}")
            self.now_ns, _, action = heapq.heappop(self._queue)
            action()
        return (self.now_ns - began) / MILLISECOND_NS

    def look(self) -> None:
        for watcher in self._watchers:
            watcher.look(self)

    def say(self, who: str, what: str) -> None:
        self.transcript.append(f"{self.now_ns / 1e6:12.3f} ms  {who:5}  {what}")

    # --- faults ----------------------------------------------------------------------------------

    def boot(self, index: int, *, wiped: bool = False) -> None:
        shell = self.shells[index]
        if wiped:
            shell.durable_generation = 0
            self.generations.forget(index)
        self.say("world", f"{shell.name} boots{' with a wiped state directory' if wiped else ''}")
        shell.booted_in_partition = self.network.parted()
        self.leastness.forget(index)
        self.giving_way.forget(index)
        shell.boot()

    def kill(self, index: int, *, power: bool = False) -> None:
        shell = self.shells[index]
        self.say("world", f"{shell.name} {'loses power' if power else 'is killed'}")
        self.losses.note_death(self, shell)
        shell.die(power=power)

    def pause(self, index: int) -> None:
        self.say("world", f"{self.shells[index].name} is stopped (SIGSTOP)")
        self.shells[index].paused = True

    def resume(self, index: int) -> None:
        self.say("world", f"{self.shells[index].name} goes on (SIGCONT)")
        if self.shells[index].running and self.shells[index].paused:
            self.shells[index].wake()

    def cut(self, *senders: int, path: str | None = None) -> None:
        """Cuts what these send (default: both), on one path or on every one."""
        for sender in senders or (0, 1):
            self.say("world", f"{path or 'every path'} from {NAMES[sender]} is cut")
            self.network.cut(sender, path)

    def heal(self) -> None:
        self.say("world", "the wires are whole")
        self.network.heal()

    def end_witness(self) -> None:
        self.say("world", "the witness is ended")
        self.witness.up = False

    def cut_from_witness(self, *indices: int) -> None:
        """Cuts the way of these (default: both) to the witness."""
        for index in indices or (0, 1):
            self.say("world", f"{NAMES[index]} is cut from the witness")
            self.witness.cut_from.add(index)

    def heal_witness(self) -> None:
        self.say("world", "the witness is there for everybody")
        self.witness.up = True
        self.witness.cut_from.clear()

    def stop_reading(self, index: int) -> None:
        self.say("world", f"{NAMES[index]} reads nothing from its stream")
        self.network.unread.add(index)

    def read_again(self, index: int) -> None:
        self.say("world", f"{NAMES[index]} reads again")
        self.network.read_again(index)

    def corrupt(self, index: int) -> None:
        """One flow of a backup's memory is not what was written. (A primary's memory is what its peer gets.)"""
        shell = self.shells[index]
        if shell.running and shell.role is Role.BACKUP:
            keys = corrupt(shell.table, self.rng)
            self.say("world", f"memory of {shell.name} changes beneath its table: {sorted(keys)}")
            self.losses.excuse(keys)
            self.reunion.excuse(keys)
            self.certificates.excuse(keys)

    def mangle(self, way: str) -> None:
        """The next bytes of a stream arrive otherwise than they were sent, by one byte."""
        self.say("world", f"a byte of the stream is {way}")
        self.network.mangling = way
        self.losses.blind = self.certificates.blind = self.mangled = True

    def resync(self, index: int, *, full: bool = False) -> bool:
        """An operator's; False where it is refused."""
        shell, outcome = self.shells[index], []
        self.say("world", f"an operator says resync{' --full' if full else ''} to {shell.name}")

        def order(now: int) -> list[fx.Effect]:
            accepted, _, effects = shell.node.command_resync(full, now)
            outcome.append(accepted)
            if accepted:
                self.leastness.order(full=full)
            return effects

        shell.input(order)
        return outcome == [True]

    def unplug(self, index: int, lan: str) -> None:
        """The interface on a LAN is down; nobody hears it there, and it hears nobody."""
        self.machines[index].set(lan, False)
        self.cut(path=lan)

    def plug_in(self, index: int, lan: str) -> None:
        """Frames pass again once neither node's interface there is down."""
        self.machines[index].set(lan, True)
        if not any(machine.fails(lan) for machine in self.machines):
            self.network.heal(lan)

    def break_stream(self) -> None:
        self.say("world", "the stream breaks")
        self.network.break_streams()

    # --- what happens between them -----------------------------------------------------------------

    def ask_for_vips(self, shell: Shell) -> None:
        """ProbeVips: whoever has the VIPs answers, on each LAN."""
        other = self.shells[1 - shell.index]
        for lan, mac in self.squatters.items():
            self.at(self.network.delay(shell.index), lambda lan=lan, mac=mac: shell.hear_claim(lan, mac))  # type: ignore[misc]
        for lan in self.network.lans:

            def answer(lan: str = lan) -> None:
                if other.armed and not other.paused:
                    self.network.send_arp(other.index, lan, lambda: shell.hear_claim(lan, other.name))

            self.network.send_arp(shell.index, lan, answer)

    def announce(self, shell: Shell) -> None:
        other = self.shells[1 - shell.index]
        for lan in self.network.lans:
            self.network.send_arp(shell.index, lan, lambda lan=lan: other.hear_claim(lan, shell.name))  # type: ignore[misc]

    def connect(self, shell: Shell) -> None:
        """ConnectStream: one round trip, if the wire lets it."""
        shell.connecting += 1
        attempt, boot = shell.connecting, shell.boot_id
        other = self.shells[1 - shell.index]

        def fail() -> None:
            if shell.running and shell.boot_id == boot and shell.connecting == attempt:
                shell.input(lambda now: shell.node.receive_stream_closed(now))

        def arrive() -> None:
            gone = not shell.running or shell.boot_id != boot or shell.connecting != attempt
            if gone or not self.network.whole() or other.powered_off:
                return
            if not other.running:
                self.at(self.network.delay(other.index), fail)
                return
            stream = self.network.open_stream(shell.index, (shell.boot_id, other.boot_id))
            shell.stream = stream
            shell.input(lambda now: shell.node.receive_stream_opened(now))
            other.input(lambda now: self._accept(other, stream, now))

        self.at(self.network.delay(0) + self.network.delay(1), arrive)

    def _accept(self, shell: Shell, stream: Stream, now_ns: int) -> list[fx.Effect]:
        refusal = shell.node.refuse_stream()
        if refusal is not None:
            self.network.write(stream, shell.index, refusal)
            self.network.close(stream, shell.index)
            return []
        if shell.stream is not None:
            self.network.close(shell.stream, shell.index)
        shell.stream = stream
        return shell.node.receive_stream_accepted(now_ns)

    def probe(self, shell: Shell) -> None:
        boot = shell.boot_id
        other = self.shells[1 - shell.index]

        def answer() -> None:
            refused = not other.running and not other.powered_off
            if self.network.whole() and refused and shell.boot_id == boot:
                shell.input(lambda now: shell.node.receive_port_refused(now))

        self.at(self.network.delay(0) + self.network.delay(1), answer)

    def _deliver_datagram(self, index: int, payload: bytes, path: str) -> None:
        shell = self.shells[index]
        shell.input(lambda now: shell.node.receive_datagram(payload, now, path), datagram=True)

    def _deliver_bytes(self, stream: Stream, index: int, data: bytes) -> None:
        shell = self.shells[index]
        if stream.boots[stream.ends.index(index)] != shell.boot_id:
            return
        cut = self.rng.randint(0, len(data))
        for part in (data[:cut], data[cut:]):
            shell.input(
                lambda now, part=part: (  # type: ignore[misc]
                    shell.node.receive_stream_data(part, now) if shell.stream is stream and part else []
                )
            )

    def _deliver_end(self, stream: Stream, index: int) -> None:
        shell = self.shells[index]

        def end(now: int) -> list[fx.Effect]:
            if shell.stream is not stream:
                return []
            shell.stream = None
            shell.table.stop()
            return shell.node.receive_stream_closed(now)

        if stream.boots[stream.ends.index(index)] == shell.boot_id:
            shell.input(end)

    def _traffic(self) -> None:
        """One event of the users' traffic, at whichever nodes forward."""
        self.at(1 + int(self.rng.random() * 2 * self.options.flow_interval_ns), self._traffic)
        if not self.traffic:
            return
        both_serve = all(shell.armed and not shell.paused for shell in self.shells)
        # In a split some clients go by both nodes.
        twin = both_serve and self.rng.random() < 0.2
        for shell in self.shells:
            if not shell.armed or shell.paused or shell.role is not Role.PRIMARY:
                continue
            if shell.node.view(shell.now()).solo is not shell.table.solo:
                raise Broken(f"{shell.name} gives out ports of the wrong range (P20)")
            shell.seen_ns = shell.now()
            table, dice = shell.table, self.rng.random()
            slots = list(table.flows)
            if dice < 0.5 or not slots:
                table.open_flow(self._next_flow)
                self._next_flow += not twin
            elif dice < 0.65:
                table.update_flow(self.rng.choice(slots))
            elif dice < 0.75:
                table.refresh_flow(self.rng.choice(slots))
            else:
                table.close_flow(self.rng.choice(slots))
            shell.input(lambda now: [])
        self._next_flow += twin
