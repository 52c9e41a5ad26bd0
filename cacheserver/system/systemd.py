"""What the node tells the program that looks after it (systemd and others): ready, reloading, stopping, alive.

Owns: sd_notify(3), which is one datagram per message to the socket that ``NOTIFY_SOCKET`` names, and the interval of
the watchdog (sd_watchdog_enabled(3)). Must not decide when the node is ready or whether it is well: the node says the
first, and the second is said by the event loop, which sends pings for as long as it turns.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from cacheserver.core.errors import ConfigError
from cacheserver.logs.events import event, get_logger, printable

_log = get_logger(__name__)
_USEC: Final = 1_000_000
_PATIENCE_S: Final = 1.0
"""How long a message that must arrive may wait for room in the receiver's queue."""
_STATUS_LENGTH: Final = 300
_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Supervisor:
    """The service manager at ``address``, a socket path, or ``@name`` for an abstract one; empty: nobody listens.

    ``watchdog_s``: it kills the node after so many seconds without a ping; 0: it does not. A message that cannot be
    sent is one event in the log and nothing else.
    """

    def __init__(self, address: str = "", *, watchdog_s: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s if address else 0.0
        self._socket: socket.socket | None = None
        self._failed = False

    def ready(self, status: str) -> None:
        """The node serves, or has done with a reload; ``status`` is a line for people."""
        self._send(f"READY=1\nSTATUS={printable(status, _STATUS_LENGTH)}", _PATIENCE_S)

    def reloading(self) -> None:
        """A reload begins now (CLOCK_MONOTONIC); ``ready`` ends it."""
        now_usec = time.monotonic_ns() // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_usec}\nSTATUS=reading the settings again", _PATIENCE_S)

    def stopping(self, within_s: float) -> None:
        """The node goes down and will have done so in ``within_s`` seconds."""
        status = f"STATUS=letting running answers end, for {within_s:g} s at most"
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(within_s * _USEC)}\n{status}", _PATIENCE_S)

    async def keep_alive(self) -> None:
        """Ping at half the watchdog's interval, for ever; returns at once where there is no watchdog."""
        while self.watchdog_s:
            self._send("WATCHDOG=1", 0.0)
            await asyncio.sleep(self.watchdog_s / 2)

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str, patience_s: float) -> None:
        if not self._address:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(patience_s)
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
            self._failed = False
        except OSError as exc:
            if not self._failed:
                reason = exc.strerror or "timed out"
                event(_log, "notify_failed", severity=logging.WARNING, reason=reason)
            self._failed = True


def take_supervisor(environ: MutableMapping[str, str]) -> Supervisor:
    """The supervisor that ``environ`` names; its variables are taken out, as they are for this process alone.

    Raises ConfigError for an address of another kind and for an interval that is no number.
    """
    address, interval, for_pid = (environ.pop(name, "") for name in _VARIABLES)
    if not address:
        return Supervisor()
    if address[0] not in "/@" or len(address) < 2:
        raise ConfigError(f"{printable(address, 80)} is neither a path nor an abstract socket", where="NOTIFY_SOCKET")
    if not interval or (for_pid and for_pid != str(os.getpid())):
        return Supervisor(address)
    if not (interval.isascii() and interval.isdecimal()) or not 0 < int(interval) < 1 << 63:
        raise ConfigError(f"{printable(interval, 40)} is not a number of microseconds", where="WATCHDOG_USEC")
    return Supervisor(address, watchdog_s=int(interval) / _USEC)
