"""What a node answers, or whoever listens in its place, is one line and an exit code, within a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cacheserver.cli import main as cli
from cacheserver.cli.admin_client import AdminClient

URL = "http://a.example/x"
COMMANDS = (("health",), ("health", "--ready"), ("pins",), ("pin", URL), ("unpin", URL), ("purge", URL), ("scrub",))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def framed(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


ANSWERS = {
    "other members": framed(b'{"now": 5, "pins": {"a": 1}, "number": "x", "complete": 3, "ready": "no"}'),
    "a list": framed(b"[1]"),
    "deep": framed(b"[" * 100_000),
    "half": HEAD + b'Content-Length: 900\r\n\r\n{"status": "ok"',
    "latin-1": framed(b'{"status": "\xff"}'),
    "no http": b"220 mail\r\n",
    "nothing": b"",
    "refusal": b"HTTP/1.1 409 No\r\nContent-Length: 31\r\n\r\n" + b'{"error": "' + b"\\u001b" * 2 + b'0wned"}',
}


@contextmanager
def listener(answer: bytes, *, leave: bool = True) -> Iterator[str]:
    """Whoever connects gets ``answer``, and then the end, or with ``leave`` false one byte now and then."""
    over = threading.Event()

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                peer.recv(65_536)
                peer.sendall(answer)
                while not leave and not over.wait(0.05):
                    try:
                        peer.sendall(b" ")
                    except OSError:
                        break

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        host, port = server.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_whatever_is_answered_is_one_line(
    what: str, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with listener(ANSWERS[what]) as address:
        assert cli.run([*command, "--admin", address]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("cacheserver: error: ")
    assert captured.err.count("\n") == 1
    assert captured.err.rstrip("\n").isprintable()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_answer_that_only_drips_ends_in_time(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange = AdminClient._exchange

    def soon(client: AdminClient, method: str, path: str, _s: float, body: bytes | None) -> tuple[int, bytes]:
        return exchange(client, method, path, 0.3, body)

    monkeypatch.setattr(AdminClient, "_exchange", soon)
    with listener(HEAD + b"Content-Length: 100000\r\n\r\n{", leave=False) as address:
        assert cli.run([*command, "--admin", address]) == 1
    assert "no whole answer within 0.3 s" in capsys.readouterr().err


def test_a_node_that_does_not_answer_is_not_asked_for_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    with listener(b"") as address:
        assert cli.run(["purge", URL, URL, URL, "--admin", address]) == 1
    assert capsys.readouterr().err.count("\n") == 1
