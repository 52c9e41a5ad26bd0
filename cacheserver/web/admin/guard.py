"""Who may ask the admin listener: the bearer token, and the Host check against DNS rebinding where there is none.

Owns: both checks, the log of who was refused, one-line JSON errors. Must not know a route.
"""

from __future__ import annotations

import hmac
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Container
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from cacheserver.core.units import is_ip, parse_listen
from cacheserver.logs.events import event, get_logger
from cacheserver.web.admin.json_bodies import json_reply
from cacheserver.web.admin.token_guesses import Guesses
from cacheserver.web.options import AdminOptions

_log = get_logger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard_of(options: AdminOptions, open_paths: Container[str]) -> Any:
    """The middleware that admits a request and makes every failure one line of JSON; ``open_paths`` need no token."""
    listens = parse_listen(options.listen)[0] if options.listen else ""
    own_hosts = {name.lower().rstrip(".") for name in (listens, "localhost", socket.gethostname()) if name}
    token = options.token.encode("utf-8", "surrogateescape")
    guesses = Guesses()

    def denied(request: web.Request) -> web.Response | None:
        if not token:
            return _under_strange_name(request, own_hosts)
        return None if request.path in open_paths else _without_token(request, token, guesses)

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if (denial := denied(request)) is not None:
            return denial
        try:
            return await handler(request)
        except web.HTTPException as exc:
            allow = {"Allow": exc.headers[hdrs.ALLOW]} if hdrs.ALLOW in exc.headers else None
            return json_reply(exc.status, {"error": exc.reason.lower()}, allow)
        except Exception:
            event(_log, "admin_failed", severity=logging.ERROR, path=request.path)
            _log.debug("admin request failed", exc_info=True)
            return json_reply(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error"})

    return guard


def _without_token(request: web.Request, token: bytes, guesses: Guesses) -> web.Response | None:
    """The refusal of a request without the token, or of one that comes too soon after wrong ones."""
    client = request.remote or ""
    if hdrs.AUTHORIZATION not in request.headers:
        _audit(request, "no_token", guesses.wrong)
    elif (wait_s := guesses.wait_s(client)) > 0.0:
        _audit(request, "guessing", guesses.wrong)
        retry = {"Retry-After": str(math.ceil(wait_s))}
        return json_reply(HTTPStatus.TOO_MANY_REQUESTS, {"error": "too many wrong tokens"}, retry)
    elif _has_token(request, token):
        return None
    else:
        guesses.failed(client)
        _audit(request, "wrong_token", guesses.wrong)
    return json_reply(HTTPStatus.UNAUTHORIZED, {"error": "a bearer token is required"}, {"WWW-Authenticate": "Bearer"})


def _under_strange_name(request: web.Request, own_hosts: set[str]) -> web.Response | None:
    """The refusal of a request that names another host than this listener."""
    if _host_is_ours(request.headers.getall(hdrs.HOST, []), own_hosts):
        return None
    _audit(request, "strange_host", 0)
    return json_reply(HTTPStatus.FORBIDDEN, {"error": "use an address, localhost or the listener's own host name"})


def _audit(request: web.Request, reason: str, wrong_tokens: int) -> None:
    facts = {"client": request.remote, "method": request.method, "path": request.path, "wrong_tokens": wrong_tokens}
    event(_log, "admin_denied", severity=logging.WARNING, reason=reason, **facts)


def _has_token(request: web.Request, token: bytes) -> bool:
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    matches = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token)
    return scheme.lower() == "bearer" and matches


def _host_is_ours(lines: list[str], own_hosts: set[str]) -> bool:
    """Whether a page that rebinds its name to our address is *not* asking: its Host would be that name.

    Who names no host (HTTP/1.0) is no browser.
    """
    if len(lines) != 1:
        return not lines
    host = lines[0].strip().lower()
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return bool(bracket) and is_ip(name) and _is_port(rest)
    name, colon, port = host.partition(":")
    return _is_port(colon + port) and (is_ip(name) or name.rstrip(".") in own_hosts)


def _is_port(text: str) -> bool:
    """Whether ``text``, what follows a host, is empty or a colon with digits (perhaps none, RFC 3986 §3.2.3)."""
    return not text or (text[0] == ":" and (not text[1:] or text[1:].isdecimal()))
