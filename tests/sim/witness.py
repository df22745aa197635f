"""The witness as the two nodes see it: one register, written by compare-and-swap, behind a wire for each node.

A request reads, decides and writes in two trips, as `runtime/witness.py` does: what has been sent may land late, and
lands only if nobody has written meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hasyncd.core.effects import Effect
from hasyncd.core.register import Answer, Outcome, Register, Request, judge
from hasyncd.core.types import MILLISECOND_NS

if TYPE_CHECKING:
    from tests.sim.shell import Shell
    from tests.sim.simulator import World

TIMEOUT_NS = 1000 * MILLISECOND_NS


class WitnessModel:
    def __init__(self, world: World) -> None:
        self._world = world
        self.register: Register | None = None
        self.up = True
        """False: it refuses connections, as where etcd was killed."""
        self.cut_from: set[int] = set()
        """Nodes whose wire to it is cut: nothing comes back, and nothing says so."""
        self.delay_ns = world.options.witness_delay_ns
        self._version = 0
        self._newest = [0, 0]

    def ask(self, shell: Shell, request: Request) -> None:
        index, boot = shell.index, shell.boot_id
        self._newest[index] = request.number

        def is_current() -> bool:
            return shell.running and shell.boot_id == boot and self._newest[index] == request.number

        def answer(given: Answer) -> None:
            def hear(now: int) -> list[Effect]:
                return shell.node.receive_witness_answer(request.number, given, now) if is_current() else []

            shell.input(hear)

        def fail(after_ns: int, why: str) -> None:
            self._world.at(after_ns, lambda: answer(Answer(Outcome.UNREACHABLE, None, why)))

        def go(to: Callable[[], None]) -> None:
            """One way, if the wire is whole at both its ends."""
            if not self.up:
                fail(self._delay(), "connection refused")
            elif index in self.cut_from:
                fail(TIMEOUT_NS, "no answer")
            else:
                self._world.at(
                    self._delay(), lambda: to() if index not in self.cut_from else fail(TIMEOUT_NS, "cut")
                )

        def read() -> None:
            """At the witness: what the node decides on, a round trip later."""
            version, seen = self._version, self.register
            go(lambda: decide(version, seen))

        def decide(version: int, seen: Register | None) -> None:
            """At the node."""
            if not is_current():
                return
            verdict = judge(seen, request)
            if verdict.outcome is not Outcome.GRANTED or verdict.register == seen:
                answer(verdict)
                return
            go(lambda: write(version, verdict))

        def write(version: int, verdict: Answer) -> None:
            """At the witness."""
            if not self.up:
                fail(0, "connection refused")
            elif version == self._version:
                self._version += 1
                self.register = verdict.register
                self._world.say("etcd", f"{verdict.register}")
                go(lambda: answer(verdict))
            else:
                read()

        go(read)

    def _delay(self) -> int:
        return self._world.rng.randint(*self.delay_ns)
