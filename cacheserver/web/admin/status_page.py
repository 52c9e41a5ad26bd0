"""The status page at the admin listener's ``/``: fixed files of the package, under a strict content policy.

Owns: which files there are and the fields that they are sent with. Must not know anything of the node: the page asks
``/api/v1/overview``, with the token where one is set, so that the files themselves need none.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from aiohttp import web

_FOLDER: Final = "data/page"
_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
    "/page/status.css": ("status.css", "text/css"),
    **{
        f"/page/{name}.js": (f"{name}.js", "text/javascript")
        for name in ("chart", "format", "history", "poller", "rows", "sections", "status")
    },
}
PATHS: Final = frozenset(_FILES)
"""Paths of the page; they need no token."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FIELDS: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class StatusPage:
    """Reads every file once, at the start. OSError for a damaged installation."""

    def __init__(self) -> None:
        folder = resources.files("cacheserver").joinpath(_FOLDER)
        self._files = {
            path: (folder.joinpath(name).read_bytes(), media_type) for path, (name, media_type) in _FILES.items()
        }

    async def file(self, request: web.Request) -> web.Response:
        """A file of the status page."""
        body, media_type = self._files[request.path]
        return web.Response(body=body, content_type=media_type, charset="utf-8", headers=_FIELDS)
