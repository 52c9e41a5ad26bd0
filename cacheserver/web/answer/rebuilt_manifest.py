"""Piece-hash files for which no origin answers: rebuilt byte for byte from stored, complete, verified content.

Owns: when that is allowed, and the one answer made of it. Must not serve a file of content that is incomplete or
unverified, that the node would not serve now, or whose pieces are not the ones that its manifest named.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from cacheserver.core.cache.decision import Outcome
from cacheserver.core.cache.freshness import assess
from cacheserver.core.cache.origin_status import meaning_of
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import CacheserverError, ManifestError, OriginStatus, StoreError, UpstreamError
from cacheserver.core.errors import UpstreamTimeout as Timeout
from cacheserver.core.http.cache_control import CacheControl
from cacheserver.core.http.cache_status import cache_status
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import format_http_date
from cacheserver.core.http.validators import Validators
from cacheserver.core.integrity.manifest_url import content_urls
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.piece_map import STORED
from cacheserver.core.request.keys import manifest_url
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Target
from cacheserver.fill.asking import Want
from cacheserver.fill.judging import Judge
from cacheserver.ports import Clock
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.rebuilt_manifest import manifest_of
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.answer.object_reply import plan_object_reply
from cacheserver.web.exchange import Exchange
from cacheserver.web.heads import NODE_NAME, object_lines

CONTENT_TYPE: Final = "application/octet-stream"
_CHECK_S: Final = 8.0
_HURRIED_CHECK_S: Final = 1.0
"""For a client that has waited for the origin until its patience was at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltManifests:
    """Answers for piece-hash files from stored content.

    ``admit`` gives the target of a URL on an allowed host, None for others; ``services`` gives those in use now.
    """

    store: Store
    admit: Callable[[str], Target | None]
    services: Callable[[], Iterable[Service]]
    clock: Clock
    judge: Judge
    via: str

    async def serve(self, want: Want, exchange: Exchange, error: CacheserverError) -> bool:
        """Answer in the place of an origin that failed with ``error``; False where this is not to be done."""
        if exchange.channel.head_sent or not _is_out_of_reach(error):
            return False
        patience_s = _HURRIED_CHECK_S if isinstance(error, Timeout) else _CHECK_S
        rebuilt = await self._rebuilt(want.target, patience_s)
        if rebuilt is None:
            return False
        await self._send(*rebuilt, want, exchange)
        return True

    # -- finding ------------------------------------------------------------------------------------------------

    async def _rebuilt(self, manifest: Target, patience_s: float) -> tuple[bytes, Trust] | None:
        for url in content_urls(manifest, self.services()):
            content = self.admit(url)
            if content is None or not self._belongs(manifest, content):
                continue
            found = await self.store.find(content.object_id)
            if isinstance(found, StoredObject) and found.representation.key == content.key:
                if not await self.judge.admits(found, content):
                    return None
                return await self._from(found, content, patience_s)
        return None

    def _belongs(self, manifest: Target, content: Target) -> bool:
        """Whether the content's own rule leads to the very file that is asked for."""
        url = manifest_url(content)
        place = self.admit(url) if url is not None else None
        return place is not None and place.key == manifest.key

    async def _from(self, obj: StoredObject, content: Target, patience_s: float) -> tuple[bytes, Trust] | None:
        known = obj.representation
        path = content.path_and_query
        freshness = assess(known, content.service, path, CacheControl(), self.clock.wall_s())
        if not (freshness.fresh or freshness.stale_if_error) or not obj.usable or not obj.pieces.complete:
            return None
        obj.hold()
        try:
            async with asyncio.timeout(patience_s):
                await self.store.check(obj, obj.pieces.pieces_in_state(0, len(obj.pieces), STORED))
            body, hash_of_hashes = await self.store.run(obj.volume, _rendered, obj.file)
        except (StoreError, ManifestError, TimeoutError):
            return None
        finally:
            obj.release()
        if known.hash_of_hashes not in (None, hash_of_hashes):
            return None
        return body, known.trust

    # -- answering ----------------------------------------------------------------------------------------------

    async def _send(self, body: bytes, trust: Trust, want: Want, exchange: Exchange) -> None:
        now_s, channel = self.clock.wall_s(), exchange.channel
        rep = _representation(body, want.target, now_s)
        reply = plan_object_reply(rep, want.fields, method=exchange.method, now_s=now_s, boundary=secrets.token_hex(16))
        exchange.outcome = Outcome.STALE.value
        exchange.cache_status = cache_status(
            NODE_NAME, hit=False, fwd="uri-miss", stored=False, detail=f"rebuilt:{trust.word}"
        )
        lines = object_lines(rep, form=want.target.form, age_s=0.0, via=self.via, cache_status=exchange.cache_status)
        reply = reply.with_lines(lines)
        await channel.start(reply.head)
        for part in reply.parts:
            await channel.write(part.prefix + body[part.start : part.stop])
        await channel.write(reply.closing)
        await channel.finish()


def _is_out_of_reach(error: CacheserverError) -> bool:
    """Whether the origin gave no answer, or a 5xx; its 4xx is an answer, and clients are told."""
    if isinstance(error, OriginStatus):
        return meaning_of(error.status).source_failed
    return isinstance(error, UpstreamError)


def _rendered(file: ObjectFile) -> tuple[bytes, str]:
    manifest = manifest_of(file)
    return manifest.render(), manifest.hash_of_hashes.hex()


def _representation(body: bytes, target: Target, now_s: float) -> Representation:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    fields = (("Date", format_http_date(now_s)), ("Content-Type", CONTENT_TYPE), ("ETag", etag))
    return Representation(
        key=target.key,
        object_id=target.object_id,
        service=target.service.name,
        length_bytes=len(body),
        piece_size_bytes=max(1, len(body)),
        fields=Fields(fields),
        validators=Validators(etag),
        request_time_s=now_s,
        response_time_s=now_s,
        origin=target.origin,
    )
