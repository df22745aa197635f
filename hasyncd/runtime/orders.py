"""What an operator may tell a running primary of its backends: drain, undrain, weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hasyncd.balance.sources import WEIGHT_MAX
from hasyncd.runtime.balancer import Balancer
from hasyncd.runtime.control_server import EXIT_USAGE, Conclusion

TIMEOUT_S_MAX: Final = 86_400

Outcome = tuple[bool, str]
"""(whether it is done, what to tell)."""


class Orders:
    """Each takes a request of the control socket, which is open to whoever may open it: nothing is taken for granted.
    Raises Conclusion for one that makes no sense."""

    def __init__(self, balancer: Balancer, count_flows: Callable[[int], Mapping[int, int]]) -> None:
        """`count_flows`: `Engine.backend_flow_counts`."""
        self._balancer, self._count_flows = balancer, count_flows

    def drain(self, request: Mapping[str, Any]) -> Outcome:
        timeout_s = request.get("timeout_s")
        if timeout_s is not None and not (_is_number(timeout_s) and 0 <= timeout_s <= TIMEOUT_S_MAX):
            raise Conclusion(f"timeout_s: a number from 0 to {TIMEOUT_S_MAX}", EXIT_USAGE)
        backend, places = self._find(request)
        return self._perform(
            backend, places, "drains in", lambda index: self._balancer.drain(index, backend, timeout_s)
        )

    def undrain(self, request: Mapping[str, Any]) -> Outcome:
        backend, places = self._find(request)
        return self._perform(
            backend, places, "takes new flows of", lambda index: self._balancer.undrain(index, backend)
        )

    def weigh(self, request: Mapping[str, Any]) -> Outcome:
        """Weight 0: the configured one."""
        weight = request.get("weight")
        if type(weight) is not int or not 0 <= weight <= WEIGHT_MAX:
            raise Conclusion(f"weight: a number from 1 to {WEIGHT_MAX}, or 0 as configured", EXIT_USAGE)
        backend, places = self._find(request)
        word = f"has weight {weight} in" if weight else "has its configured weight in"
        return self._perform(
            backend, places, word, lambda index: self._balancer.weigh(index, backend, weight)
        )

    def _find(self, request: Mapping[str, Any]) -> tuple[int, list[int]]:
        """The backend, and the places of the services that it is meant in."""
        backend, name = request.get("backend"), request.get("service")
        if type(backend) is not int:
            raise Conclusion("backend: a backend's id", EXIT_USAGE)
        services = self._balancer.services
        if name is not None and (not isinstance(name, str) or services.find(name) is None):
            raise Conclusion(f"there is no service {name!r}", EXIT_USAGE)
        places = [
            view.index
            for view in services.views()
            if name in (None, view.name)
            and any(each.id == backend and each.state != "removed" for each in view.backends)
        ]
        if not places:
            where = "no service has" if name is None else f"{name} has no"
            raise Conclusion(
                f"{where} a backend {backend}" if name is None else f"{where} backend {backend}", 1
            )
        return backend, places

    def _perform(self, backend: int, places: list[int], word: str, order: Callable[[int], None]) -> Outcome:
        if not self._balancer.leads:
            return False, "this node is not primary: tell the primary, and its backup follows"
        told = []
        for index in places:
            order(index)
            flows = self._count_flows(index).get(backend, 0)
            told.append(
                f"{self._balancer.services.name(index)} ({flows} {'flow' if flows == 1 else 'flows'})"
            )
        return True, f"backend {backend} {word} {', '.join(told)}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
