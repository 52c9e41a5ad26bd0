"""Pieces of one object that are not complete, and that no flight has in hand: the next one goes on with them.

Owns: what is there of each, and for how long it is kept. Must not fetch or write anything.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cacheserver.core.integrity.release import Reason
from cacheserver.fill.object.claims import Progress

_LINGERS = 15
"""Times ``linger_s`` that a begun piece waits for a client to come back."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A piece that is there up to byte ``offset``: another flight goes on with it. ``digest`` is ``hashlib``'s."""

    piece: int
    offset: int
    digest: hashlib._Hash
    contributors: set[str]


class BegunPieces:
    """Those of one object; ``note`` hears why a piece that is dropped is condemned, ``on_late`` when time is up."""

    def __init__(
        self, progress: Progress, *, note: Callable[[list[Reason]], object], on_late: Callable[[], object]
    ) -> None:
        self._progress = progress
        self._note = note
        self._on_late = on_late
        self._begun: dict[int, Begun] = {}
        self._late: set[int] = set()
        """Pieces that are kept only as long as somebody reads, who may have been given some of them."""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._begun)

    def keep(self, begun: Begun, *, linger_s: float) -> None:
        """Its flight has ended in the middle, and its claim is released."""
        self._begun[begun.piece] = begun
        self._late.discard(begun.piece)
        if linger_s > 0:
            asyncio.get_running_loop().call_later(_LINGERS * linger_s, self._nobody_came, begun)
        else:
            self._late.add(begun.piece)

    def drop_late(self) -> None:
        """Nobody reads: forget those for which no client has come back in time."""
        for piece in self._late & self._begun.keys():
            self._drop(piece)

    def take(self, first: int, stop: int, *, anew: bool) -> Begun | None:
        """What is there of the piece ``first``, unless it comes ``anew``, as begun pieces behind it do."""
        taken = None if anew else self._begun.pop(first, None)
        for piece in [piece for piece in self._begun if first <= piece < stop]:
            self._drop(piece)
        return taken

    def drop_all(self) -> None:
        """Forget what is there of all."""
        for piece in list(self._begun):
            self._drop(piece)

    def _nobody_came(self, begun: Begun) -> None:
        if self._begun.get(begun.piece) is begun:
            self._late.add(begun.piece)
            self._on_late()

    def _drop(self, piece: int) -> None:
        del self._begun[piece]
        self._note(self._progress.drop(piece))
