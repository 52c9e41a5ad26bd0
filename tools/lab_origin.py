"""An origin for labs and the tour of the README: the files of a folder, with byte ranges, on 127.0.0.1.

``python -m tools.lab_origin FOLDER [PORT]``.
"""

from __future__ import annotations

import sys

from aiohttp import web


async def _dated(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "max-age=3600"


def main(folder: str, port: str = "9000") -> None:
    """Serve until SIGINT or SIGTERM."""
    app = web.Application()
    app.router.add_static("/", folder)
    app.on_response_prepare.append(_dated)
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
