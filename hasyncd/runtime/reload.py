"""`hasyncd reload` and SIGHUP: what of a changed file can be taken without a restart, and what it changes.

Backends, their weights and checks, and what a service does with them can. Whatever else the file says otherwise is
named, and then nothing of it is taken: half a file is no configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import structlog

from hasyncd.config import ConfigError, Settings, load
from hasyncd.config_services import Service

_FIXED: Final = ("vip", "protocol", "allow", "commit")
"""Of a service: what its flows and the data path were made with."""

_log = structlog.get_logger("hasyncd")


class Reload:
    """Reads the file again, and applies it whole or not at all."""

    def __init__(self, settings: Settings, file: Path, apply: Callable[[Settings], None]) -> None:
        self._settings, self._file, self._apply = settings, file, apply

    def reload(self, *, only_check: bool = False) -> tuple[bool, str]:
        """(whether it is in use, what changed or why not), a line each; `only_check` applies nothing."""
        try:
            settings = load(self._file)
        except ConfigError as error:
            return False, str(error)
        obstacles = list(_obstacles(self._settings, settings))
        if obstacles:
            return False, "\n".join(f"{self._file}: {each}" for each in obstacles)
        changes = list(differences(self._settings, settings))
        if changes and not only_check:
            self._settings = settings
            self._apply(settings)
        return True, "\n".join(changes) or "nothing has changed"

    def on_hangup(self) -> None:
        """SIGHUP: the log says what `hasyncd reload` would."""
        accepted, message = self.reload()
        for line in message.splitlines():
            if accepted:
                _log.info("reloaded", detail=line)
            else:
                _log.error("reload_refused", detail=line)


def _obstacles(old: Settings, new: Settings) -> Iterator[str]:
    """Keys that need a restart: hand over, restart, and hand back loses nothing."""
    for name in type(old).model_fields:
        if name != "service" and getattr(old, name) != getattr(new, name):
            yield f"{name}: needs a restart"
    names = [service.name for service in new.service]
    if names != [service.name for service in old.service]:
        yield "service: other services, or in another order, need a restart"
        return
    for place, (was, now) in enumerate(zip(old.service, new.service, strict=True)):
        for key in _FIXED:
            if getattr(was, key) != getattr(now, key):
                yield f"service[{place}].{key}: needs a restart"
        addresses = {backend.id: backend.address for backend in was.backends}
        for at, backend in enumerate(now.backends):
            if addresses.get(backend.id, backend.address) != backend.address:
                yield (
                    f"service[{place}].backends[{at}].address: {backend.id} is at {addresses[backend.id]}, and flows "
                    "go there: a server at another address has another id"
                )


def differences(old: Settings, new: Settings) -> Iterator[str]:
    """What another file changes, a line a change."""
    for was, now in zip(old.service, new.service, strict=True):
        yield from (f"service {now.name}: {change}" for change in _changes(was, now))


def _changes(was: Service, now: Service) -> Iterator[str]:
    for key in type(was).model_fields:
        before, after = getattr(was, key), getattr(now, key)
        if key != "backends" and before != after:
            simple = isinstance(before, str | int | float) and isinstance(after, str | int | float)
            yield f"{key} {before} -> {after}" if simple else f"{key} changed"
    there, here = ({backend.id: backend for backend in each.backends} for each in (was, now))
    for id in sorted(there.keys() | here.keys()):
        if id not in there:
            yield f"backend {id} ({here[id].address}) comes, weight {here[id].weight}"
        elif id not in here:
            yield f"backend {id} ({there[id].address}) goes, and keeps its flows"
        elif there[id].weight != here[id].weight:
            yield f"backend {id}: weight {there[id].weight} -> {here[id].weight}"
        elif there[id] != here[id]:
            yield f"backend {id} changed"
