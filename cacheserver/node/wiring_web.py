"""The components that answer clients, put together: handler, fast lane, listener.

Owns: the wiring of ``web``; the other half of the composition root is ``node.wiring``. Must not start anything, and
must hold no rule of caching or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.http.via import via_token
from cacheserver.core.request.recent_refusals import RecentRefusals
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.judging import Judge
from cacheserver.fill.lookup import Lookup
from cacheserver.fill.relay.relayed_body import Relay
from cacheserver.fill.revalidation import Revalidation
from cacheserver.logs.access_json import AccessLogLines
from cacheserver.metrics.meter import PrometheusMeter
from cacheserver.node.admitted import Admitted
from cacheserver.settings.schema import Settings
from cacheserver.store.store import Store
from cacheserver.system.clock import SystemClock
from cacheserver.web.accounting import AnswerAccounting
from cacheserver.web.answer.answering import Answerer
from cacheserver.web.answer.delivery import Delivery
from cacheserver.web.answer.passing import Passing
from cacheserver.web.answer.rebuilt_manifest import RebuiltManifests
from cacheserver.web.connection import Listener
from cacheserver.web.connection_limits import CONTENT, LimitReport
from cacheserver.web.handler import ContentHandler
from cacheserver.web.lane.hot_table import HotTable
from cacheserver.web.lane.shared import LaneShared
from cacheserver.web.options import ServerOptions


@dataclass(frozen=True, slots=True)
class Basis:
    """The components below ``web``."""

    settings: Settings
    admitted: Admitted
    store: Store
    meter: PrometheusMeter
    clock: SystemClock
    node_id: str

    def clients_at(self, client: str) -> int:
        """As how many clients one of ``core.request.client_shares`` counts."""
        return self.admitted.shared.clients_at(client.partition("/")[0])


@dataclass(frozen=True, slots=True)
class WebSide:
    """The components that answer clients."""

    basis: Basis
    refusals: RecentRefusals
    accounting: AnswerAccounting
    answerer: Answerer
    passing: Passing
    listener: Listener

    def reconfigure(self, server: ServerOptions) -> None:
        """Use changed settings, and the services and subnets that are admitted now."""
        self.passing.reconfigure(server)
        self.listener.reconfigure(server, self.basis.admitted.subnets, self.basis.admitted.shared)

    def drain(self) -> None:
        """Fetch nothing new, and end every connection with the answer that is under way."""
        self.answerer.drain()
        self.listener.drain()

    async def stop(self, drain_s: float) -> None:
        """Let running answers end for at most ``drain_s`` seconds."""
        await self.listener.shutdown(drain_s)


def build_web_side(
    basis: Basis,
    coordinator: Coordinator,
    revalidation: Revalidation,
    relay: Relay,
    passing: Passing,
    judge: Judge,
    *,
    access_log: AccessLogLines | None,
    max_connections: int,
) -> WebSide:
    """Every component that answers clients; nothing listens yet."""
    via = via_token(basis.node_id)
    refusals = RecentRefusals()
    accounting = AnswerAccounting(meter=basis.meter, access_log=access_log, clock=basis.clock, refusals=refusals)
    rebuilt = RebuiltManifests(
        store=basis.store,
        admit=basis.admitted.target,
        services=basis.admitted.services,
        clock=basis.clock,
        judge=judge,
        via=via,
    )
    answerer = Answerer(
        lookup=Lookup(store=basis.store, asker=relay.asker, judge=judge),
        coordinator=coordinator,
        revalidation=revalidation,
        store=basis.store,
        delivery=Delivery(coordinator=coordinator, store=basis.store, relay=relay),
        passing=passing,
        rebuilt=rebuilt,
        clock=basis.clock,
        via=via,
    )
    handler = ContentHandler(
        allowlist=lambda: basis.admitted.allowlist,
        answerer=answerer,
        rebuilt=rebuilt,
        clock=basis.clock,
        node_id=basis.node_id,
        first_byte_s=basis.settings.fill.first_byte_s,
        begun=accounting.under_way.began,
        account=accounting.close,
    )
    table = HotTable()
    basis.store.notifications.withdrawn.append(table.forget)
    listener = _listener(basis, handler, table, accounting, max_connections=max_connections)
    return WebSide(basis, refusals, accounting, answerer, passing, listener)


def _listener(
    basis: Basis, handler: ContentHandler, table: HotTable, accounting: AnswerAccounting, *, max_connections: int
) -> Listener:
    server = basis.settings.server
    lanes = LaneShared(
        table=table,
        clock=basis.clock,
        account=accounting.hit,
        under_way=accounting.under_way,
        touch=basis.store.touch,
        executor=basis.store.reading,
        turn_bytes=server.turn.bytes,
        enabled=server.fast_lane,
    )
    return Listener(
        handler,
        options=server,
        lanes=lanes,
        max_connections=max_connections,
        on_error=accounting.malformed,
        on_limit=LimitReport(basis.meter, basis.clock, CONTENT).limited,
        subnets=basis.admitted.subnets,
        shared=basis.admitted.shared,
    )
