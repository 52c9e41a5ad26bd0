"""The first step of the workflow: get the piece-hash file and decide whether it may be used.

Owns: where it is asked for and in which order. A manifest that the operator names must be usable; one found by the
service's rule may be missing or bad, and then the fetch goes on in simple mode and says so.
"""

from __future__ import annotations

import asyncio

from cacheserver.core.cache.sources import NODE, Source
from cacheserver.core.errors import BadAnswer, FetchFailed, ManifestError, OriginStatus, UpstreamError
from cacheserver.core.integrity.manifest import MAX_MANIFEST_BYTES, Manifest
from cacheserver.fetch.http import get
from cacheserver.fetch.request import FetchRequest, Reporter, checked_manifest
from cacheserver.fetch.sources import parse_url
from cacheserver.system.regular_file import read_regular
from cacheserver.upstream.client import UpstreamClient

_ROUNDS = 2
_PAUSE_S = 0.5


async def get_manifest(client: UpstreamClient, request: FetchRequest, reporter: Reporter) -> Manifest | None:
    """The manifest to verify by, or None for simple mode. Raises FetchFailed when the operator's own is unusable."""
    if request.manifest is None:
        return await _by_rule(client, request, reporter)
    try:
        if "://" in request.manifest:
            data = await _ask(client, parse_url(request.manifest))
        else:
            data = await asyncio.to_thread(_read, request.manifest)
        return checked_manifest(data, request)
    except (UpstreamError, ManifestError) as exc:
        raise FetchFailed(f"the manifest cannot be used: {exc}") from exc


async def _by_rule(client: UpstreamClient, request: FetchRequest, reporter: Reporter) -> Manifest | None:
    if not request.manifest_sources:
        reporter.notice("no manifest: no service has a rule for this URL")
        return None
    waiting = sorted(request.manifest_sources, key=lambda source: source.kind == NODE)
    for round_number in range(_ROUNDS):
        again: list[Source] = []
        for source in waiting:
            try:
                return checked_manifest(await _ask(client, source), request)
            except (UpstreamError, ManifestError) as exc:
                reporter.notice(f"no manifest from {source.origin}: {exc}")
                if isinstance(exc, UpstreamError) and exc.retryable:
                    again.append(source)
        if not again or round_number == _ROUNDS - 1:
            break
        waiting = again
        await asyncio.sleep(_PAUSE_S)
    return None


async def _ask(client: UpstreamClient, source: Source) -> bytes:
    async with get(client, source) as answer:
        if answer.status != 200:
            raise OriginStatus(answer.status, source=source.origin)
        if (answer.fields.value("Content-Encoding") or "identity").lower() != "identity":
            raise BadAnswer("content coding was not asked for", source=source.origin)
        return await answer.read_all(MAX_MANIFEST_BYTES)


def _read(path: str) -> bytes:
    try:
        return read_regular(path, MAX_MANIFEST_BYTES)
    except OSError as exc:
        raise FetchFailed(f"{path}: {exc.strerror}") from exc
