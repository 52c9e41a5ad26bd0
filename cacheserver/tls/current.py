"""The pair that the TLS listeners serve now: taken at the start, on a reload, and when its files are replaced.

Owns: what is served, what of the files is refused and why, and telling it once. State changes on the loop alone; files
are read in a thread. A replacement that is worse than what is served (unusable, out of time, without a name) is
refused; at the start, when there is nothing better, a pair with such a fault is served with a warning.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cacheserver.core.errors import ConfigError
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock
from cacheserver.tls.checks import Fault, faults
from cacheserver.tls.names import certificate_name
from cacheserver.tls.options import TlsOptions
from cacheserver.tls.pair import Pair, Signature, hand_over, key_is_exposed, policy_context, read_pair, signature_of

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Refused:
    """Files that cannot be taken, and why."""

    signature: Signature
    reason: str


class CurrentCertificate:
    """What is served, or nothing while no listener speaks TLS. ``show`` gets name and end (Unix time) of each pair."""

    def __init__(self, *, clock: Clock, show: Callable[[str, float], None]) -> None:
        self._clock = clock
        self._show = show
        self._options = TlsOptions()
        self._context: ssl.SSLContext | None = None
        self._pair: Pair | None = None
        self._pending: _Refused | None = None
        self._told: _Refused | None = None
        self._warned: frozenset[str] = frozenset()

    def open(self, options: TlsOptions) -> ssl.SSLContext:
        """The context for listeners, with the pair of ``options``.

        ConfigError where none is set or its key is exposed. Any other that cannot be used is told, and no handshake
        succeeds before it can: a failed renewal must not take plain HTTP with it.
        """
        self._options, self._context = options, policy_context()
        try:
            self.take(options, read_pair(options))
        except ConfigError as exc:
            if not (options.certificate and options.key) or key_is_exposed(options.key):
                raise
            self._tell(_Refused(signature_of(options), str(exc)))
        return self._context

    def prepare(self, options: TlsOptions) -> Pair | None:
        """What ``take`` needs for a reload. ConfigError where the pair of ``options`` must not replace the current."""
        if self._context is None:
            return None
        same = (options.certificate, options.key) == (self._options.certificate, self._options.key)
        if same and self._pair is not None and signature_of(options) == self._pair.signature:
            return self._pair
        try:
            pair = read_pair(options)
            self._refuse_worse(options, pair)
        except ConfigError as exc:
            self._tell(_Refused(signature_of(options), str(exc)))
            raise
        return pair

    def take(self, options: TlsOptions, pair: Pair | None) -> None:
        """Serve ``pair`` from now on; None: TLS is off."""
        self._options = options
        if pair is None or self._context is None:
            return
        self._pending = self._told = None
        if pair is not self._pair:
            self._pair = pair
            self._warned = frozenset()
            hand_over(self._context, pair)
            facts = pair.facts.plain(self._clock.wall_s())
            event(_log, "certificate_loaded", file=options.certificate, **facts)
        self._show(os.path.basename(options.certificate), pair.facts.not_after_s)
        self._warn()

    async def watch(self) -> None:
        """Look at the files every ``check_s`` and take up replaced ones, until cancelled."""
        while True:
            await asyncio.sleep(self._options.check_s)
            await self.check()

    async def check(self) -> None:
        """Look once. A fault is told when it is still there at the next look: two files are not replaced at once."""
        options, pair = self._options, self._pair
        if self._context is None:
            return
        found = await asyncio.to_thread(_look, options, pair.signature if pair is not None else None)
        if self._options is not options or self._pair is not pair:
            return  # a reload came in between
        if isinstance(found, Pair):
            try:
                self._refuse_worse(options, found)
            except ConfigError as exc:
                found = _Refused(found.signature, str(exc))
            else:
                self.take(options, found)
                return
        if found is None:
            self._told = None
        elif found == self._pending:
            self._tell(found)
        self._pending = found
        self._warn()

    def _refuse_worse(self, options: TlsOptions, new: Pair) -> None:
        """ConfigError where ``new`` has a kind of fault that what is served now does not have."""
        served = {fault.kind for fault in self._faults(options, self._pair)} if self._pair is not None else set()
        worse = [fault for fault in self._faults(options, new) if fault.kind not in served]
        if worse:
            raise ConfigError(worse[0].text, where=ascii(options.certificate)[1:-1], key="tls.certificate")

    def _faults(self, options: TlsOptions, pair: Pair) -> tuple[Fault, ...]:
        names = [certificate_name(name) for name in options.names]
        return faults(pair.facts, names=names, now_s=self._clock.wall_s())

    def _tell(self, refused: _Refused) -> None:
        if refused != self._told:
            self._told = refused
            kept = "" if self._pair is None else self._pair.facts.fingerprint
            event(_log, "certificate_refused", severity=logging.ERROR, reason=refused.reason, kept=kept)

    def _warn(self) -> None:
        """One line for each kind of fault that the served pair has."""
        if self._pair is None:
            return
        for fault in self._faults(self._options, self._pair):
            if fault.kind not in self._warned:
                self._warned |= {fault.kind}
                event(_log, "certificate_warning", severity=logging.WARNING, reason=fault.text)

    def status(self) -> dict[str, Any] | None:
        """Facts of what is served, its faults, and why the files of now are not taken; None without TLS."""
        if self._context is None:
            return None
        return {
            "file": self._options.certificate,
            **({} if self._pair is None else self._pair.facts.plain(self._clock.wall_s())),
            "warnings": [] if self._pair is None else [fault.text for fault in self._faults(self._options, self._pair)],
            "refused": None if self._told is None else self._told.reason,
        }


def _look(options: TlsOptions, known: Signature | None) -> Pair | _Refused | None:
    """The pair that the files hold now, why there is none, or None when they are what is served. Runs in a thread."""
    signature = signature_of(options)
    if signature == known:
        return None
    try:
        return read_pair(options)
    except ConfigError as exc:
        return _Refused(signature, str(exc))
    except Exception as exc:  # nothing that somebody writes into these files may end the watch
        return _Refused(signature, f"{ascii(options.certificate)[1:-1]}: cannot be used ({type(exc).__name__})")
