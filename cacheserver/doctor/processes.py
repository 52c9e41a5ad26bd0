"""Who listens on which TCP port of this machine, from /proc.

Owns: reading /proc/net/tcp, /proc/net/tcp6 and the descriptors of processes. What may not be read is left out: without
root the descriptors of other users' processes are hidden, their sockets and user ids are not. Blocking.
"""

from __future__ import annotations

import os
import pwd
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
        Listening(address, port, uid, tuple(holders.get(inode, ()))) for address, port, uid, inode in sorted(sockets)
    ]


def covers(listener: Listening, host: str, port: int) -> bool:
    """Whether a listener takes connections that one on ``host`` and ``port`` would want."""
    if listener.port != port:
        return False
    wild = ("0.0.0.0", "::")
    return listener.address == host or listener.address in wild or host in wild


def descriptor_limit(pid: int) -> tuple[int, int] | None:
    """Soft and hard limit of a process's descriptors; None where they may not be read."""
    try:
        text = (PROC / str(pid) / "limits").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Max open files"):
            soft, hard = line.split()[3:5]
            return _number(soft), _number(hard)
    return None


def _number(text: str) -> int:
    return 1 << 62 if text == "unlimited" else int(text)


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


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdigit()]
    except OSError:
        return []


def _process(pid: int) -> Process | None:
    try:
        uid = (PROC / str(pid)).stat().st_uid
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    words = raw.decode("utf-8", "replace").rstrip("\0").split("\0")
    return Process(pid, uid, tuple(word for word in words if word))


def _holders(inodes: set[int]) -> dict[int, list[Process]]:
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found: dict[int, list[Process]] = {}
    for pid in _pids() if wanted else ():
        held = {wanted[target] for target in _links(pid) if target in wanted}
        process = _process(pid) if held else None
        for inode in held if process is not None else ():
            assert process is not None
            found.setdefault(inode, []).append(process)
    return found


def _links(pid: int) -> Iterator[str]:
    folder = f"{PROC}/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"{folder}/{name}")
        except OSError:
            continue
