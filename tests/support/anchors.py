"""Anchors that say nothing, or what a test has them say."""

from __future__ import annotations

import asyncio

from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.trust import Claim, Statements
from cacheserver.core.request.target import Target


class SayingAnchor:
    """See ``ports.Anchor``. Says the same of every content, once ``gate`` is open."""

    def __init__(self, *claims: Claim, gate: asyncio.Event | None = None) -> None:
        self.told = Statements.of(claims)
        self.gate = gate
        self.remote_gate: asyncio.Event | None = None
        """Like ``gate``, where services are asked."""

    async def claims(self, target: Target, response: Fields, *, secure: bool = False, ask: bool = True) -> Statements:
        """What it was made to say."""
        if self.gate is not None:
            await self.gate.wait()
        if ask and self.remote_gate is not None:
            await self.remote_gate.wait()
        return self.told


class NoAnchor(SayingAnchor):
    """One that says nothing."""
