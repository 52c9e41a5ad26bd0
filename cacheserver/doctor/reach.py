"""Checks of the network: names and TCP ports of origins, loops back to this node, and ports between clients."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

from cacheserver.client_config.origin_ports import origin_ports
from cacheserver.core.request.addresses import parse_network, vet_address
from cacheserver.core.request.hostname import is_ip_literal
from cacheserver.core.request.service import Service
from cacheserver.core.units import parse_listen
from cacheserver.doctor.check import Check, Level, named
from cacheserver.doctor.context import Context
from cacheserver.doctor.dialer import Place
from cacheserver.doctor.origins import first_probes
from cacheserver.system.regular_file import read_regular

_ESSENTIAL: Final = "windows-update"
_PEER_PORT: Final = 7680
_TEREDO_PORT: Final = 3544


async def reach_checks(context: Context) -> list[Check]:
    """DNS and TCP, a line or two for each service."""
    services = [service for service in context.services() if service.cacheable]
    parts = await asyncio.gather(*(_service(context, service) for service in services))
    return [check for part in parts for check in part]


async def _service(context: Context, service: Service) -> list[Check]:
    hosts = [host for host in service.hosts if not host.startswith("*.")]
    if not hosts:
        found = f"no fixed name to try in {named(list(service.hosts))}"
        return [Check("dns", "ok", f"{service.name} hosts", found)]
    ports = origin_ports(service)
    places = await _places(context, dict.fromkeys(hosts, ports.required[0]))
    checks = [_dns(service, places)]
    known = [host for host in hosts if places[host].addresses]
    for port in (*ports.required, *ports.optional):
        if known:
            checks.append(await _tcp(context, service, known, port, required=port in ports.required))
    return checks


async def _places(context: Context, ports: dict[str, int]) -> dict[str, Place]:
    """Where each host is, asked on its port."""
    found = await asyncio.gather(*(context.dialer.place(host, port) for host, port in ports.items()))
    return dict(zip(ports, found, strict=True))


def _dns(service: Service, places: dict[str, Place]) -> Check:
    what = f"{service.name}: addresses of {len(places)} hosts"
    missing = [host for host, place in places.items() if not place.addresses]
    refused = [host for host, place in places.items() if place.addresses and not _admitted(service, host, place)]
    if missing:
        reason = places[missing[0]].error
        level = _level(service, len(missing), len(places))
        advice = "ask the site's DNS for these names; name an address in upstream.connect_to where there is no DNS"
        return Check("dns", level, what, f"{named(missing)} cannot be resolved ({reason})", advice)
    if refused:
        address = places[refused[0]].addresses[0][0]
        advice = "correct DNS, or permit the block in the service's allow_addresses"
        found = f"{named(refused)} lead to private addresses such as {address}, which the node refuses"
        return Check("dns", "fail", what, found, advice)
    overridden = sum(place.overridden for place in places.values())
    return Check("dns", "ok", what, "all have one" + (f", {overridden} by connect_to" if overridden else ""))


def _admitted(service: Service, host: str, place: Place) -> bool:
    """Whether the node may connect to one of the addresses at least."""
    allowed = tuple(parse_network(block) for block in service.allow_addresses)
    if place.overridden or is_ip_literal(host):
        return True
    return any(vet_address(address, allowed) for address, _ in place.addresses)


async def _tcp(context: Context, service: Service, hosts: list[str], port: int, *, required: bool) -> Check:
    reasons = await asyncio.gather(*(context.dialer.connect(host, port) for host in hosts))
    failed = [host for host, reason in zip(hosts, reasons, strict=True) if reason]
    what = f"{service.name}: TCP {port} to {len(hosts)} hosts"
    if not failed:
        return Check("tcp", "ok", what, "all answer")
    reason = next(reason for reason in reasons if reason)
    level = _level(service, len(failed), len(hosts)) if required else "warn"
    advice = "let the firewall pass it (cacheserver firewall-list)"
    if not required:
        advice += "; needed where clients ask the node over https"
    return Check("tcp", level, what, f"{named(failed)}: {reason}", advice)


def _level(service: Service, failed: int, of: int) -> Level:
    return "fail" if failed == of or service.name == _ESSENTIAL else "warn"


# -- loops ----------------------------------------------------------------------------------------------------------


async def loop_checks(context: Context) -> list[Check]:
    """No origin's name leads to this node: by address, and by what answers there."""
    own = [parse_listen(text) for text in (*context.settings.server.listen, *context.settings.server.listen_tls)]
    hosts, looping = 0, []
    for service in context.services():
        names = [host for host in service.hosts if not host.startswith("*.")]
        places = await _places(context, dict.fromkeys(names, origin_ports(service).required[0]))
        hosts += len(names)
        looping += [host for host, place in places.items() if _leads_here(service, place, own)]
    token = _own_token(context)
    for probe in await first_probes(context):
        if token and token in probe.reply.fields.get("via", "") and probe.host not in looping:
            looping.append(probe.host)
    what = f"loop: {hosts} origin names against this node's addresses"
    if looping:
        advice = "give the node the true addresses: upstream.connect_to, or a resolver that does not point them here"
        return [Check("loop", "fail", what, f"{named(looping)} lead back to this node", advice)]
    return [Check("loop", "ok", what, "none leads back here")]


def _leads_here(service: Service, place: Place, own: list[tuple[str, int]]) -> bool:
    for address, port in place.addresses:
        if not is_local(address):
            continue
        if any(port == number and host in (address, "0.0.0.0", "::") for host, number in own):
            return True
        if not place.overridden and not service.own:
            return True  # DNS gives an address of this machine for somebody else's name
    return False


def is_local(address: str) -> bool:
    """Whether ``address`` is this machine's own: only then can a socket be bound to it."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _own_token(context: Context) -> str:
    """What this node writes into Via; empty where its directory may not be read."""
    path = os.path.join(context.settings.store.volumes[0].path, "node-id")
    try:
        node_id = read_regular(path, 32).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f"cacheserver-{node_id}" if len(node_id) == 16 else ""


# -- peers ------------------------------------------------------------------------------------------------------------


async def peer_checks(context: Context) -> list[Check]:
    """Peers answer on TCP 7680; what cannot be tried from here is said as a hint."""
    checks = list(await asyncio.gather(*(_peer(context, peer) for peer in context.options.peers)))
    if not checks:
        hint = "name a client with --peer to have it tried; open TCP 7680 between clients"
        checks.append(Check("peer", "ok", f"TCP {_PEER_PORT} between clients", "not tried from here", hint))
    hint = f"open UDP {_TEREDO_PORT} to the internet where peers stand behind different NATs"
    checks.append(Check("teredo", "ok", f"UDP {_TEREDO_PORT} of clients", "cannot be tried from here", hint))
    return checks


async def _peer(context: Context, text: str) -> Check:
    try:
        host, port = parse_listen(text)
    except ValueError:
        host, port = text, _PEER_PORT
    reason = await context.dialer.connect(host, port)
    what = f"TCP {port} of peer {host}"
    if reason:
        advice = "open TCP 7680 between clients; Delivery Optimization must run there, with a download mode above 0"
        return Check("peer", "fail", what, reason, advice)
    return Check("peer", "ok", what, "answers")
