"""Runs inside the node's process before anything of the node: notes what it does to the world outside.

Every audit event of the list that ``WATCH_EVENTS`` names becomes a JSON line of ``WATCH_FILE``. No connection leaves
the machine: one that is not to loopback is noted and refused here. Names are answered from the table in ``WATCH_DNS``
(host → answers, one after the other, the last one for ever), as uvloop asks the C library past every audit event.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from ipaddress import ip_address
from typing import Any

_Info = tuple[int, int, int, str, tuple[Any, ...]]

_out = os.open(os.environ["WATCH_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
_events = frozenset(os.environ["WATCH_EVENTS"].split(","))
_at = threading.local()
"""The folder of a name that is opened relative to a descriptor: the event does not tell it."""
_FOLDERS = {"os.remove": (1,), "os.mkdir": (2,), "os.rmdir": (1,), "os.rename": (2, 3), "os.link": (2, 3)}
"""Which arguments of an event are the descriptors of the folders of its names."""
_answers: dict[str, list[list[str]]] = json.loads(os.environ.get("WATCH_DNS", "{}"))


def _note(event: str, *facts: object) -> None:
    line = json.dumps([event, *(fact if isinstance(fact, str | int) else str(fact) for fact in facts)])
    os.write(_out, line.encode() + b"\n")


def _refuse_abroad(address: object) -> None:
    try:
        local = isinstance(address, tuple) and ip_address(str(address[0])).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConnectionRefusedError("the watch lets nothing leave the machine")


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event not in _events:
        return
    if event == "socket.connect":
        address = args[1]
        _note(event, *(address[:2] if isinstance(address, tuple) else (address,)))
        _refuse_abroad(address)
    elif event in ("socket.sendto", "socket.sendmsg"):
        _note(event, args[1])
    elif event == "open":
        name = os.fsdecode(args[0]) if isinstance(args[0], str | bytes) else args[0]
        _note(event, _whole(name, getattr(_at, "folder", -1)), args[2] or 0)
    elif event in _FOLDERS:
        _note(event, *(_whole(name, args[at]) for name, at in zip(args, _FOLDERS[event], strict=False)))
    else:
        _note(event, *args[:2])


def _whole(name: object, folder: int) -> object:
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), str(name)) if folder >= 0 else name


def _open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    _at.folder = -1 if dir_fd is None else dir_fd
    try:
        return _os_open(path, flags, mode, dir_fd=dir_fd)
    finally:
        _at.folder = -1


async def _of_loop(loop: asyncio.AbstractEventLoop, host: Any, port: Any, **_hints: Any) -> list[_Info]:
    return _getaddrinfo(host, port)


def _getaddrinfo(host: Any, port: Any, *_hints: Any, **_named: Any) -> list[_Info]:
    if _is_address(host):
        return [_info(str(host), int(port or 0))]
    _note("getaddrinfo", str(host))
    answers = _answers.get(str(host))
    if not answers:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    addresses = answers.pop(0) if len(answers) > 1 else answers[0]
    return [_info(address, int(port or 0)) for address in addresses]


def _is_address(host: object) -> bool:
    try:
        ip_address(str(host))
    except ValueError:
        return False
    return True


def _info(address: str, port: int) -> _Info:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 0, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port))


def _install() -> None:
    import uvloop

    setattr(uvloop.Loop, "getaddrinfo", _of_loop)  # noqa: B010 - it is declared as a method
    setattr(socket, "getaddrinfo", _getaddrinfo)  # noqa: B010 - it is declared as a function
    setattr(os, "open", _open)  # noqa: B010 - it is declared as a function
    sys.addaudithook(_audit)


_os_open = os.open
_install()
