"""What a balancer asks on the content port: whether the node answers, and whether it should get clients.

Owns: these two paths, where no origin is named that has paths of its own. The admin listener has them too.
"""

from __future__ import annotations

from typing import Final

from cacheserver.core.errors import CacheserverError, HostNotAllowed, MalformedRequest

ALIVE: Final = "/healthz"
READY: Final = "/readyz"


def asks_for_health(raw_target: str, refusal: CacheserverError) -> bool:
    """Whether a request that is refused, because it names no host or none that is served, is about the node itself."""
    return isinstance(refusal, HostNotAllowed | MalformedRequest) and raw_target.partition("?")[0] in (ALIVE, READY)


def health(raw_target: str, reasons: list[str]) -> tuple[int, str]:
    """Status and text; ``reasons`` are why the node cannot do its work."""
    if raw_target.startswith(ALIVE) or not reasons:
        return 200, "ok\n"
    return 503, "".join(f"{reason}\n" for reason in reasons)
