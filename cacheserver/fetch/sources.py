"""Where a content can be asked for, and under which URL: the origin itself, and cache hosts in cache-host form.

Owns: URLs as text. Must not connect to anything, and does not vet addresses: this is an operator's tool, which goes
where it is told to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cacheserver.core.cache.sources import NODE, Source, cache_host_form
from cacheserver.core.errors import MalformedRequest
from cacheserver.core.request.admission import target_of
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.hostname import parse_authority
from cacheserver.core.request.keys import DEFAULT_PORTS, canonical_target, manifest_url
from cacheserver.core.request.service import Service

_URL = re.compile(r"(https?)://([^/?#]+)([^#]*)(?:#.*)?", re.IGNORECASE)


def parse_url(text: str) -> Source:
    """Read an absolute http or https URL; MalformedRequest for anything else, user names included.

    Path and query keep every byte, tokens included; the host is canonical, IPv6 literals in brackets.
    """
    found = _URL.fullmatch(text)
    if found is None:
        raise MalformedRequest("this is not an absolute http or https URL")
    scheme, authority = found[1].lower(), parse_authority(found[2])
    path = found[3] if found[3].startswith("/") else f"/{found[3]}"
    canonical_target(path)
    return Source(scheme, authority.host, authority.port or DEFAULT_PORTS[scheme], path)


def through(cache_host: str, url: Source) -> Source:
    """The source for ``url`` at a cache host, ``[scheme://]host[:port]``: cache-host form, the pair last.

    Scheme and port are the URL's own where the cache host does not name others. Raises MalformedRequest.
    """
    scheme, mark, rest = cache_host.rpartition("://")
    if mark and scheme not in DEFAULT_PORTS:
        raise MalformedRequest("a cache host is [http://]HOST[:PORT]")
    authority = parse_authority(rest)
    scheme = scheme or url.scheme
    port = authority.port or (url.port if scheme == url.scheme else DEFAULT_PORTS[scheme])
    return Source(scheme, authority.host, port, cache_host_form(url.path_and_query, url.host), NODE)


def sources_of(url: Source, cache_hosts: Sequence[str], *, origin: bool) -> tuple[Source, ...]:
    """Every source of ``url``, cache hosts first in the given order, the origin last where it may be asked."""
    hosts = dict.fromkeys(through(host, url) for host in cache_hosts)
    return (*hosts, url) if origin else tuple(hosts)


def manifest_url_of(url: Source, services: Sequence[Service]) -> Source | None:
    """URL of the piece-hash file by the rule of the service that has this host; None where there is no rule."""
    target = target_of(url.url, AllowList(services))
    text = None if target is None else manifest_url(target)
    try:
        return None if text is None else parse_url(text)
    except MalformedRequest:
        return None
