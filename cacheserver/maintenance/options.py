"""Settings of the scrubber: how often stored pieces are read again, and who goes first."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cacheserver.core.units import Size


class ScrubOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reading everything that is stored again, to find what the drives have spoilt."""

    enabled: Annotated[
        bool, Meta(description="Read all stored pieces again and again; off, only cacheserver scrub --now does.")
    ] = True
    days: Annotated[float, Meta(ge=0.01, le=365, description="Days in which every stored piece is read once.")] = 7.0
    max_rate: Annotated[
        Size, Meta(description="Most bytes per second and volume that are read, also by scrub --now or to catch up.")
    ] = Size("100MiB")
    pause_above_fills: Annotated[
        int, Meta(ge=0, le=65_536, description="Pause while more upstream requests of fills than this are under way.")
    ] = 16
    busy_rate: Annotated[
        Size, Meta(description="Pause while clients have taken more bytes per second than this, over about 10 s.")
    ] = Size("40MiB")
