"""The Edge update API (content delivery platform): lengths and digests of Edge's files over TLS.

Owns: what is asked and how the answer is read. One answer lists all files of a product's version, so it is kept by
product and version, and a content is found in it by the path of its URL.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from cacheserver.core.errors import BadAnswer, MalformedRequest
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.content_catalogue import MAX_CONTENT_BYTES
from cacheserver.core.integrity.digest_text import from_base64
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.keys import canonical_target, content_name
from cacheserver.core.request.target import Target
from cacheserver.ports import Clock
from cacheserver.trust.https_json import HttpsJson, member
from cacheserver.trust.memory import AnswerMemory
from cacheserver.trust.options import TrustOptions

LONGEST_PATH: Final = 1024
"""Longer paths are not asked about: the bound of what the pattern may take."""
_BODY = b'{"targetingAttributes":{}}'


class _Hashes(msgspec.Struct, rename="pascal"):
    sha1: str | None = None
    sha256: str | None = None


class _File(msgspec.Struct, rename="pascal"):
    url: str
    size_in_bytes: int | None = None
    hashes: _Hashes | None = None
    delivery_optimization: dict[str, Any] | None = None


class EdgeCdpAnchor:
    """Says what the Edge update API says of one of its files."""

    name = "edge_cdp"

    def __init__(self, *, options: TrustOptions, https: HttpsJson, clock: Clock) -> None:
        self._options = options
        self._https = https
        self._pattern = re.compile(options.edge_cdp_pattern)
        self._memory: AnswerMemory[dict[str, Claim]] = AnswerMemory(
            clock=clock, answer_s=options.answer_s, failure_s=options.failure_s
        )

    async def close(self) -> None:
        """End every question and close every connection."""
        await self._memory.close()
        await self._https.close()

    async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
        """One claim, or none for other services and paths; see ``anchors.ClaimSource``."""
        if target.service.name not in self._options.edge_cdp_services:
            return ()
        path = content_name(target).partition("?")[0]
        found = self._pattern.fullmatch(path) if len(path) <= LONGEST_PATH else None
        if found is None:
            return ()
        values = {"{product}": quote(found["product"], safe=""), "{version}": quote(found["version"], safe="")}
        request = re.sub(r"\{product\}|\{version\}", lambda place: values[place[0]], self._options.edge_cdp_path)
        claims = await self._memory.get(request, partial(self._ask, request))
        claim = claims.get(path)
        return () if claim is None else (claim,)

    async def _ask(self, request: str) -> dict[str, Claim]:
        answer = await self._https.ask("POST", request, _BODY)
        try:
            files = msgspec.convert(answer, list[_File])
            claims: dict[str, Claim] = {}
            for file in files:
                path, claim = canonical_target(urlsplit(file.url).path).path, _claim(file)
                if claims.setdefault(path, claim) != claim:
                    raise ValueError("names one path twice with different digests")
        except (msgspec.ValidationError, ValueError, MalformedRequest) as exc:
            reason = "is not of the expected form" if isinstance(exc, msgspec.ValidationError) else str(exc)
            raise BadAnswer(f"Edge update API's answer {reason}", source=self._https.source) from exc
        return claims


def _claim(file: _File) -> Claim:
    if file.size_in_bytes is not None and not 0 <= file.size_in_bytes <= MAX_CONTENT_BYTES:
        raise ValueError("has a length out of bounds")
    hashes = file.hashes or _Hashes()
    hash_of_hashes = member(file.delivery_optimization, "Properties.IntegrityCheckInfo.HashOfHashes")
    return Claim(
        anchor=EdgeCdpAnchor.name,
        authentic=True,
        length_bytes=file.size_in_bytes,
        hash_of_hashes=None if hash_of_hashes is None else from_base64(hash_of_hashes, 32),
        sha256=None if hashes.sha256 is None else from_base64(hashes.sha256, 32),
        sha1=None if hashes.sha1 is None else from_base64(hashes.sha1, 20),
    )
