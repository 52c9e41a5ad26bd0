"""Listening sockets that the service manager opened before the node began (socket activation, sd_listen_fds(3)).

Owns: finding them by ``LISTEN_PID``, ``LISTEN_FDS`` and ``LISTEN_FDNAMES``, and refusing what is no listening TCP
socket. A node that gets its sockets needs no right to bind low ports, and clients that come while it restarts wait in
the socket's queue. Must not open or answer anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

from cacheserver.core.errors import ConfigError
from cacheserver.core.units import is_loopback
from cacheserver.logs.events import printable

FIRST_FD: Final = 3
KINDS: Final = ("content", "tls", "admin")
"""What ``FileDescriptorName=`` of a socket unit may say."""
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_WHERE: Final = "LISTEN_FDS"


@dataclass(frozen=True, slots=True)
class Inherited:
    """Sockets by listener; each kind that has any takes the place of the addresses in the settings."""

    content: tuple[socket.socket, ...] = ()
    tls: tuple[socket.socket, ...] = ()
    admin: tuple[socket.socket, ...] = ()

    def reaches_admin_from_outside(self) -> bool:
        """Whether an admin socket is bound to anything but loopback."""
        return any(not is_loopback(sock.getsockname()[0]) for sock in self.admin)


def take_inherited(environ: MutableMapping[str, str], *, first_fd: int = FIRST_FD) -> Inherited:
    """The sockets that ``environ`` tells of, from descriptor ``first_fd`` on; its variables are taken out.

    Variables that are for another process count as none. Raises ConfigError for a number that is none, a name that is
    not in ``KINDS``, and a descriptor that is not a listening TCP socket.
    """
    for_pid, count_text, names_text = (environ.pop(name, "") for name in _VARIABLES)
    if not count_text or for_pid != str(os.getpid()):
        return Inherited()
    if not (count_text.isascii() and count_text.isdecimal()) or int(count_text) > 1024:
        raise ConfigError(f"{printable(count_text, 40)} is not a number of sockets", where=_WHERE)
    count = int(count_text)
    names = names_text.split(":") if names_text else []
    if len(names) != count:
        raise ConfigError(f"{count} sockets with {len(names)} names; set FileDescriptorName=", where=_WHERE)
    found: dict[str, tuple[socket.socket, ...]] = {}
    for fd, name in enumerate(names, start=first_fd):
        if name not in KINDS:
            allowed = ", ".join(KINDS)
            raise ConfigError(f"a socket is named {printable(name, 80)}; FileDescriptorName= may be {allowed}")
        found[name] = (*found.get(name, ()), _listening(fd, name))
    return Inherited(**found)


def _listening(fd: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        raise ConfigError(f"descriptor {fd} ({name}) is no socket: {exc.strerror}", where=_WHERE) from exc
    right = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not right or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ConfigError(f"descriptor {fd} ({name}) is not a listening TCP socket", where=_WHERE)
    sock.setblocking(False)
    return sock
