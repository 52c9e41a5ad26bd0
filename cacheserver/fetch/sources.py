"""Where a content can be asked for, and under which URL: the origin itself, and cache hosts in cache-host form.

Owns: URLs as text. Must not connect to anything, and does not vet addresses: this is an operator's tool, which goes
where it is told to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from cacheserver.core.errors import HostNotAllowed, MalformedRequest
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.hostname import parse_authority
from cacheserver.core.request.keys import DEFAULT_PORTS, canonical_target, manifest_url
from cacheserver.core.request.service import Service

_URL = re.compile(r"(https?)://([^/?#]+)([^#]*)(?:#.*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ContentUrl:
    """An http or https URL in its parts; ``path_and_query`` keeps every byte, tokens included.

    ``host`` is canonical: lower case, IPv6 literals in brackets.
    """

    scheme: str
    host: str
    port: int
    path_and_query: str

    @property
    def origin(self) -> str:
        """``scheme://host[:port]``, the port only where it is not the scheme's own."""
        return f"{self.scheme}://{self.host}" + ("" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}")

    @property
    def text(self) -> str:
        """The whole URL."""
        return f"{self.origin}{self.path_and_query}"

    @property
    def shown(self) -> str:
        """The URL without its query, which may hold a token."""
        return f"{self.origin}{self.path_and_query.partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class Source:
    """One place that is asked. ``name`` is ``scheme://host[:port]``."""

    name: str
    url: str
    cache_host: bool


def parse_url(text: str) -> ContentUrl:
    """Read an absolute http or https URL; MalformedRequest for anything else, user names included."""
    found = _URL.fullmatch(text)
    if found is None:
        raise MalformedRequest("this is not an absolute http or https URL")
    scheme, authority = found[1].lower(), parse_authority(found[2])
    path = found[3] if found[3].startswith("/") else f"/{found[3]}"
    canonical_target(path)
    return ContentUrl(scheme, authority.host, authority.port or DEFAULT_PORTS[scheme], path)


def redirected(url: ContentUrl, location: str) -> ContentUrl | None:
    """Where a redirect leads; None when it is malformed or leaves https for http."""
    try:
        target = parse_url(urljoin(url.text, location))
    except (MalformedRequest, ValueError):
        return None
    return None if (url.scheme, target.scheme) == ("https", "http") else target


def through(cache_host: str, url: ContentUrl) -> Source:
    """The source for ``url`` at a cache host, ``[scheme://]host[:port]``: cache-host form, the pair last.

    Scheme and port are the URL's own where the cache host does not name others. Raises MalformedRequest.
    """
    scheme, mark, rest = cache_host.rpartition("://")
    if mark and scheme not in DEFAULT_PORTS:
        raise MalformedRequest("a cache host is [http://]HOST[:PORT]")
    authority = parse_authority(rest)
    scheme = scheme or url.scheme
    port = authority.port or (url.port if scheme == url.scheme else DEFAULT_PORTS[scheme])
    joint = "&" if "?" in url.path_and_query else "?"
    target = f"{url.path_and_query}{joint}cacheHostOrigin={quote(url.host, safe='')}"
    place = ContentUrl(scheme, authority.host, port, target)
    return Source(place.origin, place.text, cache_host=True)


def sources_of(url: ContentUrl, cache_hosts: Sequence[str], *, origin: bool) -> tuple[Source, ...]:
    """Every source of ``url``, cache hosts first in the given order, the origin last where it may be asked."""
    hosts = dict.fromkeys(through(host, url) for host in cache_hosts)
    own = [Source(url.origin, url.text, cache_host=False)] if origin else []
    return (*hosts, *own)


def manifest_url_of(url: ContentUrl, services: Sequence[Service]) -> ContentUrl | None:
    """URL of the piece-hash file by the rule of the service that has this host; None where there is no rule."""
    try:
        allowlist = AllowList(services)
        target = parse_target(url.text, (), tls=url.scheme == "https", allowlist=allowlist, http_10=True)
        text = manifest_url(target)
        return None if text is None else parse_url(text)
    except (HostNotAllowed, MalformedRequest):
        return None
