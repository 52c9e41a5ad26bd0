"""The composition root: builds every room, starts and stops them in order, reloads what may change while running.

Owns: lifetimes. Nothing else constructs rooms. Must hold no rule of caching or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import resource
import secrets
import signal
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import uvloop
from aiohttp import web

import cacheserver
from cacheserver.access_log import AccessLog
from cacheserver.account import Account
from cacheserver.core.addresses import Network, parse_network
from cacheserver.core.admission import parse_target
from cacheserver.core.allowlist import AllowList
from cacheserver.core.errors import CacheserverError, ConfigError, RequestError, VolumeOffline
from cacheserver.core.source_health import SourceHealth
from cacheserver.core.sources import source_hosts
from cacheserver.core.target import Target
from cacheserver.core.units import parse_listen, parse_size
from cacheserver.core.via import via_token
from cacheserver.fill.asking import Asker
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.opening import Opener
from cacheserver.fill.spool import Spool
from cacheserver.fill.verification import MetadataFetcher
from cacheserver.log import configure, event, get_logger
from cacheserver.maintenance.load import Load
from cacheserver.maintenance.scrubber import Scrubber
from cacheserver.metrics import PrometheusMeter, VolumeGauges
from cacheserver.redirects import follow
from cacheserver.settings import Settings
from cacheserver.store.recovery import recover
from cacheserver.store.store import Store
from cacheserver.store.threads import to_the_end
from cacheserver.store.volume import Volume
from cacheserver.tls import load_into, server_context
from cacheserver.trust.anchors import build_anchors
from cacheserver.upstream.client import UpstreamClient
from cacheserver.upstream.resolver import VettedResolver
from cacheserver.web.admin import Health, admin_app
from cacheserver.web.admin_actions import AdminActions
from cacheserver.web.connection import Listener
from cacheserver.web.content import ContentHandler, Policy
from cacheserver.web.delivery import Delivery
from cacheserver.web.fast_lane import LaneShared
from cacheserver.web.hot_table import HotTable
from cacheserver.web.passing import Passing
from cacheserver.web.rebuilt_phf import RebuiltManifests
from cacheserver.web.wire import RATE_WINDOW_S

_log = get_logger(__name__)
_OWN_DESCRIPTORS = 256
_ANYWHERE = (parse_network("0.0.0.0/0"), parse_network("::/0"))
"""Naming a further source permits its address, whatever it is."""
_RESTART_SECTIONS = ("admin", "store", "fill", "upstream")
_RECENCY_EVERY_S = 300.0


class SystemClock:
    """The machine's clocks."""

    def wall_s(self) -> float:
        """Unix time."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class Node:
    """One running node."""

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self._load = load
        self._settings = settings
        self._clock = SystemClock()
        self._started_s = self._clock.wall_s()
        self._policy = _policy(settings)
        self._meter = PrometheusMeter(services=[service.name for service in settings.all_services()])
        self._volumes = [
            Volume(
                path=volume.path,
                capacity_bytes=parse_size(volume.max_size),
                low_water_percent=settings.store.low_water_percent,
                errors_until_offline=settings.store.errors_until_offline,
                retry_s=settings.store.retry_offline_s,
                clock=self._clock,
            )
            for volume in settings.store.volumes
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.Server] = []
        self._tls: ssl.SSLContext | None = None

    async def start(self) -> None:
        """Open the store, listen, then recover behind. Raises ConfigError or OSError."""
        _raise_descriptor_limit()
        for volume in self._volumes:
            self._try_open(volume)
        self._build()
        await self._listen()
        for volume in self._volumes:
            self._tasks.append(asyncio.create_task(self._recover(volume), name="recover"))
        self._tasks.append(asyncio.create_task(self._scrubber.run(), name="scrub"))
        self._tasks.append(asyncio.create_task(self._keep_recency(), name="recency"))
        self._tasks.append(asyncio.create_task(self._sweep_slow_readers(), name="sweep"))

    def _try_open(self, volume: Volume) -> None:
        try:
            volume.open()
        except VolumeOffline as exc:
            event(_log, "volume_offline", severity=logging.ERROR, reason=str(exc))

    async def _recover(self, volume: Volume) -> None:
        while not volume.opened:
            await asyncio.sleep(self._settings.store.retry_offline_s)
            self._try_open(volume)
        await recover(self._store, volume, extent_bytes=parse_size(self._settings.store.extent))

    def _build(self) -> None:
        settings, node_id = self._settings, _node_id(self._volumes[0].path)
        store_options, piece_size_bytes = settings.store, parse_size(settings.store.piece_size)
        self._store = Store(
            volumes=self._volumes,
            extent_bytes=parse_size(store_options.extent),
            open_objects=store_options.open_objects,
            io_threads=store_options.io_threads,
            meter=self._meter,
        )
        self._resolver = VettedResolver(
            connect_to={host: _address(value) for host, value in settings.upstream.connect_to.items()},
            allowed_for=self._allowed_for,
            ttl_s=settings.upstream.dns_ttl_s,
        )
        self._upstream = UpstreamClient(
            options=settings.upstream,
            resolver=self._resolver,
            redirect=lambda request, location: follow(request, location, self._policy.allowlist),
            clock=self._clock,
            meter=self._meter,
            user_agent=f"cacheserver/{cacheserver.__version__}",
        )
        self._health_of_sources = SourceHealth()
        asker = Asker(
            upstream=self._upstream,
            node_id=node_id,
            health=self._health_of_sources,
            clock=self._clock,
            meter=self._meter,
        )
        self._anchors = build_anchors(
            settings.trust,
            clock=self._clock,
            count=self._meter.anchor,
            user_agent=f"cacheserver/{cacheserver.__version__}",
            resolver=self._resolver,
        )
        fetcher = MetadataFetcher(
            asker=asker,
            anchor=self._anchors,
            admit=self._admit_url,
            meter=self._meter,
            clock=self._clock,
            negative_s=settings.fill.negative_s,
        )
        spool = Spool(limit_bytes=parse_size(settings.fill.spool_bytes))
        opener = Opener(
            store=self._store,
            asker=asker,
            fetcher=fetcher,
            options=settings.fill,
            piece_size_bytes=piece_size_bytes,
            spool=spool,
        )
        self._coordinator = Coordinator(
            store=self._store,
            asker=asker,
            opener=opener,
            fetcher=fetcher,
            options=settings.fill,
            meter=self._meter,
            clock=self._clock,
        )
        self._access_log = AccessLog(settings.log.access_file) if settings.log.access else None
        self._account = Account(meter=self._meter, access_log=self._access_log, clock=self._clock)
        self._handler = ContentHandler(
            policy=self._policy,
            coordinator=self._coordinator,
            store=self._store,
            delivery=Delivery(coordinator=self._coordinator, store=self._store),
            passing=Passing(
                asker=asker,
                meter=self._meter,
                via=via_token(node_id),
                spool=spool,
                first_byte_s=settings.fill.first_byte_s,
            ),
            rebuilt=RebuiltManifests(
                store=self._store,
                admit=self._admit_url,
                services=lambda: self._policy.allowlist.services,
                clock=self._clock,
                via=via_token(node_id),
            ),
            clock=self._clock,
            node_id=node_id,
            first_byte_s=settings.fill.first_byte_s,
            account=self._account.close,
        )
        self._scrubber = Scrubber(
            store=self._store,
            options=settings.scrub,
            clock=self._clock,
            load=Load(
                fills=lambda: self._coordinator.fills_in_flight,
                sent_bytes=self._meter.response_bytes,
                clock=self._clock,
            ),
            count=self._meter.scrubbed,
            piece_size_bytes=piece_size_bytes,
        )
        self._table = HotTable()
        self._store.on_gone.append(self._table.forget)
        lanes = LaneShared(
            table=self._table,
            clock=self._clock,
            account=self._account.lane,
            touch=self._store.touch,
            executor=self._store.executor,
            turn_bytes=parse_size(settings.server.turn),
        )
        lanes.enabled = settings.server.fast_lane
        self._listener = Listener(
            self._handler,
            options=settings.server,
            lanes=lanes,
            max_connections=settings.server.max_connections or _descriptors_for_clients(store_options.open_objects),
            max_head_bytes=parse_size(settings.server.max_head),
            on_error=self._account.malformed,
        )
        self._meter.set_connections_source(lambda: self._listener.connection_count)
        self._meter.set_store_source(self._gauges)

    def _allowed_for(self, host: str) -> tuple[Network, ...]:
        if host in self._policy.source_hosts:
            return _ANYWHERE
        service = self._policy.allowlist.match(host)
        return () if service is None else tuple(parse_network(block) for block in service.allow_addresses)

    def _admit_url(self, url: str) -> Target | None:
        """The target of a URL that a service's rule made, if its host is allowed."""
        try:
            host = urlsplit(url).netloc
            return parse_target(url, (host,), tls=url.startswith("https:"), allowlist=self._policy.allowlist)
        except (RequestError, ValueError):
            return None

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for address in self._settings.server.listen:
            host, port = parse_listen(address)
            server = await loop.create_server(self._listener, host, port, backlog=1024, reuse_address=True)
            self._servers.append(server)
        plain = [_name(server) for server in self._servers]
        secure = await self._listen_tls()
        admin = await self._listen_admin()
        event(_log, "listening", content=plain, tls=secure, admin=admin)

    async def _listen_tls(self) -> list[str]:
        if not self._settings.server.listen_tls:
            return []
        self._tls = server_context(self._settings.tls)
        loop, names = asyncio.get_running_loop(), []
        for address in self._settings.server.listen_tls:
            host, port = parse_listen(address)
            server = await loop.create_server(
                self._listener, host, port, backlog=1024, reuse_address=True, ssl=self._tls, ssl_handshake_timeout=10.0
            )
            self._servers.append(server)
            names.append(_name(server))
        return names

    async def _listen_admin(self) -> str:
        if not self._settings.admin.listen:
            return ""
        actions = AdminActions(
            store=self._store,
            scrubber=self._scrubber,
            sources=self._health_of_sources,
            admit=self._admit_url,
            clock=self._clock,
        )
        app = admin_app(
            options=self._settings.admin,
            meter=self._meter,
            health=self._health,
            status=self._status,
            add_actions=actions.add_to,
        )
        self._admin = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=60.0)
        await self._admin.setup()
        host, port = parse_listen(self._settings.admin.listen)
        site = web.TCPSite(self._admin, host, port)
        await site.start()
        bound = self._admin.addresses[0]
        return f"{bound[0]}:{bound[1]}"

    # -- what the admin listener shows --------------------------------------------------------------------------

    def _health(self) -> Health:
        reasons = []
        if self._handler.draining:
            reasons.append("draining")
        if not any(volume.online for volume in self._volumes):
            reasons.append("no volume is online; requests pass through")
        return Health(ready=not reasons, reasons=tuple(reasons))

    def _status(self) -> dict[str, Any]:
        return {
            "version": cacheserver.__version__,
            "uptime_s": round(self._clock.wall_s() - self._started_s, 1),
            "draining": self._handler.draining,
            "connections": self._listener.connection_count,
            "fills": self._coordinator.fills_in_flight,
            "tasks": len(asyncio.all_tasks()),
            "banned_sources": [
                {"source": ban.source, "seconds_left": round(ban.seconds_left)}
                for ban in self._health_of_sources.bans(self._clock.monotonic_s())
            ],
            "services": sorted(service.name for service in self._policy.allowlist.services),
            "volumes": [
                {
                    "path": volume.path,
                    "stored_bytes": volume.ledger.stored_bytes,
                    "reserved_bytes": volume.ledger.reserved_bytes,
                    "capacity_bytes": volume.ledger.capacity_bytes,
                    "objects": volume.object_count,
                    "online": volume.online,
                    "writable": volume.writable,
                    "errors": volume.error_count,
                    "loaded": volume.loaded.is_set(),
                    "reconciled": volume.reconciled,
                }
                for volume in self._volumes
            ],
        }

    def _gauges(self) -> list[VolumeGauges]:
        return [
            VolumeGauges(
                volume=volume.path,
                stored_bytes=volume.ledger.stored_bytes,
                capacity_bytes=volume.ledger.capacity_bytes,
                objects=volume.object_count,
                online=volume.online,
                quarantined=volume.quarantine.count,
                scrubbed_s=self._scrubber.completed_s(volume),
            )
            for volume in self._volumes
        ]

    # -- while running ------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Take up changed services, limits and log settings; a bad file changes nothing."""
        if not self._servers:
            return
        try:
            settings = self._load()
            policy = _policy(settings)
            self._anchors.reload(settings.trust)
            if self._tls is not None:
                load_into(self._tls, settings.tls)
        except CacheserverError as exc:
            event(_log, "reload_refused", severity=logging.ERROR, reason=str(exc))
            return
        later = [name for name in _RESTART_SECTIONS if getattr(settings, name) != getattr(self._settings, name)]
        for name in ("listen", "listen_tls"):
            if getattr(settings.server, name) != getattr(self._settings.server, name):
                later.append(f"server.{name}")
        self._settings, self._policy = settings, policy
        self._handler.policy = policy
        self._listener.options = settings.server
        self._listener.lanes.enabled = settings.server.fast_lane
        self._scrubber.use(settings.scrub)
        self._table.clear()
        self._meter.allow_services(service.name for service in policy.allowlist.services)
        configure(settings.log)
        if self._access_log is not None:
            self._access_log.reopen()
        event(_log, "reloaded", services=len(policy.allowlist.services), needs_restart=later)

    async def _keep_recency(self) -> None:
        while True:
            await asyncio.sleep(_RECENCY_EVERY_S)
            for volume in self._volumes:
                if volume.loaded.is_set():
                    await to_the_end(volume.save_recency(self._store.executor))

    async def _sweep_slow_readers(self) -> None:
        while True:
            await asyncio.sleep(RATE_WINDOW_S)
            self._listener.sweep(RATE_WINDOW_S)

    async def stop(self) -> None:
        """Take no more connections, let running answers end, write everything down."""
        self._handler.draining = True
        self._listener.lanes.enabled = False
        self._table.clear()
        for server in self._servers:
            server.close()
        await self._listener.shutdown(self._settings.server.drain_s)
        await self._coordinator.stop()
        recovered = all(task.done() for task in self._tasks if task.get_name() == "recover")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._anchors.close()
        await self._upstream.close()
        await self._resolver.close()
        await self._store.stop(clean=recovered)
        if self._settings.admin.listen:
            await self._admin.cleanup()
        if self._access_log is not None:
            self._access_log.close()
        event(_log, "stopped")


def run(load: Callable[[], Settings]) -> int:
    """Run a node until SIGTERM or SIGINT; SIGHUP reloads. Exit code 0 for a clean stop."""
    settings = load()
    configure(settings.log)
    uvloop.run(_run(settings, load))
    return 0


async def _run(settings: Settings, load: Callable[[], Settings]) -> None:
    node = Node(settings, load)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, node.reload)
    await node.start()
    await stopping.wait()
    await node.stop()


def _on_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    exc = context.get("exception")
    event(_log, "loop_error", severity=logging.ERROR, reason=str(context.get("message")), kind=type(exc).__name__)
    if exc is not None:
        _log.debug("loop error", exc_info=exc)


def _policy(settings: Settings) -> Policy:
    services = settings.all_services()
    hosts = frozenset(host for service in services for host in source_hosts(service))
    return Policy(allowlist=AllowList(services), options=settings.server, source_hosts=hosts)


def _address(value: str) -> tuple[str, int]:
    return parse_listen(value)


def _name(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _node_id(directory: str) -> str:
    """16 hex digits that stay with the cache directory; they tell this node in Via."""
    path = os.path.join(directory, "node-id")
    try:
        with open(path, encoding="ascii") as file:
            known = file.read(32).strip()
    except (FileNotFoundError, UnicodeDecodeError):
        known = ""
    if re.fullmatch(r"[0-9a-f]{16}", known):
        return known
    made = secrets.token_hex(8)
    try:
        with open(path, "w", encoding="ascii", opener=partial(os.open, mode=0o600)) as file:
            file.write(made)
    except OSError as exc:
        raise ConfigError(f"cache directory {directory} cannot be written", key="store.volumes") from exc
    return made


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _descriptors_for_clients(open_objects: int) -> int:
    """Connections that fit: each may cost two descriptors, besides objects, sources and the node's own."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, (soft - open_objects - _OWN_DESCRIPTORS) // 2)
