"""Settings of the listeners: addresses, deadlines, limits, how refusals look."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cacheserver.core.units import Size


class ServerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content listener."""

    listen: Annotated[
        tuple[str, ...], Meta(description="Addresses of the content listener, ADDR:PORT or [IPv6]:PORT.")
    ] = ("0.0.0.0:8080",)
    listen_tls: Annotated[
        tuple[str, ...], Meta(description="Addresses on which the content listener speaks TLS; needs [tls].")
    ] = ()
    max_connections: Annotated[
        int, Meta(ge=0, description="Most client connections; 0: the descriptor limit less what the node itself needs.")
    ] = 0
    connections_per_client: Annotated[
        int,
        Meta(
            ge=0,
            description="Most connections of one client, an IPv4 address or an IPv6 /64, times `clients` of "
            "fairness.shared; 0: a quarter of max_connections, at least 64.",
        ),
    ] = 0
    head_timeout_s: Annotated[
        float, Meta(gt=0, le=15, description="From the first byte of a request to the end of its head.")
    ] = 10.0
    idle_timeout_s: Annotated[float, Meta(gt=0, le=3600, description="How long an idle connection is kept.")] = 55.0
    max_head: Annotated[Size, Meta(description="Largest request head.")] = Size("32KiB")
    min_send_rate_bps: Annotated[
        int, Meta(ge=0, description="A client that takes fewer bytes per second than this over 30 s is cut; 0: off.")
    ] = 1024
    turn: Annotated[Size, Meta(description="Most bytes sent to one client before the others get their turn.")] = Size(
        "1MiB"
    )
    drain_s: Annotated[float, Meta(ge=0, le=3600, description="How long running answers may take after SIGTERM.")] = (
        30.0
    )
    workers: Annotated[int | None, Meta(description="Accepted and ignored until 0.3: the node is one process.")] = None
    fast_lane: Annotated[bool, Meta(description="Answer warm hits of plain form without the web framework.")] = True
    cache_host_errors: Annotated[
        Literal["5xx", "relay"],
        Meta(
            description="An origin's 4xx in cache-host form: a 502, for which clients do not ban the node, or relayed."
        ),
    ] = "5xx"
    host_errors: Annotated[
        Literal["5xx", "relay"], Meta(description="The same for a client in Host or absolute form.")
    ] = "relay"


class SharedNetwork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Networks behind which many clients share an address: NAT, load balancers, child and sibling nodes."""

    networks: Annotated[tuple[str, ...], Meta(description="CIDR blocks; the longest one that fits wins.")]
    clients: Annotated[int, Meta(ge=1, le=1_000_000, description="As how many clients each address in them counts.")]


class FairnessOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one client is: an IPv4 address, or an IPv6 /64."""

    shared: Annotated[
        tuple[SharedNetwork, ...], Meta(description="Networks whose addresses stand for many clients.")
    ] = ()


class AdminOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The admin listener: health, metrics, status, the status page at /."""

    listen: Annotated[str, Meta(description="Address of the admin listener, ADDR:PORT; empty: none.")] = (
        "127.0.0.1:8081"
    )
    token: Annotated[
        str,
        Meta(
            description="Bearer token of every admin request but those for health and the files of the status page, "
            "which asks for it; required when listening off loopback. `openssl rand -hex 16` makes one."
        ),
    ] = ""
    metrics: Annotated[bool, Meta(description="Serve /metrics.")] = True
