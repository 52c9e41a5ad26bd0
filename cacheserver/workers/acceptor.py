"""Accepting connections by hand, so that each can be given to any process of the node.

Owns: listening sockets and what happens when descriptors run out. The kernel's own way to share a port
(``SO_REUSEPORT``) would lose the connections that wait for a worker which dies, and balances only by chance.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

_CONNECTIONS_A_TURN = 64
_REFUSALS_A_TURN = 1024
_PAUSE_S = 0.2
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Accepts from one listening socket. ``take`` owns each socket it is given."""

    def __init__(self, sock: socket.socket, take: Callable[[socket.socket], None]) -> None:
        self._sock = sock
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        """Given up for a moment when no other descriptor is free, so that clients can be refused."""
        self._loop.add_reader(sock, self._accept)

    def _accept(self) -> None:
        for _ in range(_CONNECTIONS_A_TURN):
            try:
                sock, _address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in _EXHAUSTED:
                    self._rest()
                    return
                continue  # a client that has gone again
            sock.setblocking(False)
            self._take(sock)

    def _rest(self) -> None:
        """No descriptor is free: refuse those who wait, and look again in a moment."""
        os.close(self._spare_fd)
        for _ in range(_REFUSALS_A_TURN):
            try:
                self._sock.accept()[0].close()
            except OSError:
                break
        self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Take no more clients."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        os.close(self._spare_fd)
