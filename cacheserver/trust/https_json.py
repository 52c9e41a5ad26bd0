"""JSON from one configured host over verified TLS, and from nowhere else.

Owns: the session of one trust service. The certificate is always checked, no redirect is followed, no proxy is taken
from the environment, no body larger than 1 MiB is read. Every fault is an UpstreamError; messages carry no path.
"""

from __future__ import annotations

import re
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from cacheserver.core.errors import BadAnswer, CertificateRefused, MalformedRequest, OriginStatus
from cacheserver.core.request.hostname import parse_authority
from cacheserver.core.request.target import origin_text
from cacheserver.core.shown import shown
from cacheserver.core.strict_json import strict_json
from cacheserver.outgoing.faults import translated
from cacheserver.outgoing.session import client_context, open_session
from cacheserver.trust.options import TrustOptions

MAX_BODY_BYTES: Final = 1 << 20
_URL: Final = re.compile(r"(https://[^/?#@]+)/[A-Za-z0-9._~/-]*(?:\?[!$-;=?-~]*)?")
_BASE: Final = re.compile(r"https://([^/?#@]+)/?")


def check_base_url(text: str) -> str:
    """``https://host[:port]`` in canonical form. Raises ValueError for anything else."""
    found = _BASE.fullmatch(text)
    try:
        authority = parse_authority(found[1]) if found is not None else None
    except MalformedRequest as exc:
        raise ValueError(f"{shown(text)!a}: {exc}") from exc
    if authority is None:
        raise ValueError(f"{shown(text)!a} is not https://HOST or https://HOST:PORT")
    return origin_text("https", authority.host, authority.port or 443)


def base_of(url: str) -> str:
    """``https://host[:port]`` of a URL with a path, without user and fragment. Raises ValueError."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"{shown(url)!a} is not https://HOST/PATH")
    return check_base_url(found[1])


def member(value: object, path: str) -> object:
    """The member of a JSON value at a dotted path, or None where there is none."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


class HttpsJson:
    """Asks one service. Raises ConfigError for a bad ``trust.ca_file``.

    ``resolver`` vets addresses (I9) and belongs to the node, which closes it; None: the system's resolver.
    """

    def __init__(
        self, *, base_url: str, options: TrustOptions, user_agent: str, resolver: AbstractResolver | None
    ) -> None:
        self.source = check_base_url(base_url)
        self._timeout_s = options.deadline_s
        self._user_agent = user_agent
        self._resolver = resolver
        self._tls = client_context(options.ca_file, key="trust.ca_file")
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, path_and_query: str, body: bytes | None = None) -> object:
        """The parsed answer to one request; ``path_and_query`` starts with ``/`` and is sent as it is.

        Raises ConnectFailed, CertificateRefused, UpstreamTimeout, OriginStatus (anything but 200) and BadAnswer; what
        the resolver raises goes through.
        """
        if not path_and_query.startswith("/"):
            raise BadAnswer("path of a trust service does not start with /", source=self.source)
        limits = translated(self.source, within_s=self._timeout_s, what="trust service", untrusted=CertificateRefused)
        async with limits:
            return await self._ask(method, path_and_query, body)

    async def _ask(self, method: str, path_and_query: str, body: bytes | None) -> object:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": self._user_agent}
        if body is not None:
            headers["Content-Type"] = "application/json"
        async with self._open_session().request(
            method, URL(self.source + path_and_query, encoded=True), data=body, headers=headers, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise OriginStatus(response.status, source=self.source)
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > MAX_BODY_BYTES:
                    raise BadAnswer("trust service's answer is larger than 1 MiB", source=self.source)
        try:
            return strict_json(bytes(data))
        except ValueError as exc:
            raise BadAnswer(f"trust service's answer {exc}", source=self.source) from exc

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(resolver=self._resolver, tls=self._tls, limit=16)
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None
