"""What a request asks for, after its host and target were parsed: the value that all later steps use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cacheserver.core.request.service import Service


def origin_text(scheme: str, host: str, port: int) -> str:
    """``scheme://host[:port]``, the port only where it is not the scheme's own."""
    return f"{scheme}://{host}" if port == {"http": 80, "https": 443}[scheme] else f"{scheme}://{host}:{port}"


class Form(Enum):
    """How the client named the origin."""

    CACHE_HOST = "cache-host"
    """``cacheHostOrigin=`` in the query: the client knows that it talks to a cache."""
    HOST = "host"
    """``Host:`` carries the origin: the client believes that the node is the origin."""
    ABSOLUTE = "absolute"
    """Absolute-form target: the client uses the node as a proxy."""


@dataclass(frozen=True, slots=True)
class Target:
    """One admitted target.

    ``path_and_query`` goes upstream byte for byte; ``key`` is the cache key text (never sent, never a file name);
    ``object_id`` is 32 hex digits of its SHA-256.
    """

    form: Form
    service: Service
    scheme: str
    host: str
    port: int
    path_and_query: str
    key: str
    object_id: str

    @property
    def origin(self) -> str:
        """``scheme://host[:port]``, the port only where it is not the scheme's own."""
        return origin_text(self.scheme, self.host, self.port)
