"""Settings of upstream requests: deadlines, pools, addresses."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class UpstreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deadlines, pools and addresses of upstream requests."""

    connect_to: Annotated[
        dict[str, str],
        Meta(description="Per host (or host:port) the address:port to connect to, without DNS; permits that address."),
    ] = msgspec.field(default_factory=dict)
    connect_timeout_s: Annotated[float, Meta(gt=0, le=60, description="TCP and TLS handshake.")] = 4.0
    head_timeout_s: Annotated[float, Meta(gt=0, le=120, description="From the request sent to the answer's head.")] = (
        8.0
    )
    stall_timeout_s: Annotated[float, Meta(gt=0, le=120, description="Longest silence inside a body.")] = 8.0
    min_rate_bps: Annotated[
        int,
        Meta(ge=0, description="A body slower than this many bytes per second over 10 s counts as stalled; 0: off."),
    ] = 4096
    threads_receive: Annotated[
        bool, Meta(description="Bodies on plain TCP are received by the store's threads, not by the event loop.")
    ] = True
    redirects: Annotated[
        int, Meta(ge=0, le=20, description="Redirect hops followed, each checked against the allow-list.")
    ] = 5
    retry_after_max_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="Longest time for which an origin's Retry-After is observed; 0: not at all."),
    ] = 60.0
    resolver: Annotated[
        Literal["auto", "dns", "system"],
        Meta(
            description="How names are looked up: dns by a library, system by getaddrinfo in threads; auto: dns where "
            "/etc/nsswitch.conf names files and dns alone for hosts, and /etc/gai.conf has no rules."
        ),
    ] = "auto"
    dns_ttl_s: Annotated[
        float,
        Meta(
            ge=0, le=3600, description="Most seconds for which addresses are used before DNS is asked again; 0: none."
        ),
    ] = 30.0
    connections_per_host: Annotated[int, Meta(ge=1, le=1024, description="Connections to one origin host.")] = 192
    idle_s: Annotated[float, Meta(gt=0, le=600, description="How long an idle upstream connection is kept.")] = 30.0
    ca_file: Annotated[
        str,
        Meta(description="PEM bundle trusted for https origins instead of the system's; empty: the system's."),
    ] = ""
