"""The admin listener: health, metrics and status, on a port of its own.

Owns: these routes, the bearer token, the Host check against DNS rebinding, the log of who was refused, one-line JSON
errors. Must not change anything in the node (``web.admin.actions`` does), and answers to nobody who has no business
here. Without the token there is the status page, which holds no data.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from aiohttp import hdrs, web

from cacheserver.core.units import is_ip, parse_listen
from cacheserver.logs.events import event, get_logger
from cacheserver.web.admin.status_page import PATHS, StatusPage
from cacheserver.web.admin.token_guesses import Guesses
from cacheserver.web.options import AdminOptions

_log = get_logger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the node can do its work; ``reasons`` say why not, one short line each."""

    ready: bool
    reasons: tuple[str, ...] = ()


class Exposition(Protocol):
    """What the admin listener needs of the meter."""

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Body and Content-Type of /metrics; called in a thread."""
        ...


def admin_app(
    *,
    options: AdminOptions,
    meter: Exposition,
    health: Callable[[], Health],
    status: Callable[[], dict[str, Any]],
    overview: Callable[[], dict[str, Any]],
    add_actions: Callable[[web.Application], None] = lambda _app: None,
) -> web.Application:
    """The admin application; ``meter.render`` is called in a thread, the other callables on the loop.

    ``add_actions`` adds the routes of what changes the node; they stand behind the same token and Host rules.
    """
    views = _Views(meter=meter, health=health, status=status, overview=overview)
    app = web.Application(middlewares=[_guard(options)], client_max_size=0)
    app.router.add_get("/healthz", views.healthz)
    app.router.add_get("/readyz", views.readyz)
    app.router.add_get("/api/v1/status", views.status)
    app.router.add_get("/api/v1/overview", views.overview)
    StatusPage().add_to(app)
    if options.metrics:
        app.router.add_get("/metrics", views.metrics)
    add_actions(app)
    app.on_response_prepare.append(_finish_head)
    return app


class _Views:
    def __init__(
        self,
        *,
        meter: Exposition,
        health: Callable[[], Health],
        status: Callable[[], dict[str, Any]],
        overview: Callable[[], dict[str, Any]],
    ) -> None:
        self._meter = meter
        self._health = health
        self._status = status
        self._overview = overview

    async def healthz(self, _request: web.Request) -> web.Response:
        """200 while the loop answers at all."""
        return json_reply(HTTPStatus.OK, {"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """200 when the node can serve, 503 with the reasons otherwise."""
        health = self._health()
        code = HTTPStatus.OK if health.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_reply(code, {"ready": health.ready, "reasons": list(health.reasons)})

    async def status(self, _request: web.Request) -> web.Response:
        """The node's own picture of itself."""
        return json_reply(HTTPStatus.OK, self._status())

    async def overview(self, _request: web.Request) -> web.Response:
        """What the status page shows."""
        return json_reply(HTTPStatus.OK, self._overview())

    async def metrics(self, request: web.Request) -> web.Response:
        """The exposition, rendered off the loop: 1,000 series take about 14 ms."""
        body, content_type = await asyncio.to_thread(self._meter.render, request.headers.get(hdrs.ACCEPT))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def _guard(options: AdminOptions) -> Any:
    """The middleware that admits a request and turns every failure into one line of JSON."""
    own_host = parse_listen(options.listen)[0].lower() if options.listen else ""
    token = options.token.encode("utf-8", "surrogateescape")
    guesses = Guesses()

    def denied(request: web.Request) -> web.Response | None:
        if not token:
            return _under_strange_name(request, own_host)
        return None if request.path in PATHS else _without_token(request, token, guesses)

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


def _under_strange_name(request: web.Request, own_host: str) -> web.Response | None:
    """The refusal of a request that names another host than this listener."""
    if _host_is_ours(request.headers.getall(hdrs.HOST, []), own_host):
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


def _host_is_ours(lines: list[str], own_host: str) -> bool:
    """Whether a page that rebinds its name to our address is *not* asking: its Host would be that name."""
    if len(lines) != 1:
        return False
    host = lines[0].strip().lower()
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return bool(bracket) and is_ip(name) and _is_port(rest)
    name, colon, port = host.partition(":")
    return _is_port(colon + port) and (is_ip(name) or name == "localhost" or (name == own_host and bool(name)))


def _is_port(text: str) -> bool:
    """Whether ``text``, what follows a host, is empty or a colon with digits (perhaps none, RFC 3986 §3.2.3)."""
    return not text or (text[0] == ":" and (not text[1:] or text[1:].isdecimal()))


def json_reply(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    """One line of ASCII JSON."""
    text = json.dumps(body, ensure_ascii=True) + "\n"
    return web.Response(status=status, text=text, content_type=_JSON, headers=headers)


async def _finish_head(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.popall(hdrs.SERVER, None)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
