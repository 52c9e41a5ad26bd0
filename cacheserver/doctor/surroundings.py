"""Checks around the node: firewalls of this machine, and the ports that clients need among themselves."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from cacheserver.concurrency.daemon_thread import in_thread
from cacheserver.core.units import parse_listen
from cacheserver.doctor.check import Check
from cacheserver.doctor.context import Context

PEER_PORT: Final = 7680
_TEREDO_PORT: Final = 3544


async def firewall_checks(context: Context) -> list[Check]:
    """Hints for the ports of clients; no program of a firewall is run."""
    server = context.settings.server
    ports = sorted({parse_listen(text)[1] for text in (*server.listen, *server.listen_tls)} - {0})
    active = await in_thread(_active_firewall)
    shown = ", ".join(map(str, ports)) or "80"
    what = f"firewall of this machine for TCP {shown} from clients"
    if active == "ufw":
        return [Check("firewall", "ok", what, "ufw is enabled", " && ".join(f"ufw allow {port}/tcp" for port in ports))]
    if active == "firewalld":
        opened = " ".join(f"--add-port={port}/tcp" for port in ports)
        return [Check("firewall", "ok", what, "firewalld is running", f"firewall-cmd --permanent {opened}")]
    hint = f"where one stands between, open TCP {shown} from clients to this machine (80 and 443 in the end)"
    return [Check("firewall", "ok", what, "neither ufw nor firewalld is active", hint)]


def _active_firewall() -> str:
    try:
        with open("/etc/ufw/ufw.conf", encoding="utf-8", errors="replace") as file:
            if any(line.strip().lower() == "enabled=yes" for line in file):
                return "ufw"
    except OSError:
        pass
    return "firewalld" if os.path.exists("/run/firewalld.pid") or os.path.isdir("/run/firewalld") else ""


async def peer_checks(context: Context) -> list[Check]:
    """Peers answer on TCP 7680; what cannot be tried from here is said as a hint."""
    checks = list(await asyncio.gather(*(_peer(context, peer) for peer in context.options.peers)))
    if not checks:
        hint = "name a client with --peer to have it tried; open TCP 7680 between clients"
        checks.append(Check("peer", "ok", f"TCP {PEER_PORT} between clients", "not tried from here", hint))
    hint = f"open UDP {_TEREDO_PORT} to the internet where peers stand behind different NATs"
    checks.append(Check("teredo", "ok", f"UDP {_TEREDO_PORT} of clients", "cannot be tried from here", hint))
    return checks


async def _peer(context: Context, text: str) -> Check:
    try:
        host, port = parse_listen(text)
    except ValueError:
        host, port = text, PEER_PORT
    reason = await context.dialer.connect(host, port)
    what = f"TCP {port} of peer {host}"
    if reason:
        advice = "open TCP 7680 between clients; Delivery Optimization must run there, with a download mode above 0"
        return Check("peer", "fail", what, reason, advice)
    return Check("peer", "ok", what, "answers")
