"""Which look-up finds a name's addresses: a DNS library, or the system's resolver in threads.

Owns: that choice, made anew when the machine's configuration changes, and how many of the system's look-ups run at
once. Must not remember answers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final, Literal

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.outgoing.dns import DnsLookup
from cacheserver.outgoing.name_service import beyond_dns
from cacheserver.outgoing.resolver import Found, detached_lookup

_ETC: Final = Path("/etc")
_FILES: Final = ("nsswitch.conf", "gai.conf", "resolv.conf", "hosts")
_THREADS: Final = 32
_FOR_STRANGERS: Final = 24
"""Threads for names that were never found: silent ones leave the others to those that were."""
_MAX_KNOWN: Final = 1024


class Lookups:
    """A ``Lookup`` by the setting ``upstream.resolver``; ``etc`` holds the machine's configuration."""

    def __init__(self, kind: Literal["auto", "dns", "system"], *, etc: Path = _ETC) -> None:
        self._kind = kind
        self._etc = etc
        self._system = SystemLookup()
        self._dns: DnsLookup | None = None
        self._seen: tuple[tuple[int, int, int] | None, ...] | None = None

    async def __call__(self, host: str) -> Found | Sequence[str]:
        """All addresses of ``host`` in the order in which to try them. OSError, UnicodeError."""
        await self._look()
        return await (self._system if self._dns is None else self._dns)(host)

    async def close(self) -> None:
        """End the library's queries."""
        outdated, self._dns, self._seen = self._dns, None, None
        if outdated is not None:
            await outdated.close()

    async def _look(self) -> None:
        """Choose, when a file has changed since the last look-up: resolv.conf does where a machine moves."""
        seen = tuple(_state(self._etc / name) for name in _FILES)
        if seen == self._seen:
            return
        outdated, self._seen, self._dns = self._dns, seen, self._library()
        if outdated is not None:
            await outdated.close()

    def _library(self) -> DnsLookup | None:
        beyond = self._kind == "system"
        if self._kind == "auto":
            beyond = bool(beyond_dns(_text(self._etc / "nsswitch.conf"), _text(self._etc / "gai.conf")))
        try:
            return None if beyond else DnsLookup()
        except OSError:
            return None


class SystemLookup:
    """A ``Lookup`` by getaddrinfo, in at most 32 threads; names that were found before have some for themselves."""

    def __init__(self) -> None:
        self._threads = asyncio.Semaphore(_THREADS)
        self._strangers = asyncio.Semaphore(_FOR_STRANGERS)
        self._known = BoundedMemory[str, bool](_MAX_KNOWN)

    async def __call__(self, host: str) -> Sequence[str]:
        """All addresses that the system gives for ``host``, in its order; it does not say for how long they hold."""
        async with nullcontext() if self._known.get(host) else self._strangers, self._threads:
            found = await detached_lookup(host)
        self._known.keep(host, True)
        return found


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
