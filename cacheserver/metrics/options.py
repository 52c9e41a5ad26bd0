"""Settings of what is counted apart: groups of client subnets."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class SubnetOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group of client addresses with metrics of its own."""

    name: Annotated[
        str,
        Meta(description="Name of the group in metrics: letters, digits, `.`, `_` and `-`, at most 40; not `other`."),
    ]
    networks: Annotated[
        tuple[str, ...], Meta(description="CIDR blocks of the group, IPv4 or IPv6; the longest one that fits wins.")
    ]
