"""When a source is not asked, or waited for less than usual: what it said in Retry-After, and how long it was silent.

Owns: these memories, by source and by URL, and who may ask meanwhile to find out whether it is over (the probe). Time
is handed in. Must not know what else a source did (``source_health``), or how clients are answered.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.http.http_date import parse_http_date

_THROTTLED = 429
_MAX_URLS = 4096
_MAX_SOURCES = 1024
_WINDOW_S = 60.0
"""Within this time several URLs speak for their source."""
_SEVERAL = 3
_PROBE_S = 5.0
"""A source that is held is asked for one other URL this often."""
_PROBE_ANSWER_S = 15.0
"""After this time without an answer to a probe, another one is sent."""
_MISTRUST_S = 600.0
"""How long one URL's 429 does not speak for its source, after another URL has shown that."""
_SILENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Hold:
    """The refusal that still stands: not to be asked again for ``left_s``."""

    status: int
    left_s: float


@dataclass(slots=True)
class _Held:
    status: int
    begun_s: float
    until_s: float
    probe_s: float
    """When the next probe may go out."""


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """Seconds that a Retry-After asks for (RFC 9110 §10.2.3); None where it is absent or malformed."""
    text = (value or "").strip(" \t")
    if text.isascii() and text.isdigit():
        return float(text[:12])
    date_s = parse_http_date(text, now_s=now_s) if text else None
    return None if date_s is None else max(0.0, date_s - now_s)


class BackOff:
    """Holds of at most ``most_s`` (0: none), and the silence of sources; all times are monotonic seconds."""

    def __init__(self, *, most_s: float) -> None:
        self._most_s = most_s
        self._urls: BoundedMemory[bytes, _Held] = BoundedMemory(_MAX_URLS)
        self._sources: BoundedMemory[str, _Held] = BoundedMemory(_MAX_SOURCES)
        self._refused: BoundedMemory[str, frozenset[bytes]] = BoundedMemory(_MAX_SOURCES)
        """URLs with a Retry-After, by source, since its last good answer."""
        self._mistrusted: BoundedMemory[str, bool] = BoundedMemory(_MAX_SOURCES)
        self._silent: BoundedMemory[str, frozenset[bytes]] = BoundedMemory(_MAX_SOURCES)
        """URLs that timed out, by source, since it last answered."""
        self._probes: BoundedMemory[str, bool] = BoundedMemory(_MAX_SOURCES)
        """Silent sources that one request is waiting for as long as usual."""

    def hold(self, source: str, url: str, now_s: float) -> Hold | None:
        """Why ``url`` is not asked now; None: ask.

        The first who comes when a hold of the URL is over is its probe; a held source is probed with other URLs.
        """
        key = _key(url)
        held = self._urls.get(key, now_s)
        if held is None:
            held = self._sources.get(source, now_s)
        if held is None:
            return None
        if now_s >= held.probe_s:
            held.probe_s = now_s + (_PROBE_ANSWER_S if now_s >= held.until_s else _PROBE_S)
            return None
        return Hold(held.status, max(1.0, held.until_s - now_s))

    def answered(
        self, source: str, url: str, *, status: int, retry_s: float | None, asked_s: float, now_s: float
    ) -> None:
        """Note an answer's status and Retry-After, to a request that was sent at ``asked_s``."""
        self._silent.forget(source)
        self._probes.forget(source)
        key = _key(url)
        if retry_s is None or not (status == _THROTTLED or status >= 500):
            self._urls.forget(key)
            if status < 400:
                self._well(source, asked_s, now_s)
            return
        until_s = now_s + min(retry_s, self._most_s)
        if until_s <= now_s:
            return
        self._urls.keep(key, _Held(status, now_s, until_s, until_s), until_s + _WINDOW_S)
        refused = _with(self._refused.get(source, now_s), key)
        self._refused.keep(source, refused, now_s + _WINDOW_S)
        speaks_for_all = status == _THROTTLED and not self._mistrusted.get(source, now_s)
        if speaks_for_all or len(refused) >= _SEVERAL:
            self._sources.keep(source, _Held(status, now_s, until_s, now_s + _PROBE_S), until_s)

    def _well(self, source: str, asked_s: float, now_s: float) -> None:
        """A good answer ends what is held of the source as a whole, if it was asked for since."""
        self._refused.forget(source)
        held = self._sources.get(source, now_s)
        if held is not None and asked_s >= held.begun_s:
            self._sources.forget(source)
            self._mistrusted.keep(source, True, now_s + _MISTRUST_S)

    def timed_out(self, source: str, url: str, now_s: float) -> None:
        """Note that no head came in time."""
        self._silent.keep(source, _with(self._silent.get(source, now_s), _key(url)), now_s + _SILENCE_S)

    def is_silent(self, source: str, now_s: float) -> bool:
        """Whether no URL of the source gave anything, so that clients need not wait; False for the probe."""
        if len(self._silent.get(source, now_s) or ()) < _SEVERAL:
            return False
        if self._probes.get(source, now_s):
            return True
        self._probes.keep(source, True, now_s + _PROBE_ANSWER_S)
        return False


def _with(keys: frozenset[bytes] | None, key: bytes) -> frozenset[bytes]:
    """``keys`` and one more, if there are not several yet."""
    known = keys or frozenset()
    return known if len(known) >= _SEVERAL else known | {key}


def _key(url: str) -> bytes:
    """What stands for a URL: URLs are long, and hold tokens."""
    return hashlib.sha256(url.encode("utf-8", "surrogateescape")).digest()[:16]
