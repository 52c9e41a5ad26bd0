"""One request to a source: constructed, never copied from the client's (I10)."""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.cache.sources import Source
from cacheserver.core.http.field_rules import end_to_end, is_field_value, is_token
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What goes to ``place``; ``fields`` lacks only Host, which the adapter derives from it."""

    method: str
    place: Source
    """Its path and query are byte for byte the client's; redirects do not change its ``kind``."""
    fields: Fields
    service: Service


# Fields by which frameworks behind an origin let a request name another host, path or method than the one in the key.
# Nothing but the origin's Vary would keep such an answer from other clients, and none of them sends it.
_REWRITES_REQUEST = frozenset(
    {
        "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
        "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl", "front-end-https",
        "x-host", "x-http-host-override", "x-original-host", "x-original-url", "x-rewrite-url", "x-url-scheme",
        "x-http-method", "x-http-method-override", "x-method-override",
    }
)  # fmt: skip


_NEVER_UPSTREAM = frozenset({"host", "range", "content-length", "expect", "via", "cache-status"})


def request_fields_upstream(request: Fields, service: Service) -> Fields:
    """The client's fields that go upstream (I10), in their order and spelling.

    Only names in ``service.forward_fields``; ``*`` means every end-to-end field but those that make an origin see
    another host, path or method (X-Forwarded-Host, X-Original-URL ...): these pass only where they are named. Whatever
    the rule says, the fields that the node writes itself never pass: Host, Range, If-*, Content-Length, Expect, Via,
    Cache-Status.
    """
    named = {name.lower() for name in service.forward_fields}
    return Fields(
        (name, value)
        for name, value in end_to_end(request)
        if (name.lower() in named or (service.forwards_everything and name.lower() not in _REWRITES_REQUEST))
        and name.lower() not in _NEVER_UPSTREAM
        and not name.lower().startswith("if-")
        and is_token(name)
        and is_field_value(value)
    )
