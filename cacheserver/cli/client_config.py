"""``cacheserver client-config`` and ``cacheserver firewall-list``: what the site around a node must be told.

Owns: the command line of both. What is printed comes from ``client_config`` and from the services.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import click

from cacheserver.cli.options import CONFIG, JSON
from cacheserver.cli.output import say, say_json
from cacheserver.client_config.formats import FORMATS, POLICY_FORMATS
from cacheserver.client_config.origin_ports import origin_ports
from cacheserver.client_config.policy import ClientPolicy, cache_hosts
from cacheserver.core.request.service import Service
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.schema import Settings

_DELAY: Final = click.IntRange(0, 2_592_000)
_MODES: Final = ("0", "1", "2", "3", "99", "100")


@click.command("client-config")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Name or IPv4 address of a node; may be repeated.")
@click.option("--port", type=click.IntRange(1, 65_535), default=80, show_default=True, metavar="PORT", help="Its port.")
@click.option("--tls", is_flag=True, help="The node serves https too.")
@click.option(
    "--format", "name", required=True, type=click.Choice(list(FORMATS)), metavar="FORMAT", help=", ".join(FORMATS) + "."
)
@click.option(
    "--fallback-foreground",
    "fallback_foreground_s",
    type=_DELAY,
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long a download that someone waits for tries the node before it goes to the CDN.",
)
@click.option(
    "--fallback-background",
    "fallback_background_s",
    type=_DELAY,
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="The same for downloads in the background.",
)
@click.option("--not-on-vpn", is_flag=True, help="Machines on VPN go to the CDN.")
@click.option(
    "--download-mode", "mode", type=click.Choice(_MODES), metavar="MODE", help="Set DODownloadMode too; 99 is simple."
)
@click.option("--from-dhcp", is_flag=True, help="The policy makes clients take the hosts from DHCP option 235.")
def client_config_command(
    hosts: tuple[str, ...], port: int, name: str, mode: str | None, from_dhcp: bool, **policy: Any
) -> int:
    """Print what points clients at this node, for the tool that carries it.

    reg, gpo (LGPO.exe), intune (Microsoft Graph) and powershell carry the policy; dhcp-isc, dhcp-kea, dhcp-windows and
    dnsmasq carry DHCP option 235; linux-agent is the file of the Linux agent.
    """
    if from_dhcp and name not in POLICY_FORMATS:
        raise click.UsageError("--from-dhcp is for reg, gpo, intune and powershell")
    if from_dhcp == bool(hosts):
        raise click.UsageError("with --from-dhcp no --host is given" if hosts else "name a --host")
    mode_number = None if mode is None else int(mode)
    shown = ClientPolicy(hosts=cache_hosts(hosts, port=port), from_dhcp=from_dhcp, download_mode=mode_number, **policy)
    say(FORMATS[name](shown), end="", lines=True)
    return 0


@click.command("firewall-list")
@CONFIG
@JSON
def firewall_list_command(config: str | None, as_json: bool) -> int:
    """Print the hosts and TCP ports that the node must reach, by service, and those that clients use."""
    settings = load_settings(config, Flags())
    outgoing = [_service(service) for service in settings.all_services()] + _trust_services(settings)
    if as_json:
        say_json({"outgoing": outgoing, "incoming": _incoming()}, indent=2)
        return 0
    say("# node to origins\n# port(s)   host  (service)", lines=True)
    for entry in outgoing:
        ports = ",".join(map(str, entry["ports"] + entry["ports_for_tls_clients"]))
        for host in entry["hosts"]:
            say(f"tcp {ports:<7} {host}  ({entry['service']})")
    say("\n# around the node", lines=True)
    for entry in _incoming():
        say(f"{entry['protocol']} {entry['port']:<7} {entry['from']} to {entry['to']}: {entry['meaning']}")
    return 0


def _entry(name: str, hosts: Sequence[str], ports: Sequence[int], ports_for_tls: Sequence[int]) -> dict[str, Any]:
    return {"service": name, "hosts": hosts, "ports": ports, "ports_for_tls_clients": ports_for_tls}


def _service(service: Service) -> dict[str, Any]:
    ports = origin_ports(service)
    sources = (urlsplit(url.removeprefix("cachehost+")).hostname for url in service.sources)
    hosts = [*service.hosts, *(host for host in sources if host and host not in service.hosts)]
    return _entry(service.name, hosts, ports.required, ports.optional)


def _trust_services(settings: Settings) -> list[dict[str, Any]]:
    trust = settings.trust
    asked = (
        ("content-policy", trust.content_policy, trust.content_policy_url),
        ("keyvalue", trust.content_policy and bool(trust.content_policy_keyvalue), trust.content_policy_keyvalue),
        ("edge-cdp", trust.edge_cdp, trust.edge_cdp_url),
    )
    named = [(name, urlsplit(url)) for name, enabled, url in asked if enabled]
    return [_entry(name, [parts.hostname], [parts.port or 443], []) for name, parts in named if parts.hostname]


def _incoming() -> list[dict[str, Any]]:
    rows = (
        ("tcp", 80, "clients", "node", "content over http"),
        ("tcp", 443, "clients", "node", "content over https, where the node has a certificate"),
        ("tcp", 443, "clients", "*.prod.do.dsp.mp.microsoft.com", "Delivery Optimization service"),
        ("tcp", 7680, "clients", "clients", "peers of Delivery Optimization"),
        ("udp", 3544, "clients", "internet", "Teredo, for peers behind different NATs"),
    )
    return [dict(zip(("protocol", "port", "from", "to", "meaning"), row, strict=True)) for row in rows]
