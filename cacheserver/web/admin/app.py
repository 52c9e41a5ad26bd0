"""The admin listener: health, metrics, status, actions and the status page, on a port of its own.

Owns: the table of routes and the application made of it. Each route needs the token, where one is set, except the
status page, which holds no data, and health, which load balancers and container runtimes ask without a secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import hdrs, web

from cacheserver.web.admin.actions import AdminActions
from cacheserver.web.admin.guard import guard_of
from cacheserver.web.admin.json_bodies import MAX_BODY_BYTES
from cacheserver.web.admin.pins import AdminPins
from cacheserver.web.admin.status_page import PATHS, StatusPage
from cacheserver.web.admin.views import Views
from cacheserver.web.options import AdminOptions

_METRICS: Final = "/metrics"


@dataclass(frozen=True, slots=True)
class Route:
    """``handler`` is a method of its part; the first line of its docstring is its entry in the reference."""

    method: str
    path: str
    handler: Callable[[Any, web.Request], Awaitable[web.StreamResponse]]
    needs_token: bool = True


ROUTES: Final[Mapping[type, tuple[Route, ...]]] = {
    StatusPage: tuple(Route("GET", path, StatusPage.file, needs_token=False) for path in sorted(PATHS)),
    Views: (
        Route("GET", "/healthz", Views.healthz, needs_token=False),
        Route("GET", "/readyz", Views.readyz, needs_token=False),
        Route("GET", _METRICS, Views.metrics),
        Route("GET", "/api/v1/status", Views.status),
        Route("GET", "/api/v1/overview", Views.overview),
    ),
    AdminActions: (
        Route("GET", "/api/v1/scrub", AdminActions.scrub_progress),
        Route("POST", "/api/v1/scrub", AdminActions.scrub),
        Route("POST", "/api/v1/bans/lift", AdminActions.lift),
        Route("POST", "/api/v1/purge", AdminActions.purge),
        Route("POST", "/api/v1/verify", AdminActions.verify),
        Route("GET", "/api/v1/objects", AdminActions.object),
    ),
    AdminPins: (
        Route("GET", "/api/v1/pins", AdminPins.pins),
        Route("POST", "/api/v1/pin", AdminPins.pin),
        Route("POST", "/api/v1/unpin", AdminPins.unpin),
    ),
}
"""Every route, by the class whose object answers it."""


def admin_app(options: AdminOptions, *parts: Views | AdminActions | AdminPins) -> web.Application:
    """The admin application: the routes of ``parts`` and the status page, under the token and Host rules."""
    open_paths = {route.path for routes in ROUTES.values() for route in routes if not route.needs_token}
    app = web.Application(middlewares=[guard_of(options, open_paths)], client_max_size=MAX_BODY_BYTES)
    for part in (StatusPage(), *parts):
        for route in ROUTES[type(part)]:
            if route.path != _METRICS or options.metrics:
                add = app.router.add_get if route.method == "GET" else app.router.add_post  # a GET route answers HEAD
                add(route.path, partial(route.handler, part))
    app.on_response_prepare.append(_finish_head)
    return app


async def _finish_head(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.popall(hdrs.SERVER, None)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
