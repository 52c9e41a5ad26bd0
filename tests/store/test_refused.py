"""New files that are refused, and directories that are not what they must be: said, never a node that seems well."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import ConfigError, DiskError, VolumeOffline
from tests.support.stored import HandClock, put, representation, running_store, volume_at

MANY = 5


def refuse_new_files(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Have each new object file fail with the number in the list; 0: none."""
    current, real = [number], os.open

    def refused(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if str(path).endswith(".new") and current[0]:
            raise OSError(current[0], os.strerror(current[0]))
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refused)
    return current


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP])
async def test_a_directory_that_takes_no_file_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    clock = HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        (volume,) = store.volumes
        current = refuse_new_files(monkeypatch, number)
        for each in range(MANY):
            with pytest.raises((DiskError, VolumeOffline)):
                await store.create(representation(f"n{each}"))
        assert (volume.online, volume.writable, volume.error_count) == (True, False, 0)
        assert [record.message for record in caplog.records].count("volume_full") == 1
        clock.now_s += 60
        current[0] = 0
        await put(store, representation("later"))
        assert volume.writable


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EOVERFLOW, errno.EMFILE])
async def test_what_says_nothing_of_the_directory_leaves_the_volume_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async with running_store(tmp_path) as store:
        refuse_new_files(monkeypatch, number)
        for each in range(2 * MANY):
            with pytest.raises(DiskError):
                await store.create(representation(f"n{each}"))
        assert store.volumes[0].writable


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES, errno.ELOOP])
async def test_a_volume_that_cannot_be_reached_any_more_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.stat
    async with running_store(tmp_path) as store:

        def stale(path: Any, **options: Any) -> os.stat_result:
            if str(path).endswith("/lock"):
                raise OSError(number, os.strerror(number))
            return real(path, **options)

        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", stale)
            assert os.strerror(number) in str(await store.inspect(store.volumes[0]))


async def test_a_directory_of_objects_that_is_a_file_is_said(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        fan = tmp_path / "objects" / "7f"
        fan.rmdir()
        fan.write_text("no directory")
        assert "not a directory" in str(await store.inspect(store.volumes[0]))
        fan.unlink()
        assert await store.inspect(store.volumes[0]) is None


@pytest.mark.parametrize("name", ["", "objects", "objects/7f"])
async def test_a_directory_that_its_owner_may_not_write_is_made_writable(tmp_path: Path, name: str) -> None:
    async with running_store(tmp_path) as store:
        (tmp_path / name).chmod(0o500)
        assert await store.inspect(store.volumes[0]) is None
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EUCLEAN, VolumeOffline), (errno.ENOTCONN, VolumeOffline), (errno.ESTALE, ConfigError)],
)
def test_a_drive_that_fails_at_the_start_may_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def failing(*_args: Any, **_options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "makedirs", failing)
    with pytest.raises(error):
        volume_at(tmp_path).open()
