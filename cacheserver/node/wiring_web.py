"""The side of the node that clients see, put together: handler, fast lane, listener.

Owns: who gets what among the rooms that answer; the other half of the composition root is ``node.wiring``. Must not
start anything, and must hold no rule of caching or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.http.via import via_token
from cacheserver.core.request.recent_refusals import RecentRefusals
from cacheserver.core.units import parse_size
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.relay.gated_body import GatedBodies
from cacheserver.logs.build import Logs
from cacheserver.metrics import PrometheusMeter
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
from cacheserver.web.handler import ContentHandler
from cacheserver.web.lane.hot_table import HotTable
from cacheserver.web.lane.shared import LaneShared


@dataclass(frozen=True, slots=True)
class Basis:
    """What the rooms that answer are built on."""

    settings: Settings
    admitted: Admitted
    store: Store
    meter: PrometheusMeter
    clock: SystemClock
    logs: Logs
    node_id: str


@dataclass(frozen=True, slots=True)
class Front:
    """The rooms that answer."""

    basis: Basis
    refusals: RecentRefusals
    answerer: Answerer
    table: HotTable
    listener: Listener

    def use(self, settings: Settings) -> None:
        """Take up changed settings, and what is admitted by now; what the fast lane has learned before is forgotten."""
        self.answerer.options = self.listener.options = settings.server
        self.listener.lanes.enabled = settings.server.fast_lane
        self.table.clear()

    def drain(self) -> None:
        """Nothing new is fetched, and every connection ends with the answer that it is in."""
        self.answerer.draining = True
        self.listener.lanes.enabled = False
        self.table.clear()

    async def stop(self, drain_s: float) -> None:
        """Let running answers end for at most ``drain_s`` seconds."""
        await self.listener.shutdown(drain_s)


def build_front(
    basis: Basis, coordinator: Coordinator, gated: GatedBodies, passing: Passing, *, max_connections: int
) -> Front:
    """Every room that answers; nothing listens yet."""
    via = via_token(basis.node_id)
    refusals = RecentRefusals()
    accounting = AnswerAccounting(meter=basis.meter, access_log=basis.logs.access, clock=basis.clock, refusals=refusals)
    rebuilt = RebuiltManifests(
        store=basis.store,
        admit=basis.admitted.target,
        services=basis.admitted.services,
        clock=basis.clock,
        via=via,
    )
    answerer = Answerer(
        options=basis.settings.server,
        coordinator=coordinator,
        store=basis.store,
        delivery=Delivery(coordinator=coordinator, store=basis.store, gated=gated),
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
        account=accounting.close,
    )
    table = HotTable()
    basis.store.news.on_gone.append(table.forget)
    listener = _listener(basis, handler, table, accounting, max_connections=max_connections)
    return Front(basis, refusals, answerer, table, listener)


def _listener(
    basis: Basis, handler: ContentHandler, table: HotTable, accounting: AnswerAccounting, *, max_connections: int
) -> Listener:
    server = basis.settings.server
    lanes = LaneShared(
        table=table,
        clock=basis.clock,
        account=accounting.hit,
        touch=basis.store.touch,
        executor=basis.store.reading,
        turn_bytes=parse_size(server.turn),
    )
    lanes.enabled = server.fast_lane
    return Listener(
        handler,
        options=server,
        lanes=lanes,
        max_connections=max_connections,
        max_head_bytes=parse_size(server.max_head),
        on_error=accounting.malformed,
        on_refused=basis.meter.connection_refused,
        subnet_of=basis.admitted.subnet,
    )
