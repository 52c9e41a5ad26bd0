"""Every setting in one frozen tree, as the settings file has it.

Owns: the composition of the packages' options and the services that they allow. Must not read files or flags."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cacheserver.core.request.service import Service
from cacheserver.fill.options import FillOptions
from cacheserver.logs.events import LogOptions
from cacheserver.maintenance.options import ScrubOptions
from cacheserver.metrics.options import SubnetOptions
from cacheserver.settings.services_table import service_from_allow, services_from_tables
from cacheserver.settings.shipped import load_shipped_services
from cacheserver.store.options import StoreOptions
from cacheserver.tls.options import TlsOptions
from cacheserver.trust.options import TrustOptions
from cacheserver.upstream.options import UpstreamOptions
from cacheserver.web.options import AdminOptions, FairnessOptions, ServerOptions


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that an operator can set."""

    allow: Annotated[
        tuple[str, ...],
        Meta(description="Further hosts to serve, each as an own service with RFC rules; the same as --allow."),
    ] = ()
    server: ServerOptions = msgspec.field(default_factory=ServerOptions)
    admin: AdminOptions = msgspec.field(default_factory=AdminOptions)
    fairness: FairnessOptions = msgspec.field(default_factory=FairnessOptions)
    store: StoreOptions = msgspec.field(default_factory=StoreOptions)
    fill: FillOptions = msgspec.field(default_factory=FillOptions)
    upstream: UpstreamOptions = msgspec.field(default_factory=UpstreamOptions)
    trust: TrustOptions = msgspec.field(default_factory=TrustOptions)
    scrub: ScrubOptions = msgspec.field(default_factory=ScrubOptions)
    log: LogOptions = msgspec.field(default_factory=LogOptions)
    tls: TlsOptions = msgspec.field(default_factory=TlsOptions)
    subnets: Annotated[
        tuple[SubnetOptions, ...],
        Meta(description="Groups of client addresses with metrics of their own, at most 1024; the rest is `other`."),
    ] = ()
    services: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)

    def own_services(self) -> tuple[Service, ...]:
        """The operator's services: the tables first, then ``allow``; raises ConfigError."""
        services = {service.name: service for service in services_from_tables(self.services, own=True)}
        for host in self.allow:
            service = service_from_allow(host)
            services.setdefault(service.name, service)
        return tuple(services.values())

    def all_services(self) -> tuple[Service, ...]:
        """Every service, own ones first; an own one replaces the shipped one of its name. Raises ConfigError."""
        own = self.own_services()
        names = {service.name for service in own}
        return own + tuple(service for service in load_shipped_services() if service.name not in names)

    def ignored(self) -> tuple[tuple[str, str], ...]:
        """Settings that are accepted and have no effect any more, each with the reason."""
        if self.server.workers is None:
            return ()
        return (("server.workers", "the node is one process; remove it, 0.3 refuses it"),)
