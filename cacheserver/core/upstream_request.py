"""One request to a source: constructed, never copied from the client's (I10)."""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.fields import Fields
from cacheserver.core.service import Service
from cacheserver.core.sources import ORIGIN


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What goes to a source; ``fields`` lacks only Host, which the adapter derives from ``host`` and ``port``."""

    method: str
    scheme: str
    host: str
    port: int
    path_and_query: str
    fields: Fields
    service: Service
    source_class: str = ORIGIN
    """One of ``core.sources.SOURCE_CLASSES``; redirects do not change it."""

    @property
    def source(self) -> str:
        """``scheme://host:port``, for messages and bans."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Absolute URL; the path and query are byte for byte the client's."""
        default = {"http": 80, "https": 443}[self.scheme]
        authority = self.host if self.port == default else f"{self.host}:{self.port}"
        return f"{self.scheme}://{authority}{self.path_and_query}"
