"""Which changed settings a reload cannot put into effect.

Owns: the list of settings that a reload takes up. Every other setting that differs from the one the node was started
with waits for a restart, so a new setting is reported unless it is listed here. Pure.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cacheserver.settings.schema import Settings

TAKEN_UP: Final = frozenset(
    {
        "allow", "fairness", "services", "subnets", "scrub", "tls", "log.level", "trust.catalogues",
        "trust.catalogue_keys", "server.cache_host_errors", "server.connections_per_client", "server.drain_s",
        "server.fast_lane", "server.head_timeout_s", "server.host_errors", "server.idle_timeout_s",
        "server.min_send_rate_bps", "server.workers",
    }
)  # fmt: skip
"""Dotted names of settings, or of whole sections, that a reload puts into effect; ``server.workers`` has none."""


def needs_restart(started: Settings, now: Settings) -> tuple[str, ...]:
    """Dotted names of the settings whose change waits for a restart, in the order of the settings file."""
    return tuple(name for name in changed(started, now) if not {name, name.partition(".")[0]} & TAKEN_UP)


def changed(before: Settings, after: Settings) -> list[str]:
    """Dotted names of all settings that differ, such as ``store.volumes``."""
    names: list[str] = []
    for section in msgspec.structs.fields(Settings):
        one, other = getattr(before, section.name), getattr(after, section.name)
        if one == other:
            continue
        names += _changed_in(section.name, one, other) if isinstance(one, msgspec.Struct) else [section.name]
    return names


def _changed_in(section: str, one: msgspec.Struct, other: Any) -> list[str]:
    fields = msgspec.structs.fields(type(one))
    return [f"{section}.{field.name}" for field in fields if getattr(one, field.name) != getattr(other, field.name)]
