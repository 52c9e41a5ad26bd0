"""Checks of this machine: settings file, holders of the node's ports, descriptor limit, proxy variables, firewall."""

from __future__ import annotations

import os
import resource
import socket
from typing import Final

from cacheserver.concurrency.daemon_thread import in_thread
from cacheserver.core.shown import shown
from cacheserver.core.units import is_ip, parse_listen
from cacheserver.doctor.check import Check
from cacheserver.doctor.context import Context
from cacheserver.doctor.processes import covers, descriptor_limit, user_name
from cacheserver.system.descriptors import OWN
from cacheserver.system.secret_file import exposure, service_gid
from cacheserver.system.zones import socket_address
from cacheserver.web.aiohttp_adapter import TESTED_VERSIONS, untested_version

_FEW_CLIENTS: Final = 1000
_TOO_FEW_CLIENTS: Final = 64
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def config_checks(path: str | None, context: Context) -> list[Check]:
    """The settings are valid when this is called; what remains is who may read them."""
    ignored = [Check("config", "warn", key, "is ignored", reason) for key, reason in context.settings.ignored()]
    library = []
    if found := untested_version():
        advice = f"install aiohttp {TESTED_VERSIONS[-1]}"
        library.append(Check("config", "warn", "aiohttp", f"the node was not tested with version {found}", advice))
    return [*ignored, *library, _file_check(path, context)]


def _file_check(path: str | None, context: Context) -> Check:
    if path is None:
        return Check("config", "ok", "settings", "built-in settings and flags; no file")
    try:
        user = context.options.user
        exposed = exposure(path, service_gid(user) if user else None) if context.settings.admin.token else ""
    except OSError as exc:
        return Check("config", "warn", path, f"valid, but cannot be looked at again: {exc.strerror}")
    if exposed:
        fault, _, command = exposed.partition("; ")
        return Check("config", "warn", path, f"valid and has admin.token, but {fault}", command)
    return Check("config", "ok", path, "valid")


async def port_checks(context: Context) -> list[Check]:
    """Every address of the node is held by a node."""
    server, admin = context.settings.server, context.settings.admin
    texts = [*server.listen, *server.listen_tls, *([admin.listen] if admin.listen else [])]
    return [await _port(context, text) for text in texts]


async def _port(context: Context, text: str) -> Check:
    host, port = parse_listen(text)
    what = f"listener {text}"
    if port == 0:
        return Check("port", "ok", what, "any free port; name the one in use with --listen to have it checked")
    host = await _address(host)
    sockets = [one for one in await context.listeners() if covers(one, host, port)]
    if not sockets:
        return await _free(what, host, port)
    owners = [owner for one in sockets for owner in one.owners]
    shown = ", ".join(dict.fromkeys(owner.shown for owner in owners))
    if any(owner.is_node for owner in owners):
        return Check("port", "ok", what, f"held by {shown}")
    if owners:
        advice = "stop that program, or give the node another address"
        return Check("port", "fail", what, f"port taken: held by {shown}, which is no node", advice)
    users = ", ".join(dict.fromkeys(user_name(one.uid) for one in sockets))
    advice = "run the doctor as root to see which program it is"
    return Check("port", "warn", what, f"held by a program of user {users} that may not be seen", advice)


async def _address(host: str) -> str:
    if is_ip(host):
        return host
    try:
        return str((await in_thread(socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM))[0][4][0])
    except OSError:
        return host


async def _free(what: str, host: str, port: int) -> Check:
    """Nobody listens: the node does not run, and perhaps could not."""
    try:
        await in_thread(_try_bind, host, port)
    except PermissionError:
        advice = "start the node under systemd, or grant it CAP_NET_BIND_SERVICE"
        return Check("port", "fail", what, f"nobody listens, and this user may not use port {port}", advice)
    except OSError as exc:
        return Check("port", "fail", what, f"nobody listens, and it cannot: {exc.strerror}", "correct server.listen")
    return Check("port", "fail", what, "nobody listens: the node is down", "start it: cacheserver serve, or systemctl")


def _try_bind(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(socket_address(host, port) or (host, port))


async def descriptor_checks(context: Context) -> list[Check]:
    """How many clients the descriptor limit leaves room for."""
    process = await context.node_process()
    limits = None if process is None else descriptor_limit(process.pid)
    whose = "the running node's" if limits is not None else "this shell's"
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 0:
        hard = 1 << 62
    limit = soft if limits is not None and soft > 0 else hard  # a node takes its hard limit when it starts
    clients = max(0, (limit - context.settings.store.open_objects - OWN) // 2)
    what = f"file descriptors, {whose} limit"
    found = f"{limit if limit < 1 << 60 else 'unlimited'}, enough for {min(clients, 1_000_000)} clients"
    advice = "raise it (LimitNOFILE=1048576, ulimit -Hn), or lower store.open_objects"
    if clients < _TOO_FEW_CLIENTS:
        return [Check("descriptors", "fail", what, found, advice)]
    if clients < max(_FEW_CLIENTS, context.settings.server.max_connections):
        return [Check("descriptors", "warn", what, found, advice)]
    return [Check("descriptors", "ok", what, found)]


async def proxy_checks(context: Context) -> list[Check]:
    """Proxies that the environment names, which the node does not use."""
    found = {name: value for name in _PROXIES if (value := context.options.environment.get(name))}
    what = "proxy variables of this shell"
    if not found:
        return [Check("proxy", "ok", what, "none")]
    told = ", ".join(f"{name}={shown(value)}" for name, value in sorted(found.items()))
    advice = "the node connects to origins directly and ignores them: let the firewall pass it (firewall-list)"
    return [Check("proxy", "warn", what, told, advice)]


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
