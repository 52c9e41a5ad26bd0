"""A fault of a drive that lasts is shown as one that lasts, however often the drive is tried."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.store.volume import Volume
from tests.support.stored import HandClock, volume_at

IO_ERROR = DiskError("read", errno=errno.EIO)
FULL = DiskError("write", errno=errno.ENOSPC)
READ_ONLY = DiskError("write", errno=errno.EROFS)
QUOTA = DiskError("write", errno=errno.EDQUOT)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@contextmanager
def opened(path: Path, clock: HandClock) -> Iterator[Volume]:
    """A volume that two errors take offline."""
    volume = volume_at(path, clock=clock, errors=2)
    volume.open()
    yield volume
    volume.close(clean=False)


@pytest.mark.parametrize("error", [FULL, READ_ONLY, QUOTA])
def test_a_drive_that_takes_nothing_for_long_is_shown_so_all_the_time(
    tmp_path: Path, clock: HandClock, error: DiskError
) -> None:
    with opened(tmp_path, clock) as volume:
        for _ in range(100):
            volume.failed(error)
            assert (volume.well, volume.takes_content) == (True, False)
            clock.now_s += volume._retry_s + 1
            assert volume.writable, "it is tried again"
            assert not volume.takes_content, "and is no better for that"
        clock.now_s += 600
        assert volume.takes_content, "nobody knows of a fault any more"


def test_a_drive_that_fails_for_long_is_shown_so_all_the_time(tmp_path: Path, clock: HandClock) -> None:
    with opened(tmp_path, clock) as volume:
        volume.failed(IO_ERROR)
        assert volume.well
        for _ in range(100):
            volume.failed(IO_ERROR)
            clock.now_s += volume._retry_s + 1
            assert (volume.online, volume.well, volume.takes_content) == (True, False, False)
        volume.succeeded()
        assert (volume.well, volume.takes_content) == (True, True)
