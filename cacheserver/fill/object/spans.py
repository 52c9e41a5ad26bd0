"""Asking the sources of one object for its spans, by what they have shown of themselves so far.

Owns: whether spans may be asked for at all, which flight reads a whole body in place of all, what happens when only
answers with another entity tag come. Must not plan spans or read bodies.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Protocol

from cacheserver.core.errors import BadContentRange, GenerationChanged
from cacheserver.core.piece_map import ABSENT
from cacheserver.fill.asking import Opened, Want
from cacheserver.fill.context import FillContext
from cacheserver.fill.object.demand import Demand
from cacheserver.fill.object.flight import Flight
from cacheserver.fill.object.metadata_state import MetadataState
from cacheserver.fill.refreshing import refresh, take_up_part
from cacheserver.store.stored_object import StoredObject

_MOST_FLIPS = 2
"""Answers with another entity tag after which the rest is asked for in one request."""
_MORE_ROUNDS = 4
"""Rounds of tries for a generation that no undivided answer can take over from."""


class _Fill(Protocol):
    """What is needed of the object's fill; see ``ObjectFill``."""

    obj: StoredObject
    want: Want
    context: FillContext
    metadata: MetadataState
    demand: Demand

    @property
    def flying(self) -> Collection[Flight]: ...


class Spans:
    """How the spans of one object are asked for."""

    def __init__(self, fill: _Fill) -> None:
        self._fill = fill
        self.undivided = False
        """One request at a time, from the first missing piece on: the source gives the whole body or flips its tag."""
        self.leaves = False
        """Whether the origin forbids to keep the object: it goes once it is complete."""
        self.length_confirmed = True
        """False while only the Content-Length of one whole answer tells it, which a broken body contradicts."""
        self._whole_body: Flight | None = None
        """The flight that reads a whole body, from which the others are served."""
        self._flips = 0
        self._refused = False
        """Whether the source makes nothing of ranges."""

    def began(self, flight: Flight, opened: Opened) -> None:
        """A flight begins with an answer that is open already."""
        if opened.undivided:
            self.undivided, self._whole_body = True, flight
        if opened.answer.status == 200:
            self.length_confirmed = False

    async def ask(self, flight: Flight, start: int, stop: int, avoid: frozenset[str]) -> Opened | None:
        """Ask for bytes ``[start, stop)``; None where another flight brings them, or must ask first. UpstreamError."""
        if self._is_superseded(flight):
            return None
        error: GenerationChanged | None = None
        try:
            if not self._refused:
                return await self._taken(flight, await self._asked(start, stop, avoid))
        except BadContentRange:
            self._refused = True
        except GenerationChanged as exc:
            error = exc
            if not exc.retagged:
                raise
        self.undivided = True
        if self._comes_later(start):
            return None
        if error is not None and not self._is_all_before(start):
            return await self._taken(flight, await self._asked_again(start, stop, avoid, error))
        return await self._taken(flight, await self._whole(start, avoid))

    async def _taken(self, flight: Flight, opened: Opened) -> Opened | None:
        """Learn from an answer, which is closed where its bytes are not wanted."""
        try:
            return await self._learnt(flight, opened)
        except BaseException:
            opened.answer.close()
            raise

    async def _learnt(self, flight: Flight, opened: Opened) -> Opened | None:
        self._flips += opened.flips
        if opened.undivided and self._is_superseded(flight):
            opened.answer.close()
            return None
        if opened.undivided:
            self._whole_body = flight
        self.undivided = self.undivided or opened.undivided or self._flips >= _MOST_FLIPS
        self.length_confirmed = self.length_confirmed or opened.answer.status == 206
        if opened.same is None:
            fill = self._fill
            request, target = fill.context.asker.upstream_fields(fill.want), fill.want.target
            kept = await take_up_part(fill.context.store, fill.obj, opened.answer, request=request, target=target)
            self.leaves = self.leaves or not kept
        return opened

    async def _asked(self, start: int, stop: int, avoid: frozenset[str]) -> Opened:
        fill = self._fill
        return await fill.context.asker.ask_span(
            fill.want,
            fill.obj.representation,
            start,
            stop,
            avoid,
            verified=self._is_verified,
            proven=fill.metadata.manifest is not None or bool(fill.metadata.of_whole),
            only_span=True,
        )

    @property
    def _is_verified(self) -> bool:
        known = self._fill.metadata.known
        return known is not None and known.anchored

    def _is_superseded(self, flight: Flight) -> bool:
        return self._whole_body is not flight and self._whole_body in self._fill.flying

    def _comes_later(self, start: int) -> bool:
        """Whether other flights have to end first, or what a reader waits for would pass by in an undivided answer."""
        pieces = self._fill.obj.pieces
        first = pieces.piece_at(start)
        wanted = min((window.first for window in self._fill.demand.windows()), default=first)
        missing = next(pieces.missing_runs(wanted, len(pieces), ()), (first, 0))[0]
        return len(self._fill.flying) > 1 or missing < first

    def _is_all_before(self, start: int) -> bool:
        """Whether something is here of the object, and nothing behind ``start``: an undivided answer repeats it all."""
        pieces = self._fill.obj.pieces
        first, count = pieces.piece_at(start), len(pieces)
        missing = pieces.pieces_in_state(0, count, ABSENT)
        return len(missing) < count and missing[-(count - first) :] == list(range(first, count))

    async def _whole(self, start: int, avoid: frozenset[str]) -> Opened:
        """One undivided answer; with another tag only where it repeats what is here."""
        fill, rep, verified = self._fill, self._fill.obj.representation, self._is_verified
        opened = await fill.context.asker.ask_undivided(fill.want, rep, avoid, verified=verified)
        if not opened.retagged:
            return opened
        if self._is_all_before(start):
            return replace(opened, same=partial(self._adopt, opened))
        opened.answer.close()
        raise GenerationChanged("the object's validator has changed", retagged=True)

    async def _asked_again(self, start: int, stop: int, avoid: frozenset[str], error: GenerationChanged) -> Opened:
        """The span once more, where an undivided answer would repeat what is here too late; not where nothing is."""
        pieces = self._fill.obj.pieces
        rounds = _MORE_ROUNDS if len(pieces.pieces_in_state(0, len(pieces), ABSENT)) < len(pieces) else 0
        for _round in range(rounds):
            try:
                return await self._asked(start, stop, avoid)
            except GenerationChanged as exc:
                error = exc
                if not exc.retagged:
                    break
        raise error

    async def _adopt(self, opened: Opened) -> None:
        """From now on the object is of the generation of an answer that has repeated all that was here."""
        fill, store = self._fill, self._fill.context.store
        request, target = fill.context.asker.upstream_fields(fill.want), fill.want.target
        outcome = await refresh(store, fill.obj, opened.answer, request=request, target=target)
        self.leaves = self.leaves or outcome.leaves
        await store.refresh(fill.obj, replace(fill.obj.representation, validators=opened.accepted.validators))
