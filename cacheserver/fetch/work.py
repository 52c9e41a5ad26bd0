"""The whole workflow: metadata, its authenticity, the bytes, the check of the whole file, its name.

Owns: the order of the steps. What each decides is in ``request``, ``workflow`` and ``simple``.
"""

from __future__ import annotations

import asyncio

from cacheserver.core.errors import FetchFailed
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.fetch.by_pieces import PieceFetch
from cacheserver.fetch.by_stream import StreamFetch
from cacheserver.fetch.http import open_client
from cacheserver.fetch.metadata import get_manifest
from cacheserver.fetch.part_file import DEFAULT_PIECE_BYTES, PartFile
from cacheserver.fetch.request import FetchRequest, FetchResult, Reporter, contradiction, trust_of
from cacheserver.fetch.standing import Standing


class Work:
    """One fetch from beginning to end; ``sources`` shows the health of each source, also after a failure."""

    def __init__(self, request: FetchRequest, reporter: Reporter) -> None:
        self._request = request
        self._reporter = reporter
        self._fetch: PieceFetch | StreamFetch | None = None

    @property
    def sources(self) -> tuple[Standing, ...]:
        """Every source that could be asked."""
        return () if self._fetch is None else tuple(self._fetch.workflow.health.values())

    async def run(self) -> FetchResult:
        """Fetch, check, and give the file its name. Raises FetchFailed, DiskError."""
        request, reporter = self._request, self._reporter
        part = await asyncio.to_thread(PartFile, request.output)
        try:
            async with open_client(
                connect_to=request.connect_to, connections=request.connections, user_agent=request.user_agent
            ) as client:
                manifest = await get_manifest(client, request, reporter)
                if manifest is None:
                    reporter.notice("simple mode: pieces cannot be verified")
                    self._fetch = StreamFetch(client=client, request=request, part=part, reporter=reporter)
                else:
                    self._fetch = PieceFetch(
                        client=client, request=request, manifest=manifest, part=part, reporter=reporter
                    )
                await self._fetch.run()
            return await self._finish(self._fetch, part, manifest)
        finally:
            part.close()

    async def _finish(self, fetch: PieceFetch | StreamFetch, part: PartFile, manifest: Manifest | None) -> FetchResult:
        length = fetch.length_bytes
        piece_bytes = manifest.piece_size_bytes if manifest is not None else DEFAULT_PIECE_BYTES
        sha256, hash_of_hashes = await asyncio.to_thread(part.whole_digests, length, piece_bytes)
        if manifest is not None and hash_of_hashes != manifest.hash_of_hashes:
            raise FetchFailed("what the disk gives back is not what was written to it")
        reason = contradiction(self._request, sha256=sha256, hash_of_hashes=hash_of_hashes)
        if reason is not None:
            await asyncio.to_thread(part.discard)
            raise FetchFailed(f"{reason}: discarded")
        await asyncio.to_thread(part.finish)
        return FetchResult(
            trust=trust_of(self._request, by_manifest=manifest is not None),
            mode="simple" if manifest is None else "pieces",
            length_bytes=length,
            resumed_bytes=fetch.resumed_bytes,
            sha256=sha256,
            hash_of_hashes=hash_of_hashes,
        )
