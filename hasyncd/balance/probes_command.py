"""Does a command of the operator's end well?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hasyncd.balance.probes import Target, Unwell
from hasyncd.bounded_command import judge_command

if TYPE_CHECKING:
    from hasyncd.config_health import CommandProbe


async def ask_command(settings: CommandProbe, target: Target) -> str:
    """Runs it; when the time is up it is killed with all that it began."""
    words = [
        word.replace("{address}", target.address).replace("{port}", str(target.port)) for word in settings.run
    ]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HASYNCD_SERVICE": target.service,
        "HASYNCD_BACKEND": str(target.backend),
        "HASYNCD_ADDRESS": target.address,
        "HASYNCD_PORT": str(target.port),
    }
    good, why = await judge_command(words, target.timeout_s, environment | settings.env)
    if not good:
        raise Unwell(why)
    return why
