"""Admission: from a request's target and Host lines to one admitted ``Target``.

Owns: the three forms in which clients name an origin and which of them wins. Must not touch sockets, answers or the
rest of the request's head. Every ``Target`` that leaves here has a host of the allow-list (I9) and a path and query
that are the client's own bytes, less the ``cacheHostOrigin`` pairs (I10).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from cacheserver.core.errors import HostNotAllowed, MalformedRequest, MethodNotAllowed, MethodUnknown, RequestError
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.hostname import check_unused_host, decode_cache_host_origin, parse_authority
from cacheserver.core.request.keys import DEFAULT_PORTS, cache_key, canonical_target, object_id, split_cache_host_origin
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Form, Target

_METHODS: Final = frozenset({"GET", "HEAD"})
_KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND",
     "PROPPATCH", "PURGE", "REPORT", "SEARCH", "UNLOCK"}
)  # fmt: skip
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the request line and Host say, before the allow-list: ``named_port`` is None where it does not count."""

    form: Form
    scheme: str
    host: str
    named_port: int | None
    path_and_query: str


def check_method(method: str) -> None:
    """Admit ``GET`` and ``HEAD`` in exactly this spelling (RFC 9110 §9.1).

    Else raises MethodNotAllowed, or MethodUnknown for a method of no registry.
    """
    if method not in _METHODS:
        raise MethodNotAllowed(method) if method in _KNOWN_METHODS else MethodUnknown


def parse_target(
    raw_target: str, host_lines: tuple[str, ...], *, tls: bool, allowlist: AllowList, http_10: bool = False
) -> Target:
    """Admit one request target (RFC 9112 §3.2).

    ``raw_target`` is the request target as received, ``host_lines`` the values of all Host lines, ``tls`` whether the
    connection is encrypted; HTTP/1.0 may do without Host. Who names the origin: ``cacheHostOrigin`` before an
    absolute-form target before Host. Raises MalformedRequest (grammar; not exactly one Host line) and HostNotAllowed
    (no service has the host, or not on this port).
    """
    asked = _read(raw_target, host_lines, tls=tls, http_10=http_10)
    canonical = canonical_target(asked.path_and_query)
    service = allowlist.match(asked.host)
    if service is None:
        raise HostNotAllowed(asked.host)
    scheme, port = _origin_port(service, asked)
    key = cache_key(service, scheme, asked.host, port, canonical)
    return Target(
        form=asked.form,
        service=service,
        scheme=scheme,
        host=asked.host,
        port=port,
        path_and_query=asked.path_and_query,
        key=key,
        object_id=object_id(key),
    )


def target_of(url: str, allowlist: AllowList) -> Target | None:
    """The target of an absolute URL that a rule, a redirect or an operator names; None where it is not admitted."""
    try:
        parts = urlsplit(url)
        return parse_target(url, (parts.netloc,), tls=parts.scheme == "https", allowlist=allowlist)
    except (RequestError, ValueError):
        return None


def _read(raw_target: str, host_lines: tuple[str, ...], *, tls: bool, http_10: bool) -> _Asked:
    host_line = _single_host_line(host_lines, http_10=http_10)
    absolute = _ABSOLUTE.fullmatch(raw_target)
    if absolute is None and not raw_target.startswith("/"):
        raise MalformedRequest("the target is neither a path nor an http or https URL")
    scheme = absolute[1].lower() if absolute else ("https" if tls else "http")
    local = absolute[3] if absolute else raw_target
    if not local.startswith("/"):
        local = f"/{local}"  # RFC 9112 §3.2.1: an empty path is sent as "/"
    rest, origin = split_cache_host_origin(local)
    if origin is not None:
        for unused in (host_line, absolute[2] if absolute else None):
            if unused is not None:
                check_unused_host(unused)
        named = decode_cache_host_origin(origin)
        return _Asked(Form.CACHE_HOST, scheme, named.host, named.port, rest)
    if absolute is not None:
        if host_line is not None:
            check_unused_host(host_line)
        named = parse_authority(absolute[2])
        return _Asked(Form.ABSOLUTE, scheme, named.host, named.port, rest)
    if host_line is None:
        raise MalformedRequest("the request names no origin host")
    # The port in Host is the one on which the client reached this node; it says nothing about the origin.
    return _Asked(Form.HOST, scheme, parse_authority(host_line).host, None, rest)


def _single_host_line(host_lines: tuple[str, ...], *, http_10: bool) -> str | None:
    if len(host_lines) > 1:
        raise MalformedRequest("there is more than one Host line")
    if host_lines:
        return host_lines[0]
    if not http_10:
        raise MalformedRequest("there is no Host line")
    return None


def _origin_port(service: Service, asked: _Asked) -> tuple[str, int]:
    scheme = asked.scheme if service.scheme == "as-requested" else service.scheme
    port = DEFAULT_PORTS[scheme] if service.port is None else service.port
    if asked.named_port not in (None, DEFAULT_PORTS[asked.scheme], port):
        raise HostNotAllowed(f"{asked.host}:{asked.named_port}")
    return scheme, port
