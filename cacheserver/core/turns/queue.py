"""Which waiting upstream request is sent next: one queue for all kinds of requests of the whole node.

Owns: the limits (per origin, per client, in all), and when a waiting turn is granted. A request that is silent, or
whose own client takes nothing, is *quiet* and counts against a share of its own, so that it keeps nobody else out.
Origins that have not answered lately have no more than three quarters of the total. ``docs/decisions.md`` has the
reasons.
``Turns`` gives out what it has granted; its caller does what follows. Time is handed in. Pure.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Final

from cacheserver.core.turns.line import Line
from cacheserver.core.turns.origin import Limits, Origin, most_of
from cacheserver.core.turns.shares import Client, Flow, Priority, State, Turn

ORPHANS: Final = 2
"""Requests of one client that run on though nobody waits for them, before it gets no further slot of that origin."""
SOON_S: Final = 2.0
LEAST: Final = 2
"""Requests that every origin may have, however many the others have on the line that all share."""
_ORIGINS_KEPT = 1024
_FLOWS_KEPT = 64
_LOOKED_AT: Final = 4
_entries = count()


class Turns:
    """Every request that waits or is under way. ``weight`` says as how many clients an address counts."""

    def __init__(self, limits: Limits, *, weight: Callable[[str], int] = lambda _client: 1) -> None:
        self.limits = limits
        self.granted: list[Turn] = []
        """Turns that were granted since it was last emptied."""
        self._weight = weight
        self.site = Line(piece_bytes=limits.piece_bytes)
        """The line that all origins share."""
        self.origins: OrderedDict[str, Origin] = OrderedDict()
        self._clients: dict[str, Client] = {}
        self.used = 0
        self._quiet = 0
        self._unproven_used = 0
        self._freed: list[Client] = []
        """Clients with parked flows, of which one may be due."""
        self._blocked: dict[tuple[Priority, bool], dict[str, None]] = {
            (priority, proven): {} for priority in Priority for proven in (True, False)
        }
        """Origins for which a slot of the total was missing, by the priority that waited and whether it is proven."""

    # -- what happens -------------------------------------------------------------------------------------------

    def ask(self, turn: Turn, client: str, priority: Priority, now_s: float) -> None:
        """Queue a turn; it may be granted at once."""
        turn.asked_s = now_s
        self.join(turn, client, priority)

    def take(self, turn: Turn, client: str, now_s: float) -> None:
        """Grant a turn at once, whatever the limits: of a request without which one that holds a slot cannot go on."""
        turn.asked_s = now_s
        origin = self.origin(turn.origin)
        flow = self._flow(origin, client)
        origin.busy += not (flow.used or flow.waits)
        self._charge(origin, flow, turn)

    def join(self, turn: Turn, client: str, priority: Priority) -> None:
        """One more client waits for a turn, or more urgently; it is served when the first of them is."""
        origin = self.origin(turn.origin)
        flow = self._flow(origin, client)
        known = [place[1] for place in turn.places if place[0] is flow]
        if turn.state is not State.WAITING or (known and min(known) <= priority):
            return
        was_idle = not (flow.used or flow.waits)
        turn.places.append((flow, priority))
        flow.backlogs[priority].add(turn, flow.due(turn.object_id))
        origin.waiting[priority] += 1
        if was_idle:
            flow.finish = max(flow.finish, origin.now)
            origin.busy += 1
        self._enter(origin, flow, priority)
        self._hand_out(origin)
        self._unpark_freed()

    def end(self, turn: Turn, now_s: float) -> None:
        """A turn is over, whether it waited or held a slot."""
        state, turn.state = turn.state, State.ENDED
        origin = self.origins.get(turn.origin)
        if state is State.ENDED or origin is None:
            return
        if state is State.WAITING:
            self._unqueue(origin, turn)
            self._hand_out(origin)
            self._unpark_freed()
            return
        flow = turn.holder
        assert flow is not None, "a held slot has a holder"
        self._set_quiet(origin, turn, False, now_s)
        successor = self._successor(origin, flow, turn)
        if turn.heard:
            self._moves(origin, turn, False, now_s)
        flow.orphans -= turn.orphan
        self._count(origin, flow, -1)
        flow.settle(turn)
        if origin.proven and now_s - turn.asked_s < SOON_S:
            origin.line.ended_soon(self.limits.per_origin)
            self.site.ended_soon(self.limits.total)
        if successor is not None:
            self._grant(origin, flow, successor)
        self._rest(origin, flow)
        self._again(origin, flow)

    def _successor(self, origin: Origin, flow: Flow, turn: Turn) -> Turn | None:
        """Who has the slot next where the line is thin: what follows in the object, or its client would be starved."""
        thin = origin.line.is_thin or self.site.is_thin
        if not thin or turn.orphan or not turn.taken_bytes or flow.used > origin.share(flow):
            return None
        found = (backlog.first_of(turn.object_id) for backlog in flow.backlogs)
        return next((each for each in found if each is not None), None)

    def silent(self, turn: Turn, now_s: float) -> None:
        """A held request has had no answer for a while."""
        self._prove(self.origins[turn.origin], False)
        self.set_quiet(turn, True, now_s)

    def answered(self, turn: Turn, now_s: float) -> None:
        """The head of a held request has come."""
        if turn.state is not State.HELD or turn.heard:
            return
        origin = self.origins[turn.origin]
        known = origin.proven
        self._prove(origin, True)
        self.set_quiet(turn, False, now_s)
        turn.heard = True
        self._moves(origin, turn, True, now_s)
        if not known:
            self._hand_out(origin)
            self._hand_out_elsewhere()

    def took(self, turn: Turn, count_bytes: int, now_s: float) -> None:
        """Bytes of a body have come."""
        turn.taken_bytes += count_bytes
        origin = self.origins.get(turn.origin)
        if origin is None:
            return
        learnt = self.site.took(turn, count_bytes, now_s)
        if origin.line.took(turn, count_bytes, now_s):
            self._hand_out(origin)
            learnt = True
        if learnt:
            self._hand_out_elsewhere()

    def set_quiet(self, turn: Turn, quiet: bool, now_s: float) -> None:
        """Whether a held request uses the line: not while it is silent, or its client takes nothing."""
        if turn.state is State.HELD and turn.holder is not None:
            origin = self.origins[turn.origin]
            self._set_quiet(origin, turn, quiet, now_s)
            if quiet:
                self._again(origin, turn.holder)

    def set_orphan(self, turn: Turn, orphan: bool) -> None:
        """Whether nobody waits for what a held request brings."""
        if turn.state is State.HELD and turn.orphan is not orphan and turn.holder is not None:
            turn.orphan = orphan
            turn.holder.orphans += 1 if orphan else -1
            self._again(self.origins[turn.origin], turn.holder)

    def origin(self, name: str) -> Origin:
        """What is known of an origin; of a thousand idle ones, those used last."""
        found = self.origins.get(name)
        if found is None:
            found = self.origins[name] = Origin(name, self.limits)
            for _ in range(min(_LOOKED_AT, len(self.origins) - _ORIGINS_KEPT)):
                other, state = self.origins.popitem(last=False)
                if state.busy or state is found:
                    self.origins[other] = state
        return found

    # -- limits -------------------------------------------------------------------------------------------------

    def _total_admits(self, origin: Origin) -> bool:
        active = self.used - min(self._quiet, self.limits.total)
        if active >= self.limits.total or (active >= self.site.room and origin.active >= LEAST):
            return False
        return origin.proven or self._unproven_used < most_of(self.limits.total)

    def _flow_admits(self, origin: Origin, flow: Flow) -> bool:
        share = origin.share(flow)
        active = flow.used - min(flow.quiet, max(share, most_of(self.limits.per_origin)))
        if flow.orphans:  # a client that leaves what it asked for may leave the next one, too
            return flow.orphans <= ORPHANS * flow.client.weight and active - flow.orphans < flow.client.weight
        return active < share

    def _client_admits(self, client: Client) -> bool:
        most = most_of(self.limits.total) * client.weight
        return client.used - min(client.quiet, most) < most

    # -- granting -----------------------------------------------------------------------------------------------

    def _again(self, origin: Origin, flow: Flow) -> None:
        """Something of this flow was given back: grant what that makes possible, here and elsewhere."""
        for priority in Priority:
            self._enter(origin, flow, priority)
        if origin.busy == 1:
            for other in origin.flows.values() if len(origin.flows) <= _FLOWS_KEPT else ():
                for priority in Priority:
                    self._enter(origin, other, priority)
        self._hand_out(origin)
        self._freed.append(flow.client)
        self._hand_out_elsewhere()

    def _hand_out_elsewhere(self) -> None:
        """Grant turns for which a slot of the total was missing: one at each origin in turn, the most urgent first."""
        for (_priority, proven), blocked in self._blocked.items():
            refused = 0
            while len(blocked) > refused and refused < _LOOKED_AT:
                name = next(iter(blocked))
                del blocked[name]
                found = self.origins.get(name)
                if found is not None and found.proven is proven and not self._total_admits(found):
                    blocked[name] = None
                    refused += 1
                elif found is not None:
                    self._hand_out(found, most=1)
        self._unpark_freed()

    def _unpark_freed(self) -> None:
        while self._freed:
            self._unpark(self._freed.pop())

    def _unpark(self, client: Client) -> None:
        """Let flows of a client in that has room again, until one of them can be granted."""
        while client.parked and self._client_admits(client):
            flow = client.parked.popleft()
            flow.parked = False
            origin = self.origins.get(flow.origin)
            if origin is None or not flow.waits:
                continue
            for priority in Priority:
                self._enter(origin, flow, priority)
            self._hand_out(origin)
            if origin.active < origin.room and flow.waits:
                return

    def _enter(self, origin: Origin, flow: Flow, priority: Priority) -> None:
        """Put a flow with something to do into the origin's heap, unless it is there."""
        if flow.entries[priority] < 0 and flow.backlogs[priority].live and not flow.parked:
            flow.entries[priority] = next(_entries)
            heapq.heappush(origin.heaps[priority], (flow.finish, flow.entries[priority], flow))

    def _hand_out(self, origin: Origin, *, most: int = 1 << 30) -> None:
        """Grant turns of an origin, the most urgent first, as long as every limit admits it."""
        for priority in Priority:
            while origin.waiting[priority] and origin.admits(priority):
                flow = self._first(origin, priority)
                if flow is None:
                    break
                if not self._total_admits(origin) or not most:
                    self._blocked[priority, origin.proven][origin.name] = None
                    return
                most -= 1
                self._grant(origin, flow, flow.backlogs[priority].next(flow.objects))

    def _first(self, origin: Origin, priority: Priority) -> Flow | None:
        """The flow that is due; those that have too much leave the heap until they give something back."""
        heap = origin.heaps[priority]
        while heap:
            due, entry, flow = heap[0]
            if flow.entries[priority] != entry or not flow.backlogs[priority].live:
                heapq.heappop(heap)
                if flow.entries[priority] == entry:
                    flow.entries[priority] = -1
            elif flow.finish > due:
                heapq.heapreplace(heap, (flow.finish, entry, flow))
            elif not self._client_admits(flow.client):
                heapq.heappop(heap)
                flow.entries[priority] = -1
                if not flow.parked:
                    flow.parked = True
                    flow.client.parked.append(flow)
            elif not self._flow_admits(origin, flow):
                heapq.heappop(heap)
                flow.entries[priority] = -1
            else:
                return flow
        return None

    def _grant(self, origin: Origin, flow: Flow, turn: Turn) -> None:
        self._charge(origin, flow, turn)
        self._unqueue(origin, turn)
        self.granted.append(turn)

    def _charge(self, origin: Origin, flow: Flow, turn: Turn) -> None:
        origin.now = max(origin.now, flow.charge(turn, origin.now))
        turn.state, turn.holder = State.HELD, flow
        self._count(origin, flow, 1)

    def _unqueue(self, origin: Origin, turn: Turn) -> None:
        """A turn waits no more, wherever it did."""
        places, turn.places = turn.places, []
        for flow, priority in places:
            flow.backlogs[priority].left(turn)
            origin.waiting[priority] -= 1
        for flow in dict.fromkeys(place[0] for place in places):
            self._rest(origin, flow)
            if flow.client.parked and not flow.waits:
                self._freed.append(flow.client)

    # -- counts -------------------------------------------------------------------------------------------------

    def _count(self, origin: Origin, flow: Flow, more: int) -> None:
        self.used += more
        origin.used += more
        flow.used += more
        flow.client.used += more
        if not origin.proven:
            self._unproven_used += more

    def _set_quiet(self, origin: Origin, turn: Turn, quiet: bool, now_s: float) -> None:
        if turn.quiet is not quiet and turn.holder is not None:
            if turn.heard:
                self._moves(origin, turn, not quiet, now_s)
            turn.quiet, more = quiet, 1 if quiet else -1
            self._quiet += more
            origin.quiet += more
            turn.holder.quiet += more
            turn.holder.client.quiet += more

    def _moves(self, origin: Origin, turn: Turn, moves: bool, now_s: float) -> None:
        """The body of a turn is on its way on these lines from now on, or is no more."""
        for line in (origin.line, self.site):
            (line.begin if moves else line.end)(turn, now_s)

    def _prove(self, origin: Origin, proven: bool) -> None:
        if origin.proven is not proven:
            origin.proven = proven
            self._unproven_used += -origin.used if proven else origin.used

    # -- who there is -------------------------------------------------------------------------------------------

    def _flow(self, origin: Origin, name: str) -> Flow:
        flow = origin.flows.get(name)
        if flow is None:
            client = self._clients.get(name)
            if client is None:
                client = self._clients[name] = Client(name, max(1, self._weight(name)))
            client.flows += 1
            flow = origin.flows[name] = Flow(client, origin.name, origin.now)
        return flow

    def _rest(self, origin: Origin, flow: Flow) -> None:
        """A flow may have nothing left; it is remembered while it is ahead of the others."""
        if flow.used or flow.waits or origin.flows.get(flow.client.name) is not flow:
            return
        origin.busy -= 1
        if len(origin.flows) > 2 * origin.busy + _FLOWS_KEPT:
            for name, other in list(origin.flows.items()):
                if not (other.used or other.waits):
                    del origin.flows[name]
                    other.client.flows -= 1
                    if not other.client.flows:
                        del self._clients[name]
