"""Parts of the doctor that a lab cannot show: other users' sockets, odd dates, wildcards, threads that never end."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.units import Size
from cacheserver.doctor import dialer as dialer_module
from cacheserver.doctor import disks, machine, processes
from cacheserver.doctor.certificate import uncovered
from cacheserver.doctor.check import Check, named
from cacheserver.doctor.context import Context, DoctorOptions, Reply
from cacheserver.doctor.dialer import Dialer
from cacheserver.doctor.disks import volume_checks
from cacheserver.doctor.origins import clock_offset_s, is_portal
from cacheserver.doctor.processes import Listening, Process, covers, listening
from cacheserver.doctor.reach import is_local
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.shipped import load_shipped_services
from cacheserver.store.options import VolumeOptions
from cacheserver.tls.options import TlsOptions
from cacheserver.tls.pair import read_pair
from tests.doctor.lab import leaf_files
from tests.support.certificates import Authority


def test_a_line_is_one_line_whatever_was_found() -> None:
    line = Check("x", "fail", "a\nb", "\x1b[31m\u202e", "do\nthis").line()
    assert line.isprintable()
    assert line.isascii()


def test_long_lists_are_cut() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named(list("abcdef")) == "a, b, c, d and 2 more"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listeners_are_found_with_their_process(host: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        port = server.getsockname()[1]
        (found,) = listening({port})
    assert (found.address, found.port, found.uid) == (host, port, os.geteuid())
    assert [owner.pid for owner in found.owners] == [os.getpid()]
    assert not found.owners[0].is_node


@pytest.mark.parametrize(
    ("address", "host", "fits"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "192.0.2.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "192.0.2.1", False),
    ],
)
def test_listeners_cover_addresses(address: str, host: str, fits: bool) -> None:
    assert covers(Listening(address, 80, 0), host, 80) is fits
    assert not covers(Listening(address, 80, 0), host, 81)


@pytest.mark.parametrize(
    ("command", "is_node"),
    [
        (("python", "-m", "cacheserver", "serve"), True),
        (("/opt/bin/python3", "/opt/bin/cacheserver", "serve", "--config", "x"), True),
        (("python", "-m", "cacheserver", "doctor"), False),
        (("nginx", "serve"), False),
        ((), False),
    ],
)
def test_nodes_are_known_by_their_command_line(command: tuple[str, ...], is_node: bool) -> None:
    assert Process(1, 0, command).is_node is is_node


def test_descriptors_that_may_not_be_read_leave_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    row = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 4711 1 0 100 0"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address ...\n{row}\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert listening({8080}) == [Listening("127.0.0.1", 8080, 998, ())]
    assert processes.descriptor_limit(1 << 30) is None


@pytest.mark.parametrize(
    ("fields", "offset_s"),
    [
        ({"date": "Tue, 14 Nov 2023 22:13:20 GMT"}, 0.0),
        ({"date": "Tue, 14 Nov 2023 22:13:21 GMT"}, 0.0),
        ({"date": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60.0),
        ({"date": "Tue, 14 Nov 2023 21:13:20 GMT", "age": "3600"}, 0.0),
        ({"date": "Wed, 14 Nov 2018 22:13:20 GMT"}, -157_766_400.0),
        ({"date": "Tue, 14 Nov 2023 22:13:20 -0000"}, 0.0),
        ({"date": "nonsense"}, None),
        ({"date": "Tue, 14 Nov 2023 22:13:20 GMT", "age": "x"}, None),
        ({}, None),
    ],
)
def test_clock_is_read_from_date_and_age(fields: Mapping[str, str], offset_s: float | None) -> None:
    assert clock_offset_s(Reply(200, dict(fields), sent_s=1_700_000_000.0)) == offset_s


@pytest.mark.parametrize(
    ("status", "fields", "portal"),
    [
        (511, {}, True),
        (302, {"location": "http://login.example/"}, True),
        (302, {"location": "http://2.tlu.dl.delivery.mp.microsoft.com/x"}, False),
        (302, {"location": "/elsewhere"}, False),
        (302, {"location": "http://[bad/"}, True),
        (200, {"content-type": "text/html; charset=utf-8"}, True),
        (200, {"content-type": "image/gif"}, False),
        (404, {"content-type": "text/html"}, False),
    ],
)
def test_portals_are_told_from_origins(status: int, fields: dict[str, str], portal: bool) -> None:
    assert is_portal(Reply(status, fields), AllowList(load_shipped_services())) is portal


def test_wildcard_names_stand_for_one_label(tmp_path: Path) -> None:
    path = leaf_files(Authority(tmp_path), tmp_path, name="*.example.com")
    held = read_pair(TlsOptions(certificate=path, key=path)).facts.names
    assert uncovered(("Cache.example.com.",), held) == []
    assert uncovered(("a.cache.example.com", "example.com"), held) == ["a.cache.example.com", "example.com"]
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pair(TlsOptions(certificate=str(tmp_path / "none"), key=path))


def test_own_addresses_are_known() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")


@pytest.mark.parametrize(
    ("known", "name", "level"),
    [
        ({"online": False, "stored_bytes": 0}, "disk-errors", "fail"),
        ({"online": True, "stored_bytes": 0, "errors": 3}, "disk-errors", "warn"),
    ],
)
def test_what_the_node_counted_is_told(known: dict[str, object], name: str, level: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    checks = volume_checks(VolumeOptions(path=str(tmp_path), max_size=Size("1MiB")), os.geteuid(), known)
    assert [check.level for check in checks if check.name == name] == [level]


def test_volume_that_is_missing_or_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (check,) = volume_checks(VolumeOptions(path=str(tmp_path / "file")), None, None)
    assert (check.level, check.found) == ("fail", "is no directory")
    (check,) = volume_checks(VolumeOptions(path=str(tmp_path / "a" / "b")), None, None)
    assert (check.level, check.found) == ("warn", f"does not exist; the node makes it in {tmp_path}")


def test_sample_leaves_nothing_behind(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    checks = volume_checks(VolumeOptions(path=str(tmp_path), max_size=Size("1MiB")), os.geteuid(), None)
    assert "/s written" in next(check.found for check in checks if check.name == "disk-speed")
    assert list(tmp_path.iterdir()) == []


async def test_dialer_follows_connect_to_by_host_and_port() -> None:
    dialer = Dialer({"a.example": "127.0.0.1:1", "a.example:443": "127.0.0.1:2"})
    assert (await dialer.place("a.example", 80)).addresses == (("127.0.0.1", 1),)
    assert (await dialer.place("a.example", 443)).addresses == (("127.0.0.1", 2),)
    assert (await dialer.place("[::1]", 80)).addresses == (("::1", 80),)
    missing = await dialer.place("nowhere.invalid", 80)
    assert missing.error
    with pytest.raises(OSError):
        await dialer.resolve("nowhere.invalid", 80)
    await dialer.close()


async def test_dns_that_never_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_arguments: object) -> list[object]:
        release.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(dialer_module, "_LOOKUP_S", 0.05)
    dialer = Dialer({})
    assert (await dialer.place("slow.example", 80)).error == "no answer from DNS within 0.05 s"
    release.set()
    await dialer.close()


async def test_volume_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = threading.Event()

    def hang(*_arguments: object) -> list[Check]:
        release.wait(30)
        return []

    monkeypatch.setattr(disks, "volume_checks", hang)
    monkeypatch.setattr(disks, "_VOLUME_S", 0.05)
    settings = load_settings(None, Flags(cache_dir=str(tmp_path), admin_listen=""))
    (check,) = await disks.disk_checks(Context(settings, DoctorOptions(), time.time))
    release.set()
    assert (check.level, check.found) == ("fail", "hangs: no result within 0.05 s")


@pytest.mark.parametrize(("active", "part"), [("ufw", "ufw allow 8080/tcp"), ("firewalld", "--add-port=8080/tcp")])
async def test_firewall_hints_fit_the_firewall(active: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_active_firewall", lambda: active)
    context = Context(load_settings(None, Flags()), DoctorOptions(), time.time)
    (check,) = await machine.firewall_checks(context)
    assert part in check.advice
