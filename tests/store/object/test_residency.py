"""Cold bytes of a file: the probe sees them, the threads bring them in, and those threads give way."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cacheserver.store.object.residency import left_as_it_was, read_through, reading_threads, resident
from tests.support.content import blob

MIB = 1 << 20
BODY = blob(77, 3 * MIB)


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[int]:
    """A file of which nothing is in memory."""
    fd = os.open(tmp_path / "body", os.O_RDWR | os.O_CREAT)
    os.write(fd, BODY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if at_once(fd, MIB, 1):
        os.close(fd)
        pytest.skip("this file system keeps its pages in memory")
    yield fd
    os.close(fd)


def at_once(fd: int, start: int, length: int) -> bool:
    """Whether every byte can be read without waiting for a disk."""
    try:
        return os.preadv(fd, [bytearray(length)], start, os.RWF_NOWAIT) == length
    except BlockingIOError:
        return False


def test_a_cold_span_is_seen_as_cold_and_after_reading_all_of_it_is_in_memory(cold: int) -> None:
    assert not resident(cold, 0, 2 * MIB)
    read_through(cold, 0, 2 * MIB)
    assert resident(cold, 0, 2 * MIB)
    assert at_once(cold, 0, 2 * MIB)


def test_bytes_that_were_cold_are_cold_again_and_others_stay(cold: int) -> None:
    with left_as_it_was(cold, 0, MIB):
        read_through(cold, 0, MIB)
        assert at_once(cold, 0, MIB)
    assert not at_once(cold, 0, MIB)
    read_through(cold, 0, MIB)
    with left_as_it_was(cold, 0, MIB):
        pass
    assert at_once(cold, 0, MIB)


def test_a_file_system_without_splice_is_read_all_the_same(cold: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: Any) -> int:
        raise OSError(errno.EINVAL, "no splice here")

    monkeypatch.setattr(os, "sendfile", unknown)
    monkeypatch.setattr(os, "posix_fadvise", unknown)
    read_through(cold, 0, 2 * MIB)
    assert at_once(cold, 0, 2 * MIB)


@pytest.mark.parametrize("code", [errno.EIO, errno.EBADF])
def test_a_disk_that_fails_ends_the_reading_without_a_fault(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    calls = []

    def failing(*args: Any) -> int:
        calls.append(args)
        raise OSError(code, "failed")

    monkeypatch.setattr(os, "sendfile", failing)
    read_through(-1, 0, 10)
    assert len(calls) == 1


def test_reading_ends_where_the_file_ends(cold: int) -> None:
    read_through(cold, 0, 10 * MIB)
    assert at_once(cold, 0, 3 * MIB)


def test_the_reading_threads_are_nicer_than_the_thread_of_the_loop() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    with reading_threads(1) as threads:
        theirs = threads.submit(os.getpriority, os.PRIO_PROCESS, 0).result(10)
        assert threads.submit(threading.get_native_id).result(10) != threading.get_native_id()
    assert theirs == min(19, mine + 10)
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine


@pytest.mark.parametrize("last", [0, MIB // 4, MIB // 2 - 1], ids=["begin", "middle", "end"])
def test_a_span_is_cold_where_its_begin_its_middle_or_its_end_is(cold: int, last: int) -> None:
    os.posix_fadvise(cold, 0, 0, os.POSIX_FADV_RANDOM)
    for place in {0, MIB // 4, MIB // 2 - 1} - {last}:
        os.pread(cold, 1, place)
    assert not resident(cold, 0, MIB // 2)
    os.pread(cold, 1, last)
    assert resident(cold, 0, MIB // 2)


def test_only_the_bytes_in_hand_are_taken_out_of_memory(cold: int) -> None:
    quarter = MIB // 4
    read_through(cold, 2 * quarter, 3 * quarter)
    with left_as_it_was(cold, quarter, 2 * quarter):
        read_through(cold, quarter, 2 * quarter)
    assert not at_once(cold, quarter, quarter)
    assert at_once(cold, 2 * quarter, quarter)


def test_reading_goes_on_where_a_part_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def part(_out: int, _fd: int, offset: int, count: int) -> int:
        calls.append((offset, count))
        return min(count, 1000)

    monkeypatch.setattr(os, "sendfile", part)
    read_through(-1, 5, 2505)
    assert calls == [(5, 2500), (1005, 1500), (2005, 500)]
