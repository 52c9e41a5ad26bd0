"""What the node may serve and connect to right now: the part of the settings that a reload replaces as one.

Owns: the current policy, and the questions that rooms ask of it. The rooms keep this object; its content changes.
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from cacheserver.core.cache.sources import source_hosts
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import RequestError
from cacheserver.core.request.addresses import Network, parse_network
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.service import Service
from cacheserver.core.request.subnets import Subnets
from cacheserver.core.request.target import Target
from cacheserver.settings.schema import Settings
from cacheserver.upstream.client import redirected

_ANYWHERE = (parse_network("0.0.0.0/0"), parse_network("::/0"))
"""Naming a further source permits its address, whatever it is."""


class Admitted:
    """The current allow-list and what follows from it. ConfigError for services that contradict one another."""

    def __init__(self, settings: Settings) -> None:
        self.allowlist = AllowList(settings.all_services())
        self._source_hosts = _source_hosts(self.allowlist.services)
        self.subnets = Subnets((group.name, group.networks) for group in settings.subnets)

    def take_over(self, other: Admitted) -> None:
        """Become what a reload has made."""
        self.allowlist, self._source_hosts = other.allowlist, other._source_hosts
        self.subnets = other.subnets

    def services(self) -> tuple[Service, ...]:
        """Every service, own ones first."""
        return tuple(self.allowlist.services)

    def networks(self, host: str) -> tuple[Network, ...]:
        """Blocks of addresses, private ones too, that the operator permits for a host (I9)."""
        if host in self._source_hosts:
            return _ANYWHERE
        service = self.allowlist.match(host)
        return () if service is None else tuple(parse_network(block) for block in service.allow_addresses)

    def target(self, url: str) -> Target | None:
        """The target of a URL that a service's rule or an operator named, if its host is allowed."""
        try:
            parts = urlsplit(url)
            return parse_target(url, (parts.netloc,), tls=parts.scheme == "https", allowlist=self.allowlist)
        except (RequestError, ValueError):
            return None

    def redirect(self, request: UpstreamRequest, location: str) -> UpstreamRequest | None:
        """The request for a redirect's target, or None when it leads off the allow-list."""
        return follow(request, location, self.allowlist)


def _source_hosts(services: tuple[Service, ...]) -> frozenset[str]:
    return frozenset(host for service in services for host in source_hosts(service))


def follow(request: UpstreamRequest, location: str, allowlist: AllowList) -> UpstreamRequest | None:
    """The request for the target of a redirect, or None when it leads off the allow-list or is malformed."""
    try:
        url = urljoin(request.url, location)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or (parts.fragment and not parts.netloc):
            return None
        target = parse_target(
            url.partition("#")[0],
            (parts.netloc.rpartition("@")[2],),
            tls=parts.scheme == "https",
            allowlist=allowlist,
        )
    except (RequestError, ValueError):
        return None
    return redirected(
        request, scheme=target.scheme, host=target.host, port=target.port, path_and_query=target.path_and_query
    )
