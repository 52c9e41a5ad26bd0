"""One drive: private, locked, offline when it ails, at rest when it is full, remembering its order."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cacheserver.core.disk_faults import Blame
from cacheserver.core.errors import ConfigError, DiskError, VolumeOffline
from cacheserver.store import volume as room
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.volume import Volume
from tests.support.stored import (
    HandClock,
    bytes_on_disk,
    found,
    open_descriptors,
    put,
    representation,
    running_store,
    volume_at,
)

IO_ERROR = DiskError("read", errno=5)
FULL = DiskError("write", errno=28)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@contextmanager
def opened(path: Path, clock: HandClock, *, errors: int) -> Iterator[Volume]:
    """A volume that was opened."""
    volume = volume_at(path, clock=clock, errors=errors)
    volume.open()
    yield volume
    volume.close(clean=False)


def test_errors_in_a_row_take_a_volume_offline_until_it_is_tried_again(tmp_path: Path, clock: HandClock) -> None:
    seen = []
    with opened(tmp_path, clock, errors=3) as volume:

        def after(errors: int, wait_s: float = 0.0) -> None:
            for _ in range(errors):
                volume.failed(IO_ERROR)
            clock.now_s += wait_s
            seen.append((volume.online, volume.writable))

        after(2)
        after(1)
        after(0, wait_s=4.9)
        after(0, wait_s=0.2)
        after(1)  # the try failed: one error is enough now
        clock.now_s += 5
        volume.succeeded()
        after(2)  # the try worked: the count begins anew
    assert seen == [(True, True), (False, False), (False, False), (True, True), (False, False), (True, True)]
    assert volume.error_count == 6


def test_a_success_between_errors_keeps_a_volume_online(tmp_path: Path, clock: HandClock) -> None:
    with opened(tmp_path, clock, errors=2) as volume:
        for _ in range(5):
            volume.failed(IO_ERROR)
            volume.succeeded()
        assert volume.online


def test_a_full_volume_is_read_and_not_written_for_a_while(tmp_path: Path, clock: HandClock) -> None:
    with opened(tmp_path, clock, errors=1) as volume:
        volume.failed(FULL)
        assert (volume.online, volume.writable) == (True, False)
        clock.now_s += 5
        assert volume.writable


def test_a_read_only_drive_is_read_and_gives_nothing_up(tmp_path: Path, clock: HandClock) -> None:
    with opened(tmp_path, clock, errors=1) as volume:
        for _ in range(3):
            blame = volume.failed(DiskError("write failed", errno=errno.EROFS))
            assert blame is Blame.READ_ONLY, "eviction would not help"
        assert (volume.online, volume.writable) == (True, False)
        clock.now_s += 5
        assert volume.writable


def test_a_drive_that_fails_whenever_it_is_tried_is_ailing(tmp_path: Path, clock: HandClock) -> None:
    seen = []
    with opened(tmp_path, clock, errors=2) as volume:
        for _ in range(5):
            volume.failed(IO_ERROR)  # those that were under way when it went offline count for nothing
        seen.append(volume.ailing)
        clock.now_s += 5
        volume.failed(IO_ERROR)
        seen.append(volume.ailing)
        clock.now_s += 5
        seen.append(volume.ailing)
        volume.succeeded()
        seen.append(volume.ailing)
    assert seen == [False, True, True, False]


def test_a_clean_stop_vouches_for_one_start_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_directory: str, *, thorough: bool) -> Catalogue:
        raise DiskError("the catalogue's database failed", errno=errno.EIO)

    (tmp_path / "clean").write_text("4096")
    volume = volume_at(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(room, "Catalogue", fails)
        with pytest.raises(VolumeOffline):
            volume.open()
    volume.open()
    assert not volume.reconciled
    assert volume.ledger.stored_bytes == 0
    volume.close(clean=True)
    assert not (tmp_path / "clean").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_volume_that_cannot_be_opened_for_now_is_offline_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(_directory: str, *, thorough: bool) -> Catalogue:
        raise DiskError("the catalogue's database failed", errno=number)

    volume = volume_at(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(room, "Catalogue", fails)
        with pytest.raises(VolumeOffline):
            volume.open()
    assert (volume.opened, volume.online, volume.writable) == (False, False, False)
    volume.close(clean=True)
    volume.open()
    seen = (volume.opened, volume.online, volume.writable)
    assert seen == (True, True, True)
    volume.close(clean=False)


async def test_files_and_directories_are_private(tmp_path: Path) -> None:
    async with running_store(tmp_path / "cache"):
        for directory, _names, files in os.walk(tmp_path / "cache"):
            assert os.stat(directory).st_mode & 0o077 == 0
            assert all(os.stat(os.path.join(directory, name)).st_mode & 0o077 == 0 for name in files)


async def test_an_open_directory_is_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with running_store(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o700


async def test_a_second_node_is_refused_and_leaves_the_first_alone(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        before = open_descriptors()
        with pytest.raises(ConfigError, match="in use by another node"):
            volume_at(tmp_path).open()
        assert open_descriptors() == before
        await put(store, representation())
    async with running_store(tmp_path):
        pass


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="another user"):
        volume_at(tmp_path).open()


@pytest.mark.parametrize("place", ["objects", "objects/7f"])
def test_a_link_in_place_of_an_object_directory_is_refused(tmp_path: Path, place: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "cache" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link"):
        volume_at(tmp_path / "cache").open()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "lock").symlink_to(victim)
    with pytest.raises(ConfigError):
        volume_at(tmp_path / "cache").open()
    assert not victim.exists()


def test_a_file_in_place_of_the_directory_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"):
        volume_at(tmp_path / "cache").open()


async def test_the_mark_of_a_clean_stop_is_used_once(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await put(store, representation())
    assert int((tmp_path / "clean").read_text()) == bytes_on_disk(tmp_path)
    volume = volume_at(tmp_path)
    volume.open()
    assert volume.reconciled
    assert volume.ledger.stored_bytes == bytes_on_disk(tmp_path)
    assert not (tmp_path / "clean").exists()
    volume.close(clean=False)
    again = volume_at(tmp_path)
    again.open()
    assert not again.reconciled
    assert again.ledger.stored_bytes == bytes_on_disk(tmp_path), "counted from the rows"
    again.close(clean=False)


@pytest.mark.parametrize("mark", [b"", b"-5", b"12x", b"\xff\xfe", b"\xb2", b"1e9"])
async def test_a_damaged_mark_counts_as_an_unclean_stop(tmp_path: Path, mark: bytes) -> None:
    async with running_store(tmp_path) as store:
        await put(store, representation())
    (tmp_path / "clean").write_bytes(mark)
    volume = volume_at(tmp_path)
    volume.open()
    assert not volume.reconciled
    assert volume.ledger.stored_bytes == bytes_on_disk(tmp_path)
    volume.close(clean=False)


async def test_the_order_of_eviction_survives_a_restart(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        for name in "abcdef":
            obj = await put(store, representation(name))
            store.touch(obj, 0, 1)
        for name in "bd":
            for _ in range(3):
                store.touch(await found(store, representation(name)), 0, 1)
        before = store.volumes[0].policy.snapshot()
    async with running_store(tmp_path) as store:
        assert store.volumes[0].policy.snapshot() == before


async def test_a_damaged_order_is_dropped_and_every_object_stays_evictable(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        for name in "abc":
            await put(store, representation(name))
    data = bytearray((tmp_path / "recency").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "recency").write_bytes(data)
    async with running_store(tmp_path) as store:
        assert len(store.volumes[0].policy) == 3


@pytest.mark.parametrize(("number", "errors"), [(errno.EIO, 1), (errno.ENOENT, 0)])
async def test_a_disk_that_cannot_keep_the_order_counts_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, errors: int
) -> None:
    def refused(_path: str, _data: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(room, "write_atomically", refused)
    with ThreadPoolExecutor(1) as executor:
        volume = volume_at(tmp_path)
        await volume.save_recency(executor)
    assert volume.error_count == errors


# -- room on a full drive -------------------------------------------------------------------------------------------


def test_a_full_drive_is_written_again_at_once_where_eviction_makes_room(tmp_path: Path, clock: HandClock) -> None:
    with opened(tmp_path, clock, errors=1) as volume:
        volume.ledger.correct(1000)
        seen = []
        for stored, freed in ((0, 200), (150, 200), (0, 200), (10, 200), (160, 200)):
            volume.ledger.correct(stored)
            before = volume.ledger.stored_bytes
            volume.failed(FULL)
            assert not volume.writable
            volume.ledger.give_back(freed)
            volume.room_was_made(before)
            seen.append(volume.writable)
            clock.now_s += 10
        assert seen == [True, True, False, False, True], "only where the node itself has used the room made last"


# -- who else may write ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "group", "opens"), [
    (0o2770, "ours", True), (0o770, "ours", True), (0o777, "ours", False), (0o770, "other", False),
    (0o702, "ours", False),
])  # fmt: skip
def test_a_group_of_the_nodes_own_may_write_to_its_directory_until_it_starts(
    tmp_path: Path, clock: HandClock, mode: int, group: str, opens: bool
) -> None:
    with opened(tmp_path, clock, errors=1):
        pass
    places = [tmp_path, tmp_path / "objects", tmp_path / "objects" / "00"]
    foreign = next(number for number in range(1, 99) if number not in (os.getegid(), *os.getgroups()))
    for place in places:
        if group == "other":
            if os.geteuid():
                pytest.skip("only root may give a directory to a group that it is not in")
            os.chown(place, -1, foreign)
        place.chmod(mode)
    volume = volume_at(tmp_path, clock=clock)
    if not opens:
        with pytest.raises(ConfigError, match="written by other users"):
            volume.open()
        return
    volume.open()
    assert {stat.S_IMODE(place.stat().st_mode) & 0o777 for place in places} == {0o700}
    volume.close(clean=False)


def test_a_full_and_an_offline_drive_are_told_once_and_again_when_they_are_well(
    tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cacheserver")
    with opened(tmp_path, clock, errors=2) as volume:
        for _ in range(5):
            volume.failed(FULL)
            volume.wrote()
        assert [record.message for record in caplog.records] == ["volume_full"]
        clock.now_s += 3600
        volume.wrote()
        volume.wrote()
        for _ in range(5):
            volume.failed(IO_ERROR)
        volume.succeeded()
        volume.succeeded()
    told = ["volume_full", "volume_writable", "volume_offline", "volume_online"]
    assert [record.message for record in caplog.records] == told


def test_an_eviction_frees_what_lies_between_the_low_water_mark_and_the_capacity(tmp_path: Path) -> None:
    volume = Volume(
        path=str(tmp_path),
        capacity_bytes=1000,
        low_water_percent=95,
        errors_until_offline=3,
        retry_s=5.0,
        clock=HandClock(),
    )
    assert volume.batch_bytes == 50
    assert (volume.object_count, volume.error_count, volume.eviction_age_s) == (0, 0, 0)


def test_a_directory_that_others_could_write_is_refused_for_anything_in_it(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "anything").touch()
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="could be written by other users"):
        volume_at(tmp_path, clock=clock).open()


def test_an_object_id_of_another_form_has_no_path(tmp_path: Path) -> None:
    for bad in ("", "a" * 31, "A" * 32, "../" + "a" * 29, "a" * 32 + "\n"):
        with pytest.raises(ValueError):
            volume_at(tmp_path).path_of(bad)


def test_a_drive_that_cannot_tell_is_told_apart_from_one_that_was_changed(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_args: object, **_options: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with opened(tmp_path, clock, errors=3) as volume:
        assert volume.inspect() is None
        with monkeypatch.context() as failing:
            failing.setattr(os, "stat", fails)
            with pytest.raises(DiskError):
                volume.inspect()
