"""sd_notify and socket activation by their variables: what is taken, what is refused, what goes over the socket."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.system.socket_activation import Inherited, take_inherited
from cacheserver.system.systemd import Supervisor, take_supervisor

OWN_PID = str(os.getpid())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def received(manager: socket.socket) -> dict[str, str]:
    lines = manager.recv(4096).decode().split("\n")
    return dict(line.split("=", 1) for line in lines)


def test_ready_carries_one_status_line_whatever_is_in_it(manager: socket.socket) -> None:
    supervisor = Supervisor(manager.getsockname())
    supervisor.ready("fine\nSTOPPING=1")
    message = received(manager)
    assert message.keys() == {"READY", "STATUS"}
    assert message["READY"] == "1"
    supervisor.close()


def test_a_reload_is_dated_by_the_monotonic_clock(manager: socket.socket) -> None:
    supervisor = Supervisor(manager.getsockname())
    before = time.monotonic_ns() // 1000
    supervisor.reloading()
    message = received(manager)
    assert message["RELOADING"] == "1"
    assert before <= int(message["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    supervisor.close()


def test_stopping_asks_for_the_time_that_the_drain_may_take(manager: socket.socket) -> None:
    supervisor = Supervisor(manager.getsockname())
    supervisor.stopping(62.5)
    message = received(manager)
    assert (message["STOPPING"], message["EXTEND_TIMEOUT_USEC"]) == ("1", "62500000")
    supervisor.close()


def test_an_abstract_address_begins_with_a_null_byte() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0cacheserver-test-{OWN_PID}")
        sock.settimeout(5)
        supervisor = Supervisor(f"@cacheserver-test-{OWN_PID}")
        supervisor.ready("")
        assert received(sock)["READY"] == "1"
        supervisor.close()


async def test_a_supervisor_that_is_gone_or_deaf_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Supervisor(str(tmp_path / "nobody"), watchdog_s=0.02)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await gone.keep_alive()
    gone.ready("")
    assert [record.getMessage() for record in caplog.records].count("notify_failed") == 1
    gone.close()
    gone.close()


async def test_without_a_watchdog_nothing_is_pinged() -> None:
    async with asyncio.timeout(5):
        await Supervisor().keep_alive()
        await Supervisor("/nowhere").keep_alive()
    assert Supervisor(watchdog_s=5).watchdog_s == 0


def test_variables_are_taken_out_so_that_no_child_answers_for_the_node() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "2500000",
        "WATCHDOG_PID": OWN_PID,
        "LISTEN_PID": OWN_PID,
        "LISTEN_FDS": "0",
        "PATH": "/bin",
    }
    assert take_supervisor(environ).watchdog_s == 2.5
    assert take_inherited(environ) == Inherited()
    assert environ == {"PATH": "/bin"}


def test_a_watchdog_of_another_process_is_none_of_ours() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}
    assert take_supervisor(environ).watchdog_s == 0


@pytest.mark.parametrize("address", ["relative", "@", "vsock:2:9", "/"])
def test_an_address_of_another_kind_is_one_clear_line(address: str) -> None:
    with pytest.raises(ConfigError, match=r"\ANOTIFY_SOCKET: .* is neither a path nor an abstract socket\Z"):
        take_supervisor({"NOTIFY_SOCKET": address})


@pytest.mark.parametrize("interval", ["0", "-1", "1.5", "soon", "٣", "9" * 30])
def test_a_watchdog_interval_that_is_no_number_is_one_clear_line(interval: str) -> None:
    with pytest.raises(ConfigError, match=r"\AWATCHDOG_USEC: .* is not a number of microseconds\Z"):
        take_supervisor({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": interval})


# -- socket activation ------------------------------------------------------------------------------------------


def passed(sock: socket.socket, names: str = "content", count: str = "1") -> Inherited:
    """What the node takes of ``sock``, as if it had been passed as the first descriptor."""
    environ = {"LISTEN_PID": OWN_PID, "LISTEN_FDS": count, "LISTEN_FDNAMES": names}
    return take_inherited(environ, first_fd=sock.detach())


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("kind", ["content", "tls", "admin"])
def test_a_listening_socket_is_taken_by_its_name_and_kept_from_children(kind: str) -> None:
    sock = listening()
    os.set_inheritable(sock.fileno(), True)
    (taken,) = getattr(passed(sock, kind), kind)
    assert (taken.get_inheritable(), taken.getblocking()) == (False, False)
    taken.close()


def test_sockets_for_another_process_are_none_of_ours() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "content"}
    assert take_inherited(environ) == Inherited()


@pytest.mark.parametrize(
    ("count", "names", "message"),
    [
        ("one", "content", "is not a number of sockets"),
        ("9999", "content", "is not a number of sockets"),
        ("2", "content", "2 sockets with 1 names"),
        ("1", "", "1 sockets with 0 names"),
        ("1", "cacheserver.socket", "a socket is named cacheserver.socket; .* content, tls, admin"),
    ],
)
def test_variables_that_contradict_themselves_are_one_clear_line(count: str, names: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        take_inherited({"LISTEN_PID": OWN_PID, "LISTEN_FDS": count, "LISTEN_FDNAMES": names}, first_fd=10_000)


def test_what_is_no_listening_tcp_socket_is_refused(tmp_path: Path) -> None:
    idle = socket.socket()
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "sock"))
    unix.listen()
    for sock in (idle, datagram, unix):
        fd = sock.fileno()
        with pytest.raises(ConfigError, match="is not a listening TCP socket"):
            passed(sock)
        os.close(fd)
    environ = {"LISTEN_PID": OWN_PID, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tls"}
    with (tmp_path / "file").open("wb") as file, pytest.raises(ConfigError, match=r"\(tls\) is no socket"):
        take_inherited(environ, first_fd=file.fileno())


def test_an_admin_socket_off_loopback_is_told_apart() -> None:
    inside = passed(listening(), "admin")
    outside = passed(socket.create_server(("0.0.0.0", 0)), "admin")
    assert (inside.reaches_admin_from_outside(), outside.reaches_admin_from_outside()) == (False, True)
    for sock in inside.admin + outside.admin:
        sock.close()
