"""Metadata of contents that pass: fetched as for a fill, kept a while, since a client comes back for range after range.

Owns: that memory and its bounds. Must not judge bytes.
"""

from __future__ import annotations

from dataclasses import replace

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.cache.generation import validators_of
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.trust import is_coded
from cacheserver.core.request.target import Target
from cacheserver.fill.asking import Want
from cacheserver.fill.metadata import Metadata, MetadataFetcher
from cacheserver.ports import Clock, UpstreamAnswer

_ENTRIES = 256
_BYTES = 16 << 20
_Key = tuple[str, int, str | None, str | None]


class PassMetadata:
    """Manifests of generations that passed within ``keep_s`` seconds: at most 256, with 16 MiB of hashes."""

    def __init__(self, *, fetcher: MetadataFetcher, clock: Clock, piece_size_bytes: int, keep_s: float) -> None:
        self.piece_size_bytes = piece_size_bytes
        self._fetcher = fetcher
        self._clock = clock
        self._keep_s = keep_s
        self._era = 0
        self._kept = BoundedMemory[_Key, Metadata](_ENTRIES, weigh=_size, weight_limit=_BYTES)

    @property
    def held_bytes(self) -> int:
        """Memory of the manifests that are kept."""
        return self._kept.weight

    def expects_manifest(self, target: Target) -> bool:
        """Whether the service says that there is a manifest for this target."""
        return self._fetcher.expects_manifest(target)

    async def get(self, want: Want, answer: UpstreamAnswer, length_bytes: int | None) -> Metadata:
        """What the content of an answer must be; never raises, takes at most 15 s."""
        key = _key(want, answer.fields, length_bytes)
        known = self._kept.get(key, self._clock.monotonic_s()) if key is not None else None
        if known is not None:
            return known
        era = self._era
        metadata = await self._fetcher.fetch(want, answer.fields, secure=answer.secure, length_bytes=length_bytes)
        if key is not None and era == self._era and metadata.manifest is not None and not metadata.blocked:
            self._kept.keep(key, metadata, self._clock.monotonic_s() + self._keep_s)
        return metadata

    async def by_now(self, known: Metadata, want: Want, answer: UpstreamAnswer, length_bytes: int | None) -> Metadata:
        """What the content must be by what is said now; ``known`` itself where nothing has changed since."""
        while known.era != self._fetcher.era:
            era, about = self._fetcher.era, (want, answer.fields)
            again = await self._fetcher.again(known, *about, secure=answer.secure, length_bytes=length_bytes)
            known = replace(again, era=era)
        return known

    def clear(self) -> None:
        """What is said of contents may have changed: nothing that is kept holds any more."""
        self._era += 1
        self._kept.clear()

    def forget(self, want: Want, response: Fields, length_bytes: int | None) -> None:
        """What was kept did not fit the bytes: the next one is to be fetched."""
        key = _key(want, response, length_bytes)
        if key is not None:
            self._kept.forget(key)


def _key(want: Want, response: Fields, length_bytes: int | None) -> _Key | None:
    """What tells one generation from the next; None where nothing does."""
    validators = validators_of(response)
    known = validators.etag is not None or validators.last_modified is not None
    if length_bytes is None or is_coded(response) or not (known or want.target.service.lifetime == "immutable"):
        return None
    return want.target.object_id, length_bytes, validators.etag, validators.last_modified


def _size(metadata: Metadata) -> int:
    return len(metadata.manifest.piece_hashes) if metadata.manifest is not None else 0
