"""The allow-list: which service an origin host belongs to, if any.

Owns: the pattern grammar of ``Service.hosts`` and the order in which patterns win. Must not know requests, addresses
or keys. A host that matches nothing is refused by the caller (I9).
"""

from __future__ import annotations

from collections.abc import Iterable

from cacheserver.core.errors import ConfigError, MalformedRequest
from cacheserver.core.request.hostname import is_ip_literal, parse_authority
from cacheserver.core.request.service import Service
from cacheserver.core.shown import shown


def canonical_pattern(pattern: str, *, key: str = "") -> str:
    """The canonical form of one host pattern: an exact name, an IP literal, or ``*.zone``.

    Raises ConfigError (with ``key``) for ``*``, for a zone of one label such as ``*.com``, for a zone that is an IP
    address, for a port, and for anything that is no host name.
    """
    wildcard = pattern.startswith("*.")
    name = pattern[2:] if wildcard else pattern
    try:
        authority = parse_authority(name)
    except MalformedRequest as exc:
        raise ConfigError(f"{shown(pattern)!r} is not a host name or *.zone: {exc}", key=key) from exc
    if authority.port is not None:
        raise ConfigError(f"{shown(pattern)!r} must not carry a port", key=key)
    if not wildcard:
        return authority.host
    if is_ip_literal(authority.host) or "." not in authority.host:
        raise ConfigError(f"{shown(pattern)!r} is too wide: a zone needs two labels at least", key=key)
    return f"*.{authority.host}"


class AllowList:
    """Hosts by service. Exact names win over zones, longer zones over shorter, own services over shipped on ties.

    ``services`` may come in any order; among shipped services the first that lists a pattern has it. Raises
    ConfigError for a bad pattern, for two services of one name, and for one pattern in two own services.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        self.services: tuple[Service, ...] = tuple(services)
        self._exact: dict[str, Service] = {}
        self._zones: dict[str, Service] = {}
        names: set[str] = set()
        for service in sorted(self.services, key=lambda each: not each.own):
            if service.name in names:
                raise ConfigError("another service has this name", key=f"services.{service.name}")
            names.add(service.name)
            for pattern in service.hosts:
                self._add(pattern, service)

    def _add(self, pattern: str, service: Service) -> None:
        key = f"services.{service.name}.hosts"
        canonical = canonical_pattern(pattern, key=key)
        wildcard = canonical.startswith("*.")
        table = self._zones if wildcard else self._exact
        holder = table.setdefault(canonical[2:] if wildcard else canonical, service)
        if holder is not service and holder.own and service.own:
            raise ConfigError(f"{canonical!r} is in service {holder.name!r} too", key=key)

    def match(self, host: str) -> Service | None:
        """The service of a canonical host, or None. IP literals match only where they are listed exactly."""
        service = self._exact.get(host)
        if service is not None:
            return service
        # No zone can be the tail of a literal: its last label is no number, and IPv6 literals hold no dot.
        _, dot, zone = host.partition(".")
        while dot:
            service = self._zones.get(zone)
            if service is not None:
                return service
            _, dot, zone = zone.partition(".")
        return None
