"""Addresses with a zone: what sockets are bound to, and how they are shown."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from cacheserver.doctor.processes import Listening, covers
from cacheserver.node import listeners
from cacheserver.system.zones import own_address_text, socket_address

LOOPBACK = socket.if_nametoindex("lo")


def shown(*name: Any) -> str:
    return own_address_text(SimpleNamespace(getsockname=lambda: name))  # type: ignore[arg-type]


def test_a_zone_is_the_number_of_its_interface() -> None:
    assert socket_address("fe80::5%lo", 80) == ("fe80::5", 80, 0, LOOPBACK)
    assert socket_address("::1", 80) == ("::1", 80, 0, 0)
    assert socket_address("127.0.0.1", 80) == ("127.0.0.1", 80)
    assert socket_address("localhost", 80) is None
    with pytest.raises(OSError, match="not known"):
        socket_address("fe80::5%none", 80)


def test_a_zone_is_shown_by_its_name() -> None:
    assert shown("fe80::5", 80, 0, LOOPBACK) == "[fe80::5%lo]:80"
    assert shown("fe80::5", 80, 0, 1 << 30) == "[fe80::5]:80", "the interface has gone"
    assert shown("::1", 80, 0, 0) == "[::1]:80"
    assert shown("127.0.0.1", 80) == "127.0.0.1:80"


async def test_the_node_binds_to_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def bound_to(*arguments: Any) -> Any:
        asked.append(arguments[3])

    monkeypatch.setattr(listeners, "_bound_to", bound_to)
    await listeners._bound(["[fe80::5%lo]:80", "127.0.0.1:80"])
    assert asked == [("fe80::5", 80, 0, LOOPBACK), ("127.0.0.1", 80)]


def test_the_doctor_finds_the_listener_of_a_zone() -> None:
    listener = Listening(address="fe80::5", port=80, uid=0, owners=())
    assert covers(listener, "fe80::5%lo", 80)
    assert not covers(listener, "fe80::6%lo", 80)
