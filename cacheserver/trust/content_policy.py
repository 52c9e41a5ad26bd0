"""The Delivery Optimization content policy service: hashes of hashes over TLS.

Owns: what is asked and how the answer is read; base, path and member names are settings, as only part of the service
is documented. The KeyValue service may name another path. Asks about named services and paths alone, and sends no query
string: no token leaves with it.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import partial
from typing import Final
from urllib.parse import quote, urlsplit

from cacheserver.core.errors import BadAnswer, UpstreamError
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.content_catalogue import MAX_CONTENT_BYTES
from cacheserver.core.integrity.digest_text import from_base64
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.keys import content_name
from cacheserver.core.request.target import Target
from cacheserver.ports import Clock
from cacheserver.trust.https_json import HttpsJson, member
from cacheserver.trust.memory import AnswerMemory
from cacheserver.trust.options import TrustOptions

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
KEYVALUE_FIELD: Final = "ContentPolicy2_EndpointFullUri"
_SEGMENT: Final = "/{content_id}"
_ADVERTISED: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


class ContentPolicyAnchor:
    """Says which hash of hashes the content policy service names."""

    name = "content_policy"

    def __init__(
        self, *, options: TrustOptions, https: HttpsJson, clock: Clock, keyvalue: HttpsJson | None = None
    ) -> None:
        """``keyvalue`` asks the KeyValue service; None: it is not asked."""
        self._options = options
        self._https = https
        self._keyvalue = keyvalue
        self._paths: AnswerMemory[str] = AnswerMemory(
            clock=clock, answer_s=options.answer_s, failure_s=options.failure_s
        )
        self._memory: AnswerMemory[tuple[Claim, ...]] = AnswerMemory(
            clock=clock, answer_s=options.answer_s, failure_s=options.failure_s
        )

    async def close(self) -> None:
        """End every question and close every connection."""
        await self._memory.close()
        await self._paths.close()
        await self._https.close()
        if self._keyvalue is not None:
            await self._keyvalue.close()

    async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
        """One claim, or none for other services and paths; see ``anchors.ClaimSource``."""
        if target.service.name not in self._options.content_policy_services:
            return ()
        path = content_name(target).partition("?")[0]
        if not any(fnmatchcase(path, pattern) for pattern in self._options.content_policy_paths):
            return ()
        return await self._memory.get(target.object_id, partial(self._ask, target, path))

    async def _ask(self, target: Target, path: str) -> tuple[Claim, ...]:
        guid = _GUID.search(path)
        values = {
            "{content_id}": guid[0] if guid is not None else target.object_id,
            "{url}": quote(target.origin + path, safe=""),
        }
        template = await self._template()
        request = re.sub(r"\{content_id\}|\{url\}", lambda found: values[found[0]], template)
        return (self._claim(await self._https.ask("GET", request)),)

    async def _template(self) -> str:
        """The path to ask by: what the KeyValue service names, with the setting's own behind it; else the setting."""
        template = self._options.content_policy_path
        _, segment, rest = template.partition(_SEGMENT)
        if self._keyvalue is None or not segment:
            return template
        try:
            return await self._paths.get("", partial(self._ask_path, self._keyvalue)) + segment + rest
        except UpstreamError:
            return template

    async def _ask_path(self, keyvalue: HttpsJson) -> str:
        parts = urlsplit(self._options.content_policy_keyvalue)
        answer = await keyvalue.ask("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
        told = member(answer, KEYVALUE_FIELD)
        try:
            named = urlsplit(told) if isinstance(told, str) else None
        except ValueError:
            named = None
        path = named.path.removesuffix("/") if named is not None and named.scheme == "https" else ""
        if not _ADVERTISED.fullmatch(path):
            raise BadAnswer("KeyValue service names no path of the content policy service", source=keyvalue.source)
        return path

    def _claim(self, answer: object) -> Claim:
        options, source = self._options, self._https.source
        try:
            hash_of_hashes = from_base64(member(answer, options.content_policy_hash_field), 32)
        except ValueError as exc:
            raise BadAnswer(f"content policy's {options.content_policy_hash_field} {exc}", source=source) from exc
        length_bytes: object = None
        if options.content_policy_length_field:
            length_bytes = member(answer, options.content_policy_length_field)
            if type(length_bytes) is not int or not 0 <= length_bytes <= MAX_CONTENT_BYTES:
                raise BadAnswer("content policy's length is not a length", source=source)
        return Claim(
            anchor=self.name,
            authentic=True,
            hash_of_hashes=hash_of_hashes,
            length_bytes=length_bytes if isinstance(length_bytes, int) else None,
        )
