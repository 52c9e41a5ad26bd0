"""JSON in and out of the admin listener.

Owns: the form of answers, the strict reading of bodies, the check for requests that a page of another site made a
browser send. Must not act.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from aiohttp import hdrs, web

from cacheserver.core.request.keys import is_object_id
from cacheserver.core.request.target import Target
from cacheserver.core.strict_json import strict_json

MAX_BODY_BYTES: Final = 16 * 1024
_BODY_S: Final = 10.0


def json_reply(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    """One line of ASCII JSON."""
    text = json.dumps(body, ensure_ascii=True) + "\n"
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


async def json_body(request: web.Request, *, allowed: tuple[str, ...]) -> dict[str, object]:
    """The members of a JSON body, none but ``allowed``; refuses what a page of another site could make a browser send.

    A browser asks before it sends this Content-Type across sites, and is refused then; Origin is looked at as well.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(reason="send Content-Type: application/json")
    if _is_foreign(request):
        raise web.HTTPForbidden(reason="requests of other sites are refused")
    try:
        async with asyncio.timeout(_BODY_S):
            data = await request.read()  # at most MAX_BODY_BYTES, as the application says
    except TimeoutError as exc:
        raise web.HTTPRequestTimeout from exc
    try:
        body = strict_json(data)
    except ValueError as exc:
        raise web.HTTPBadRequest(reason="the body is not JSON that can be read in one way only") from exc
    if not isinstance(body, dict) or not set(body) <= set(allowed):
        members = ", ".join(allowed) if allowed else "none"
        raise web.HTTPBadRequest(reason=f"the body is not an object with these members: {members}")
    return body


def _is_foreign(request: web.Request) -> bool:
    origins = request.headers.getall(hdrs.ORIGIN, [])
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    host = request.headers.get(hdrs.HOST, "").lower()
    return any(origin.lower() not in (f"http://{host}", f"https://{host}") for origin in origins)


def text_member(body: dict[str, object], name: str) -> str:
    """A member of a body that must be a text with something in it; 400 where it is not."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise web.HTTPBadRequest(reason=f"{name} is missing or no text")
    return value


async def named_object(request: web.Request, admit: Callable[[str], Target | None]) -> str:
    """The id of the one object that a body names, by ``url`` or by ``object_id``; 400 where it names none."""
    body = await json_body(request, allowed=("url", "object_id"))
    if len(body) != 1:
        raise web.HTTPBadRequest(reason="name either url or object_id")
    (name,) = body
    text = text_member(body, name)
    object_id = admitted(admit, text).object_id if name == "url" else text
    if not is_object_id(object_id):
        raise web.HTTPBadRequest(reason="object_id is not 32 hex digits")
    return object_id


def admitted(admit: Callable[[str], Target | None], url: str) -> Target:
    """The target of a URL that was asked for; 400 where it is not on an allowed host."""
    target = admit(url) if url.lower().startswith(("http://", "https://")) else None
    if target is None:
        raise web.HTTPBadRequest(reason="url is not an http or https URL of an allowed host")
    return target
