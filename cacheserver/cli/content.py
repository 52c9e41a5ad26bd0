"""``cacheserver pin``, ``unpin``, ``pins`` and ``purge``: what a running node keeps or forgets, from a shell.

Owns: the command line of the four. The node does the work, over its admin API.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Annotated

import click
import msgspec

from cacheserver.cli.admin_client import AdminClient
from cacheserver.cli.options import with_client
from cacheserver.cli.output import EXIT_FAILED, say, tell
from cacheserver.core.errors import AdminFailed
from cacheserver.core.request.keys import is_object_id
from cacheserver.core.units import format_size, several
from cacheserver.logs.events import printable


class _Pin(msgspec.Struct):
    url: str
    complete: bool
    percent: float
    state: str
    reason: str
    trust: str
    length_bytes: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] | None


class _Pins(msgspec.Struct):
    pins: list[_Pin]


class _Unpinned(msgspec.Struct):
    unpinned: bool


class _Purged(msgspec.Struct):
    purged: int
    away: list[str]
    left_on: list[str]


def _for_each_url(act: Callable[..., str]) -> Callable[..., int]:
    """Make ``act(url, client)``, which returns one line, a command of many URLs; one's failure does not end the rest.

    A node that does not answer is not asked for the rest. Returns the exit code.
    """

    @click.argument("urls", metavar="URL...", nargs=-1, required=True)
    @with_client
    @wraps(act)
    def call(urls: tuple[str, ...], client: AdminClient) -> int:
        code = 0
        for url in urls:
            try:
                say(act(url, client))
            except AdminFailed as exc:
                tell(f"error: {_shown(url)}: {printable(str(exc), 400)}")
                code = EXIT_FAILED
                if not exc.heard:
                    break
        return code

    return call


@click.command("pin")
@_for_each_url
def pin_command(url: str, client: AdminClient) -> str:
    """Have a running node fetch content whole and keep it: eviction leaves it alone, what is lost is fetched again.

    The node goes on by itself; see cacheserver pins. An origin that cannot be reached is tried again and again.

    Exit codes: 0 all are pinned, 1 no node answers or one was refused, 2 wrong usage.
    """
    return f"pinned: {_line(client.post('/api/v1/pin', {'url': url}, _Pin))}"


@click.command("unpin")
@_for_each_url
def unpin_command(url: str, client: AdminClient) -> str:
    """End pins, each named by a URL or by its object id; what is stored stays until its space is needed.

    Exit codes: 0 all are ended, 1 no node answers or one was not pinned, 2 wrong usage.
    """
    if not client.post("/api/v1/unpin", _named(url), _Unpinned).unpinned:
        raise AdminFailed("the node does not say that it is unpinned", heard=True)
    return f"unpinned: {_shown(url)}"


@click.command("purge")
@_for_each_url
def purge_command(url: str, client: AdminClient) -> str:
    """Have a running node forget content at once, each named by a URL (all its variants go) or by its object id.

    A URL is meant with its query, where the host's content differs by query. Who reads it now gets the rest; the next
    request fetches it again, and so does a pin.

    Exit codes: 0 all are gone, 1 no node answers, it refuses, nothing was stored, a volume is away or a disk does not
    let the file go, 2 wrong usage.
    """
    done = client.post("/api/v1/purge", _named(url), _Purged)
    if done.away:
        raise AdminFailed(f"purged, but {', '.join(done.away)} is away: purge again when it is back", heard=True)
    if done.left_on:
        raise AdminFailed(f"not served any more, but {', '.join(done.left_on)} does not let the file go", heard=True)
    return f"purged: {_shown(url)} ({several(done.purged, 'object')})"


@click.command("pins")
@with_client
def pins_command(client: AdminClient) -> int:
    """List what a running node has pinned: URL, bytes, complete or percent, trust, and why one waits.

    Exit codes: 0 listed, 1 no node answers, 2 wrong usage.
    """
    pins = client.get("/api/v1/pins", _Pins).pins
    for pin in pins:
        say(_line(pin))
    say(f"{len(pins)} pinned, {sum(pin.complete for pin in pins)} complete")
    return 0


def _named(url: str) -> dict[str, str]:
    """Body of a request that takes either name."""
    return {"object_id": url} if is_object_id(url) else {"url": url}


def _line(pin: _Pin) -> str:
    size = "size unknown" if pin.length_bytes is None else format_size(pin.length_bytes)
    state = "complete" if pin.complete else f"{pin.percent:g}% {pin.state}"
    reason = "" if pin.complete or not pin.reason else f" ({pin.reason})"
    return printable(f"{pin.url} {size} {state} {pin.trust or '-'}{reason}")


def _shown(url: str) -> str:
    """A URL as it may be shown: a query may be a token."""
    path, query, _ = url.partition("?")
    return printable(path + (query and "?..."), 300)
