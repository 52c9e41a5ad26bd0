"""One request to a source: constructed, never copied from the client's (I10)."""

from __future__ import annotations

import re
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
        "base-url", "forwarded", "front-end-https", "x-arr-ssl", "x-host", "x-http-host-override", "x-http-method",
        "x-http-method-override", "x-http-path-override", "x-matched-path", "x-method-override", "x-proxy-host",
        "x-real-host", "x-script-name", "x-url-scheme", "x-wap-profile",
    }
)  # fmt: skip
_REWRITES_REQUEST_PREFIXES = ("x-forwarded", "x-original-", "x-envoy-original-", "x-middleware-", "x-rewrite-")
# Gateways (CGI, WSGI) write every other character of a name as "_" or "-": "X_Forwarded_Host" is X-Forwarded-Host then.
_PLAIN_NAME = re.compile(r"[0-9a-z-]+")


def _passes_unnamed(lower: str) -> bool:
    """Whether a field goes upstream that the rule does not name: of plain name, and no rewriting one."""
    return (
        _PLAIN_NAME.fullmatch(lower) is not None
        and lower not in _REWRITES_REQUEST
        and not lower.startswith(_REWRITES_REQUEST_PREFIXES)
    )


_NEVER_UPSTREAM = frozenset({"host", "range", "content-length", "expect", "via", "cache-status"})


def request_fields_upstream(request: Fields, service: Service) -> Fields:
    """The client's fields that go upstream (I10), in their order and spelling.

    Only names in ``service.forward_fields``; ``*`` means every end-to-end field but those that make an origin see
    another host, path or method (X-Forwarded-Host, X-Original-URL ...), and those of names with other characters than
    letters, digits and hyphens: these pass only where they are named, in this spelling. Whatever the rule says, the
    fields that the node writes itself never pass: Host, Range, If-*, Content-Length, Expect, Via, Cache-Status.
    """
    named = {name.lower() for name in service.forward_fields}
    return Fields(
        (name, value)
        for name, value in end_to_end(request)
        if (name.lower() in named or (service.forwards_everything and _passes_unnamed(name.lower())))
        and name.lower() not in _NEVER_UPSTREAM
        and not name.lower().startswith("if-")
        and is_token(name)
        and is_field_value(value)
    )
