"""The state of one object's metadata: pending until it settles, then what it was given.

Owns: that state and the waiting for it. Must not fetch metadata or judge bytes.
"""

from __future__ import annotations

import asyncio
import contextlib

from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.integrity.trust import Claim
from cacheserver.fill.metadata import Metadata


class MetadataState:
    """The state for one object. ``expected``: a manifest is expected, so that bytes are held back for it."""

    def __init__(self, metadata: Metadata | None = None, *, expected: bool, piece_size_bytes: int) -> None:
        self._piece_size_bytes = piece_size_bytes
        self.known = metadata
        self._expected = expected
        self._settled = asyncio.Event()
        if metadata is not None:
            self._settled.set()

    @property
    def pending(self) -> bool:
        """Whether metadata may still come."""
        return self.known is None

    @property
    def holds(self) -> bool:
        """Whether bytes are held back until their piece is complete and right."""
        if self.known is None:
            return self._expected
        return bool(self.known.blocked) or self.manifest is not None

    @property
    def manifest(self) -> Manifest | None:
        """What every piece is compared with, alone or with others of its group."""
        return None if self.known is None else self.known.manifest

    @property
    def group_pieces(self) -> int:
        """How many of our pieces one of the manifest has, where those are larger."""
        return 1 if self.manifest is None else max(1, self.manifest.piece_size_bytes // self._piece_size_bytes)

    @property
    def of_whole(self) -> tuple[Claim, ...]:
        """What is compared with the whole."""
        return () if self.known is None else self.known.of_whole(self.group_pieces * self._piece_size_bytes)

    def settle(self, metadata: Metadata) -> None:
        """Metadata has come, or it is known that there is none."""
        self.known = metadata
        self._settled.set()

    async def wait(self, timeout_s: float) -> None:
        """Until settled, at most ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()

    async def settled(self) -> Metadata:
        """What it was given; metadata always comes to an end, within 15 s."""
        await self._settled.wait()
        assert self.known is not None
        return self.known
