"""The access log: every answer, no query, no control character, and never in the way."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.core.request.client import Client
from cacheserver.logs.access_json import AccessLogLines
from cacheserver.logs.writer import LineWriter
from tests.support.access import WrittenLog
from tests.support.answers import answer

NASTY = "a\nb\r\x00\x1b[31m\x7f\x85\u2028\u202e\u200b\udcff\U0001f600é"


def parsed(line: str | bytes) -> dict[str, Any]:
    text = line if isinstance(line, str) else line.decode("ascii")
    assert text.isascii()
    assert text.isprintable()
    value: dict[str, Any] = json.loads(text)
    return value


def add(access: AccessLogLines, **changes: Any) -> None:
    values: dict[str, Any] = {
        "client": Client("192.0.2.7"),
        "method": "GET",
        "form": "cache-host",
        "service": "windows-update",
        "host": "dl.delivery.mp.microsoft.com",
        "path": "/files/abc?P1=1&P4=secret",
        "status": 206,
        "body_bytes": 1_048_576,
        "duration_s": 0.01234567,
        "outcome": "hit",
        "cache_status": "cacheserver; hit",
        "range": "bytes=0-1048575",
        "user_agent": "Microsoft-Delivery-Optimization/10.0",
    }
    access.record(answer(**{**values, **changes}))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [parsed(line) for line in path.read_bytes().splitlines()]


def test_access_line_has_every_member_and_no_query(tmp_path: Path) -> None:
    access = WrittenLog(str(tmp_path / "a"), wall_s=lambda: 1_700_000_000.25)
    add(access)
    access.close()
    assert lines_of(tmp_path / "a") == [
        {
            "ts": "2023-11-14T22:13:20.250Z",
            "client": "192.0.2.7",
            "method": "GET",
            "form": "cache-host",
            "service": "windows-update",
            "host": "dl.delivery.mp.microsoft.com",
            "path": "/files/abc",
            "status": 206,
            "bytes": 1_048_576,
            "duration_ms": 12.346,
            "outcome": "hit",
            "cache": "cacheserver; hit",
            "range": "bytes=0-1048575",
            "ua": "Microsoft-Delivery-Optimization/10.0",
        }
    ]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a?b", "/a"),
        ("/a#b?c", "/a"),
        ("/u@v/w", "/u@v/w"),
        ("http://user:secret@h/p?q", "http://h/p"),
        ("user:secret@h/p@q", "h/p@q"),
        ("http://h/p@q", "http://h/p@q"),
        ("?P4=x", ""),
        ("/" + "x" * 5000, "/" + "x" * 1023),
    ],
)
def test_path_is_bounded_and_without_query_and_user(target: str, path: str, tmp_path: Path) -> None:
    access = WrittenLog(str(tmp_path / "a"))
    add(access, path=target)
    access.close()
    assert lines_of(tmp_path / "a")[0]["path"] == path


def test_access_line_is_ascii_and_bounded_whatever_the_client_sent(tmp_path: Path) -> None:
    access = WrittenLog(str(tmp_path / "a"))
    for text in (NASTY, "\x7f", "é", "\ud800", "x" * 100_000):
        add(access, user_agent=text, path="/" + text, host=text, method=text, range=text)
    access.close()
    lines = lines_of(tmp_path / "a")
    assert lines[0]["ua"] == NASTY
    assert [line["ua"][:1] for line in lines] == ["a", "\x7f", "é", "\ud800", "x"]
    assert len(json.dumps(lines[4])) < 3000


async def test_lines_are_written_without_close_after_a_moment(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    access = WrittenLog(str(tmp_path / "fifo"))
    written = asyncio.Event()
    asyncio.get_running_loop().add_reader(reader, written.set)
    add(access, status=201)
    add(access, status=202)
    assert not written.is_set()
    await asyncio.wait_for(written.wait(), 10)
    asyncio.get_running_loop().remove_reader(reader)
    assert [parsed(line)["status"] for line in os.read(reader, 65_536).splitlines()] == [201, 202]
    access.close()
    os.close(reader)


def test_full_buffer_is_written_at_once(tmp_path: Path) -> None:
    access = WrittenLog(str(tmp_path / "a"))
    for _ in range(400):
        add(access)
    access.close()
    assert len(lines_of(tmp_path / "a")) == 400


def test_reopen_follows_a_rotation_and_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a"
    access = WrittenLog(str(path))
    add(access, status=200)
    access.flush()
    access.reopen()  # same name: appended
    add(access, status=206)
    access.flush()
    access.close()
    assert [line["status"] for line in lines_of(path)] == [200, 206]
    access = WrittenLog(str(path))
    path.rename(tmp_path / "a.1")
    add(access, status=404)
    access.reopen()
    add(access, status=500)
    access.close()
    assert [line["status"] for line in lines_of(tmp_path / "a.1")] == [200, 206, 404]
    assert [line["status"] for line in lines_of(path)] == [500]


def test_reopen_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    access = WrittenLog(str(folder / "a"))
    folder.rename(tmp_path / "gone")
    access.reopen()
    add(access)
    access.close()
    assert len(lines_of(tmp_path / "gone" / "a")) == 1


def test_disk_that_takes_nothing_never_raises() -> None:
    access = WrittenLog("/dev/full")
    for _ in range(1000):
        add(access)
    access.close()
    add(access)
    access.flush()
    assert access.writer.dropped == 1001


def test_line_that_a_disk_has_cut_ends_before_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.write, 0

    def failing(fd: int, data: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "")
        return real(fd, data[:7] if calls == 1 else data)

    monkeypatch.setattr(os, "write", failing)
    writer = LineWriter(str(tmp_path / "a"))
    for line in (b"first\nsecond\n", b"third\n"):
        writer.put(line, line.count(b"\n"))
    writer.close()
    assert (tmp_path / "a").read_bytes() == b"first\ns\nthird\n"
    assert writer.dropped == 1


def test_reader_that_stands_still_costs_lines_not_time_or_memory(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    access = WrittenLog(str(fifo))
    for _ in range(10_000):
        add(access, path="/" + "x" * 1000)
    assert access.writer.dropped > 0
    access.close(timeout_s=0.0)
    os.close(reader)  # the writer's thread wakes with EPIPE and ends


def test_file_that_cannot_be_opened_is_a_config_error(tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "no" / "a"), "a\0b"):
        with pytest.raises(ConfigError, match=r"log\.access_file"):
            LineWriter(path)
