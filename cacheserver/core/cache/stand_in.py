"""Pages that something between node and origin sends in place of a payload: captive portals, filters, login pages.

Owns: how they are told from payloads. Pure.
"""

from __future__ import annotations

from typing import Final

from cacheserver.core.cache.freshness import is_mutable
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service

_SUCCESSES: Final = (200, 203, 206)
_PAGES: Final = ("text/html", "application/xhtml+xml")
_NAMES_OF_PAGES: Final = (".htm", ".html")


def is_stand_in(service: Service, path_and_query: str, status: int, fields: Fields) -> bool:
    """Whether a success is HTML at a path whose content is to be stored as immutable and whose name is no page's."""
    path = path_and_query.partition("?")[0]
    if status not in _SUCCESSES or service.lifetime != "immutable" or path.lower().endswith(_NAMES_OF_PAGES):
        return False
    kinds = {line.partition(";")[0].strip(" \t").lower() for line in fields.lines("Content-Type")}
    return not kinds.isdisjoint(_PAGES) and not is_mutable(service, path)
