"""Who listens on which TCP port of this machine, from /proc.

Owns: reading /proc/net/tcp, /proc/net/tcp6 and the descriptors of processes. Leaves out what it may not read: without
root the descriptors of other users' processes are hidden, their sockets and user ids are not. Blocking.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_LISTEN: Final = "0A"


@dataclass(frozen=True, slots=True)
class Process:
    """A process and its command line."""

    pid: int
    uid: int
    command: tuple[str, ...]

    @property
    def is_node(self) -> bool:
        """Whether this is a node of ours."""
        return "serve" in self.command and any("cacheserver" in word for word in self.command[:4])

    @property
    def shown(self) -> str:
        """Name and number."""
        name = os.path.basename(self.command[0]) if self.command else "a process"
        return f"{'cacheserver' if self.is_node else name} (pid {self.pid}, user {user_name(self.uid)})"


@dataclass(frozen=True, slots=True)
class Listening:
    """A listening socket; ``owners`` is empty where they may not be seen."""

    address: str
    port: int
    uid: int
    owners: tuple[Process, ...] = ()


def user_name(uid: int) -> str:
    """The name of a user, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def listening(ports: set[int]) -> list[Listening]:
    """The listening sockets on these ports, with the processes that hold them."""
    sockets = [row for name in ("tcp", "tcp6") for row in _rows(name) if row[1] in ports]
    holders = _holders({inode for *_, inode in sockets})
    return [
        Listening(address, port, uid, tuple(holders[inode].values())) for address, port, uid, inode in sorted(sockets)
    ]


def covers(listener: Listening, host: str, port: int) -> bool:
    """Whether a listener takes connections that one on ``host`` and ``port`` would want."""
    if listener.port != port:
        return False
    wild = ("0.0.0.0", "::")
    return listener.address == host.partition("%")[0] or listener.address in wild or host in wild


def descriptor_limit(pid: int) -> tuple[int, int] | None:
    """Soft and hard limit of a process's descriptors, -1 for no limit; None where they may not be read."""
    try:
        return resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except OSError:
        return None


def _rows(name: str) -> Iterator[tuple[str, int, int, int]]:
    """Address, port, user and inode of the listening sockets in one table."""
    try:
        lines = (PROC / "net" / name).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        columns = line.split()
        if len(columns) > 9 and columns[3] == _LISTEN:
            address, _, port = columns[1].partition(":")
            yield _address(address), int(port, 16), int(columns[7]), int(columns[9])


def _address(text: str) -> str:
    """The kernel prints addresses as 32-bit words in the machine's byte order."""
    raw = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    return str(IPv4Address(raw)) if len(raw) == 4 else str(IPv6Address(raw))


def _process(pid: int) -> Process:
    """Raises OSError where the process is gone or hidden."""
    words = (PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    return Process(pid, (PROC / str(pid)).stat().st_uid, tuple(word for word in words if word))


def _holders(inodes: set[int]) -> dict[int, dict[int, Process]]:
    """The processes that hold each socket, by process id."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found: dict[int, dict[int, Process]] = defaultdict(dict)
    for pid in filter(str.isdigit, os.listdir(PROC)) if wanted else ():
        with contextlib.suppress(OSError), os.scandir(f"{PROC}/{pid}/fd") as descriptors:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    if (inode := wanted.get(os.readlink(descriptor))) is not None:
                        found[inode][int(pid)] = _process(int(pid))
    return found
