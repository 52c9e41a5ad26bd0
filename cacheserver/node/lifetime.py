"""One running node: starts and stops its components in order, and reloads what may change while running.

Owns: lifetimes, signals, the node's identity. ``node.wiring`` builds; this must hold no rule of caching or HTTP.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import re
import secrets
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import uvloop

from cacheserver.concurrency.awake import awake_s, unwatch, watch
from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.errors import CacheserverError, ConfigError
from cacheserver.logs.events import configure, event, get_logger
from cacheserver.logs.writer import LineWriter
from cacheserver.maintenance.volume_watch import keep, try_open
from cacheserver.node.admitted import Admitted
from cacheserver.node.listeners import Listeners
from cacheserver.node.preflight import check_libraries, warn_of_libraries
from cacheserver.node.restart import needs_restart
from cacheserver.node.status import NodeStatus
from cacheserver.node.trust_watch import TrustWatch
from cacheserver.node.wiring import build_components, build_volumes
from cacheserver.settings.schema import Settings
from cacheserver.store.volume import Volume
from cacheserver.system import descriptors
from cacheserver.system.clock import SystemClock
from cacheserver.system.first_process import take_leave_of_orphans
from cacheserver.system.socket_activation import Inherited, take_inherited
from cacheserver.system.systemd import Supervisor, take_supervisor
from cacheserver.tls.current import CurrentCertificate
from cacheserver.web.sending.slow_clients import RATE_WINDOW_S

_log = get_logger(__name__)
_RECENCY_EVERY_S = 300.0
WRITE_DOWN_S = 15.0
"""After the drain: how long ending the fills and writing everything down may take."""


class Node:
    """One node on its volumes. Raises ConfigError for settings that cannot be carried out."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        stderr: LineWriter,
        supervisor: Supervisor | None = None,
        inherited: Inherited | None = None,
    ) -> None:
        self._load = load
        self._settings = self._started_with = settings
        self._stderr = stderr
        self._supervisor = supervisor or Supervisor()
        self._listening = False
        self._tasks: list[asyncio.Task[None]] = []
        clock = SystemClock()
        self._volumes = build_volumes(settings, clock)
        for volume in self._volumes:
            try_open(volume)
        self._parts = build_components(
            settings,
            volumes=self._volumes,
            clock=clock,
            node_id=_node_id(self._volumes[0].path),
            descriptors=_shares(settings),
            stderr=stderr,
        )
        self._trust = TrustWatch(
            anchors=self._parts.sources.anchors,
            judge=self._parts.judge,
            rejudging=self._parts.rejudging,
            coordinator=self._parts.coordinator,
            services=self._parts.admitted.services,
            forget=lambda: self._parts.web.reconfigure(self._settings.server),
        )
        self._certificate = CurrentCertificate(clock=clock, show=self._parts.meter.certificate)
        status = NodeStatus(self._parts, self._certificate, lambda: needs_restart(self._started_with, self._settings))
        self._listeners = Listeners(self._parts, status, self._certificate, inherited)
        status.show_in(self._parts.meter)

    async def start(self) -> None:
        """Listen, then recover behind the first requests. Raises ConfigError or OSError."""
        addresses = await self._listeners.open(self._settings)
        self._listening = True
        event(_log, "listening", **addresses)
        for volume in self._volumes:
            self._start("volume", self._keep(volume))
        self._start("scrub", self._parts.scrubber.run())
        self._start("judging", self._parts.rejudging.run())
        self._trust.judge_all()
        self._start("trust", self._trust.run())
        self._start("pins", self._parts.pinning.run())
        self._start("recency", self._keep_recency())
        self._start("certificate", self._certificate.watch())
        self._start("sweep", self._sweep_slow_readers())
        self._start("watchdog", self._supervisor.keep_alive())
        self._supervisor.ready(_listening_line(addresses))

    async def _end(self, name: str) -> None:
        tasks = [task for task in self._tasks if task.get_name() == name]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, name: str, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _keep(self, volume: Volume) -> None:
        store = self._settings.store
        await keep(
            self._parts.store,
            volume,
            extent_bytes=store.extent.bytes,
            retry_s=store.retry_offline_s,
            on_open=self._parts.pinning.load,
        )

    async def _keep_recency(self) -> None:
        while True:
            await asyncio.sleep(_RECENCY_EVERY_S)
            for volume in self._volumes:
                if volume.loaded.is_set():
                    await to_the_end(volume.save_recency(self._parts.store.executor))

    async def _sweep_slow_readers(self) -> None:
        while True:
            began_s = awake_s()
            await asyncio.sleep(RATE_WINDOW_S)
            self._parts.web.listener.sweep(awake_s() - began_s)

    def reload(self) -> None:
        """Take up changed services, limits, certificates and log settings; a bad file changes nothing."""
        if not self._listening:
            return
        self._supervisor.reloading()
        self._supervisor.ready(self._reload())

    def _reload(self) -> str:
        """A line that says how it went."""
        try:
            settings = self._load()
            admitted = Admitted(settings)
            pair = self._certificate.prepare(settings.tls)
            self._parts.sources.anchors.reload(settings.trust)
        except CacheserverError as exc:
            event(_log, "reload_refused", severity=logging.ERROR, reason=str(exc))
            return f"reload refused: {exc}"
        later = needs_restart(self._started_with, settings)
        self._settings = settings
        parts = self._parts
        parts.admitted.take_over(admitted)
        parts.sources.client.reconnect()
        self._certificate.take(settings.tls, pair)
        parts.web.reconfigure(settings.server)
        parts.scrubber.use(settings.scrub)
        parts.rejudging.use(settings.scrub)
        self._trust.begin_era()
        parts.pinning.readmit()
        parts.meter.tally.allow_services(service.name for service in admitted.services())
        parts.meter.tally.allow_subnets(admitted.subnets.names)
        configure(settings.log, self._stderr.put)
        self._flush_access_log()
        parts.logs.file.reopen()
        event(_log, "reloaded", services=len(admitted.services()), needs_restart=list(later))
        return f"reloaded; a restart is needed for {', '.join(later)}" if later else "reloaded"

    def _flush_access_log(self) -> None:
        if self._parts.logs.access is not None:
            self._parts.logs.access.flush()

    @property
    def stops_within_s(self) -> float:
        """How long ``stop`` may take."""
        return self._settings.server.drain_s + WRITE_DOWN_S

    async def stop(self) -> None:
        """Take no more connections, let running answers end, write everything down."""
        parts = self._parts
        self._listening = False
        self._supervisor.stopping(self.stops_within_s)
        parts.web.drain()
        self._listeners.close_content()
        await parts.web.stop(self._settings.server.drain_s)
        await self._end("pins")
        await self._end("judging")
        await parts.judge.stop()
        await parts.revalidation.stop()
        await parts.coordinator.stop()
        recovered = all(volume.loaded.is_set() for volume in self._volumes)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await parts.sources.anchors.close()
        await parts.sources.client.close()
        await parts.sources.resolver.close()
        await parts.store.stop(clean=recovered)
        await self._listeners.close_admin()
        self._flush_access_log()
        if parts.logs.file is not self._stderr:
            parts.logs.file.close()
        event(_log, "stopped")
        self._supervisor.close()


def run(load: Callable[[], Settings]) -> int:
    """Run a node until SIGTERM or SIGINT; SIGHUP reloads. Exit code 0 for a clean stop."""
    check_libraries()
    settings = load()
    stderr = LineWriter()
    configure(settings.log, stderr.put)
    warn_of_libraries()
    supervisor, inherited = take_supervisor(os.environ), take_inherited(os.environ)
    if supervisor.watchdog_s:
        faulthandler.enable()  # the watchdog's SIGABRT then shows what the loop hung in
    try:
        uvloop.run(_run(settings, load, supervisor, inherited, stderr))
    finally:
        stderr.close()
        configure(settings.log)
    return 0


async def _run(
    settings: Settings, load: Callable[[], Settings], supervisor: Supervisor, inherited: Inherited, stderr: LineWriter
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    watch()
    take_leave_of_orphans(process_id=os.getpid())
    descriptors.raise_limit()
    node = Node(settings, load, supervisor=supervisor, inherited=inherited, stderr=stderr)
    loop.add_signal_handler(signal.SIGHUP, node.reload)
    await node.start()
    await stopping.wait()
    _give_up_after(node.stops_within_s, stderr)
    await node.stop()
    unwatch()


def _give_up_after(within_s: float, stderr: LineWriter) -> None:
    """End the process by force then: threads whose disk call never returns would hold up its end for ever.

    What is not written down is found by the next start, as after a kill.
    """

    def give_up() -> None:
        reason = "something does not end, most likely a call to a disk"
        event(_log, "stop_forced", severity=logging.ERROR, after_s=within_s, reason=reason)
        stderr.close()
        os._exit(1)

    timer = threading.Timer(within_s, give_up)
    timer.daemon = True
    timer.start()


def _listening_line(addresses: dict[str, Any]) -> str:
    shown = [f"{kind} {', '.join(found) if isinstance(found, list) else found}" for kind, found in addresses.items()]
    return "listening: " + "; ".join(line for line in shown if not line.endswith(" "))


def _shares(settings: Settings) -> descriptors.Shares:
    """The descriptors of objects and clients; too few are said once, here."""
    wanted = settings.store.open_objects, settings.server.max_connections
    found = descriptors.shares(descriptors.limit(), *wanted)
    if found.short:
        facts = {"open_objects": found.open_objects, "max_connections": found.connections}
        event(_log, "few_descriptors", severity=logging.WARNING, limit=descriptors.limit(), **facts)
    return found


def _on_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    exc = context.get("exception")
    event(_log, "loop_error", severity=logging.ERROR, reason=str(context.get("message")), kind=type(exc).__name__)
    if exc is not None:
        _log.debug("loop error", exc_info=exc)


def _node_id(directory: str) -> str:
    """16 hex digits that stay with the cache directory; they tell this node in Via."""
    path = os.path.join(directory, "node-id")
    try:
        with open(path, encoding="ascii") as file:
            known = file.read(32).strip()
    except (OSError, UnicodeDecodeError):
        known = ""
    if re.fullmatch(r"[0-9a-f]{16}", known):
        return known
    made = secrets.token_hex(8)
    try:
        with open(path, "w", encoding="ascii", opener=partial(os.open, mode=0o600)) as file:
            file.write(made)
    except OSError as exc:
        event(_log, "node_id_not_kept", severity=logging.WARNING, reason=ConfigError(str(exc.strerror)))
    return made
