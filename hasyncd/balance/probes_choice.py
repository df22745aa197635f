"""Which probe a service's configuration asks for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hasyncd.balance.probes import Probe
from hasyncd.balance.probes_command import ask_command
from hasyncd.balance.probes_dns import ask_dns
from hasyncd.balance.probes_http import ask_http
from hasyncd.balance.probes_tcp import ask_tcp
from hasyncd.balance.probes_tls import Trust, ask_tls
from hasyncd.balance.probes_udp import SILENCE, ask_udp

if TYPE_CHECKING:
    from hasyncd.config_health import Health
    from hasyncd.config_services import Service


def probe_for(service: Service, health: Health) -> Probe:
    """What asks the backends of a service."""
    match health.kind:
        case "tcp":
            return Probe(ask_tcp)
        case "http":
            trust = Trust(health.http.tls) if health.http.tls else None
            return Probe(partial(ask_http, health.http, trust))
        case "tls":
            return Probe(partial(ask_tls, Trust(health.tls)))
        case "udp":
            silence = SILENCE if health.udp.expect == "no-refusal" else None
            return Probe(partial(ask_udp, health.udp), silence)
        case "dns":
            assert health.dns is not None, "the configuration sees to it"
            return Probe(partial(ask_dns, health.dns, service.protocol == "tcp"))
        case "command":
            assert health.command is not None, "the configuration sees to it"
            return Probe(partial(ask_command, health.command))
