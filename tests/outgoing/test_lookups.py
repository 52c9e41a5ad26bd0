"""Which look-up is used, what the machine's files say, and what a name server that is silent costs."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, cast

import aiodns
import pycares
import pytest

from cacheserver.outgoing import lookups as module
from cacheserver.outgoing.dns import DnsLookup
from cacheserver.outgoing.lookups import Lookups, SystemLookup
from cacheserver.outgoing.name_service import beyond_dns
from cacheserver.outgoing.resolver import Found


@pytest.mark.parametrize(
    ("nsswitch", "gai", "plain"),
    [
        ("", "", True),
        ("hosts: files dns\n", "", True),
        ("# hosts: nis\npasswd: files sss\n  hosts:\tfiles   dns # as shipped\n", "# precedence ::1/128 50\n", True),
        ("hosts: files dns\n", "reload yes\n", True),
        ("hosts: files mdns4_minimal [NOTFOUND=return] dns\n", "", False),
        ("hosts: files resolve [!UNAVAIL=return] dns\n", "", False),
        ("hosts: files dns myhostname\n", "", False),
        ("hosts: files [NOTFOUND=return] dns\n", "", False),
        ("hosts: files[NOTFOUND=return]dns\n", "", False),
        ("hosts: dns files\n", "", False),
        ("hosts: files\n", "", False),
        ("hosts: files dns\n", "precedence ::ffff:0:0/96  100\n", False),
        ("hosts: files dns\n", "label 2002::/16 2\n", False),
    ],
)
def test_a_library_is_right_where_files_and_dns_are_all_there_is(nsswitch: str, gai: str, plain: bool) -> None:
    assert bool(beyond_dns(nsswitch, gai)) is not plain


def etc(folder: Path, hosts: str) -> Path:
    (folder / "nsswitch.conf").write_text(f"hosts: {hosts}\n")
    return folder


@pytest.mark.parametrize(
    ("kind", "hosts", "library"),
    [
        ("auto", "files dns", True),
        ("auto", "files dns nis", False),
        ("dns", "files dns nis", True),
        ("system", "files dns", False),
    ],
)
async def test_the_setting_chooses_the_look_up(
    tmp_path: Path, kind: Literal["auto", "dns", "system"], hosts: str, library: bool
) -> None:
    lookups = Lookups(kind, etc=etc(tmp_path, hosts))
    found = await lookups("localhost")
    assert isinstance(found, Found) is library
    assert "127.0.0.1" in (found.addresses if isinstance(found, Found) else found)
    await lookups.close()


async def test_without_the_library_the_system_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_arguments: object, **_named: object) -> None:
        raise pycares.AresError("no descriptor is left")

    monkeypatch.setattr(pycares, "Channel", failing)
    lookups = Lookups("dns", etc=etc(tmp_path, "files dns"))
    found = await lookups("localhost")
    assert not isinstance(found, Found)
    assert "127.0.0.1" in found
    await lookups.close()


async def test_the_choice_is_made_anew_when_the_machines_files_change(tmp_path: Path) -> None:
    lookups = Lookups("auto", etc=etc(tmp_path, "files dns"))
    assert isinstance(await lookups("localhost"), Found)
    etc(tmp_path, "files dns myhostname")
    assert not isinstance(await lookups("localhost"), Found)
    await lookups.close()


async def test_silent_names_leave_threads_to_names_that_were_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, all_strangers, asked = asyncio.Event(), asyncio.Event(), 0

    async def detached(host: str) -> tuple[str, ...]:
        nonlocal asked
        asked += 1
        if asked == 25:
            all_strangers.set()
        if host.startswith("silent"):
            await answered.wait()
        return ("8.8.8.8",)

    monkeypatch.setattr(module, "detached_lookup", detached)
    lookup = SystemLookup()
    await lookup("known.example")
    silent = [asyncio.create_task(lookup(f"silent{number}.example")) for number in range(100)]
    async with asyncio.timeout(10):
        await all_strangers.wait()
        assert await lookup("known.example") == ("8.8.8.8",)
    assert asked == 26
    answered.set()
    assert await asyncio.gather(*silent) == [("8.8.8.8",)] * 100


# -- the library, and a name server -----------------------------------------------------------------------------------


class NameServer(asyncio.DatagramProtocol):
    """Has one A and one AAAA for every name; silent for the types in ``silent``; "no.…" does not exist."""

    def __init__(self, silent: tuple[int, ...]) -> None:
        self.silent = silent
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        """Names of questions."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        (kind,) = struct.unpack(">H", data[at + 1 : at + 3])
        self.asked.put_nowait(".".join(labels))
        if kind in self.silent:
            return
        packed = socket.inet_pton(socket.AF_INET, "8.8.8.8") if kind == 1 else socket.inet_pton(socket.AF_INET6, "::1")
        exists = labels[0] != "no"
        record = struct.pack(">HHHIH", 0xC00C, kind, 1, 7, len(packed)) + packed if exists else b""
        flags = 0x8180 if exists else 0x8183
        head = data[:2] + struct.pack(">HHHHH", flags, 1, exists, 0, 0)
        self.transport.sendto(head + data[12 : at + 5] + record, address)


@asynccontextmanager
async def asking(*silent: int) -> AsyncIterator[tuple[DnsLookup, NameServer]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(silent), local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    lookup = DnsLookup(aiodns.DNSResolver(nameservers=[f"127.0.0.1:{port}"], domains=["site.test"]))
    try:
        yield lookup, server
    finally:
        await lookup.close()
        transport.close()


async def test_both_families_are_found_with_their_lifetime() -> None:
    async with asking() as (lookup, _server):
        found = await lookup("a.example")
    assert set(found.addresses) == {"8.8.8.8", "::1"}
    assert 6 <= found.ttl_s <= 7


async def test_the_search_list_counts() -> None:
    async with asking() as (lookup, server):
        await lookup("short")
    assert {server.asked.get_nowait() for _ in range(server.asked.qsize())} == {"short.site.test"}


@pytest.mark.parametrize(("silent", "address"), [(28, "8.8.8.8"), (1, "::1")])
async def test_one_family_is_enough_where_the_other_is_silent(silent: int, address: str) -> None:
    async with asking(silent) as (lookup, _server):
        async with asyncio.timeout(4):
            found = await lookup("a.example")
        assert found.addresses == (address,)
        assert found.ttl_s <= 7


async def test_a_name_that_does_not_exist_is_certain_not_to() -> None:
    async with asking() as (lookup, _server):
        with pytest.raises(socket.gaierror) as caught:
            await lookup("no.example")
    assert caught.value.errno == socket.EAI_NONAME


async def test_many_silent_names_cost_a_healthy_one_nothing() -> None:
    async with asking() as (lookup, server):
        server.silent = (1, 28)
        silent = [asyncio.create_task(lookup(f"s{number}.example")) for number in range(160)]
        async with asyncio.timeout(20):
            names: set[str] = set()
            while len(names) < 160:
                names.add(await server.asked.get())
        server.silent = ()
        async with asyncio.timeout(2):
            assert "8.8.8.8" in (await lookup("a.example")).addresses
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
