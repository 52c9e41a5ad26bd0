"""What the node may serve and connect to right now: the part of the settings that a reload replaces as one.

Owns: the current policy, and the questions that components ask of it. They keep this object; its content changes.
"""

from __future__ import annotations

from cacheserver.core.cache.redirects import follow
from cacheserver.core.cache.sources import source_hosts
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.request.addresses import Network, parse_network, written_block
from cacheserver.core.request.admission import target_of
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.client_shares import SharedNetworks
from cacheserver.core.request.service import Service
from cacheserver.core.request.subnets import Subnets
from cacheserver.core.request.target import Target
from cacheserver.settings.schema import Settings


class Admitted:
    """The current allow-list and what follows from it. ConfigError for services that contradict one another."""

    def __init__(self, settings: Settings) -> None:
        self.allowlist = AllowList(settings.all_services())
        self._source_blocks = _source_blocks(self.allowlist.services)
        self.subnets = Subnets((group.name, group.networks) for group in settings.subnets)
        self.shared = SharedNetworks((entry.networks, entry.clients) for entry in settings.fairness.shared)

    def take_over(self, other: Admitted) -> None:
        """Become what a reload has made."""
        self.allowlist, self._source_blocks = other.allowlist, other._source_blocks
        self.subnets, self.shared = other.subnets, other.shared

    def services(self) -> tuple[Service, ...]:
        """Every service, own ones first."""
        return self.allowlist.services

    def networks(self, host: str) -> tuple[Network, ...]:
        """Blocks of addresses, private ones too, that the operator permits for a host (I9)."""
        service = self.allowlist.match(host)
        own = () if service is None else _blocks(service)
        return (*own, *self._source_blocks.get(host, ()))

    def target(self, url: str) -> Target | None:
        """The target of a URL that a service's rule or an operator named, if its host is allowed."""
        return target_of(url, self.allowlist)

    def redirect(self, request: UpstreamRequest, location: str) -> UpstreamRequest | None:
        """The request for a redirect's target, or None when it leads off the allow-list."""
        return follow(request, location, self.target)


def _blocks(service: Service) -> tuple[Network, ...]:
    return tuple(parse_network(block) for block in service.allow_addresses)


def _source_blocks(services: tuple[Service, ...]) -> dict[str, tuple[Network, ...]]:
    """What the services that name a source permit for it: their blocks, and the address where a literal names it."""
    found: dict[str, tuple[Network, ...]] = {}
    for service in services:
        for host in source_hosts(service):
            found[host] = (*found.get(host, ()), *_blocks(service), *written_block(host))
    return found
