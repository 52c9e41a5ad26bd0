"""Where the bytes of a target may come from: the origin it names, aliases of it, the operator's further sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from cacheserver.core.request.keys import DEFAULT_PORTS, key_host
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Target, origin_text

_CACHE_HOST = "cachehost+"
_MAX_ALIASES = 3
ORIGIN: Final = "origin"
ALIAS: Final = "alias"
FURTHER: Final = "further"
NODE: Final = "node"
SOURCE_CLASSES: Final = (ORIGIN, ALIAS, FURTHER, NODE)
"""The host that the client named · another of the service's hosts · an operator's source · another cache node."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place to ask; ``path_and_query`` is what to ask it for."""

    scheme: str
    host: str
    port: int
    path_and_query: str
    kind: str = field(default=ORIGIN, compare=False)
    """One of ``SOURCE_CLASSES``."""

    @property
    def name(self) -> str:
        """``scheme://host:port``: the unit of strikes and bans."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """``scheme://host[:port]``, the port only where it is not the scheme's own."""
        return origin_text(self.scheme, self.host, self.port)

    @property
    def url(self) -> str:
        """The whole URL."""
        return self.origin + self.path_and_query

    @property
    def shown(self) -> str:
        """The URL without its query, which may hold a token."""
        return self.origin + self.path_and_query.partition("?")[0]


def candidates(target: Target) -> tuple[Source, ...]:
    """All sources of a target: the named origin, its aliases, then the further ones; or those first if preferred."""
    service = target.service
    named = Source(target.scheme, target.host, target.port, target.path_and_query)
    aliases = tuple(Source(target.scheme, host, target.port, target.path_and_query, ALIAS) for host in _aliases(target))
    further = tuple(_further(base, target) for base in service.sources)
    ordered = (*further, named, *aliases) if service.prefer_sources else (named, *aliases, *further)
    return tuple(dict.fromkeys(ordered))


def cache_host_form(path_and_query: str, host: str) -> str:
    """What to ask a cache node for a content of the origin ``host``: the pair stands last.

    Pairs that the node could take for it, in other letters or with escapes, are left out.
    """
    path, mark, query = path_and_query.partition("?")
    pairs = query.split("&") if mark else []
    kept = [pair for pair in pairs if unquote(pair.partition("=")[0]).strip().lower() != "cachehostorigin"]
    if len(kept) < len(pairs):
        path_and_query = f"{path}?{'&'.join(kept)}" if kept else path
    joint = "&" if "?" in path_and_query else "?"
    return f"{path_and_query}{joint}cacheHostOrigin={quote(host, safe='')}"


def source_hosts(service: Service) -> tuple[str, ...]:
    """Hosts of the operator's further sources, IP literals without brackets."""
    return tuple(urlsplit(base.removeprefix(_CACHE_HOST)).hostname or "" for base in service.sources)


def _aliases(target: Target) -> list[str]:
    """Exact names of the service that stand for the same content."""
    wanted = key_host(target.service, target.host)
    same = (
        host
        for host in target.service.hosts
        if not host.startswith("*.") and host != target.host and key_host(target.service, host) == wanted
    )
    return sorted(same)[:_MAX_ALIASES]


def _further(base: str, target: Target) -> Source:
    parts = urlsplit(base.removeprefix(_CACHE_HOST))
    path_and_query = parts.path.rstrip("/") + target.path_and_query
    kind = FURTHER
    if base.startswith(_CACHE_HOST):
        kind = NODE
        path_and_query = cache_host_form(path_and_query, target.host)
    return Source(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme], path_and_query, kind)
