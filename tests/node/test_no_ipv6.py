"""A kernel without IPv6: ``[::]`` beside another address is a word in the log, alone it is an error."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from cacheserver.node import listeners


@pytest.fixture(params=[errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL], ids=["no family", "no address"])
def no_ipv6(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 sockets cannot be made, or not be bound (``disable_ipv6``)."""

    def refuse() -> None:
        raise OSError(request.param, os.strerror(request.param))

    class Without(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **options: Any) -> None:
            if family == socket.AF_INET6 and request.param == errno.EAFNOSUPPORT:
                refuse()
            super().__init__(family, *args, **options)

        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6:
                refuse()
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Without)


@pytest.mark.usefixtures("no_ipv6")
async def test_the_other_address_is_served(caplog: pytest.LogCaptureFixture) -> None:
    sockets = await listeners._bound(["127.0.0.1:0", "[::]:0"])
    assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1"]
    assert [record.message for record in caplog.records] == ["address_skipped"]
    for sock in sockets:
        sock.close()


@pytest.mark.usefixtures("no_ipv6")
@pytest.mark.parametrize("addresses", [["[::]:0"], ["127.0.0.1:0", "[::1]:0"]], ids=["alone", "one"])
async def test_what_leaves_nothing_or_was_named_is_an_error(addresses: list[str]) -> None:
    with pytest.raises(OSError, match="cannot listen on"):
        await listeners._bound(addresses)


async def test_an_address_that_is_taken_is_an_error_with_ipv6_too() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="cannot listen on"):
            await listeners._bound([f"[::1]:{port}"])
