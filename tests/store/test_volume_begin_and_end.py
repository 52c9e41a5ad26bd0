"""The beginning and the end of a volume: what a failed start gives back, what a stop leaves, whatever the disk does."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cacheserver.core.errors import ConfigError, DiskError, VolumeOffline
from cacheserver.store import volume as room
from cacheserver.store.catalogue.catalogue import Catalogue
from tests.support.stored import open_descriptors, volume_at


def test_a_drive_that_takes_no_mark_of_a_clean_stop_is_given_back_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: str, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = open_descriptors()
    volume = volume_at(tmp_path)
    volume.open()
    volume.reconciled = True
    with monkeypatch.context() as patched:
        patched.setattr(room, "write_atomically", full)
        volume.close(clean=True)
    volume.catalogue.close()
    assert open_descriptors() == before
    again = volume_at(tmp_path)
    again.open()
    assert not again.reconciled
    again.close(clean=False)


@pytest.mark.parametrize(("clean", "reconciled", "errors"), [(False, True, 0), (True, False, 0), (True, True, 1)])
def test_a_stop_that_leaves_anything_in_doubt_makes_no_mark(
    tmp_path: Path, clean: bool, reconciled: bool, errors: int
) -> None:
    volume = volume_at(tmp_path)
    volume.open()
    volume.reconciled = reconciled
    volume.catalogue._writer.errors = errors
    volume.close(clean=clean)
    assert not (tmp_path / "clean").exists()


def test_a_start_that_fails_behind_the_catalogue_gives_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_catalogue: Catalogue) -> int:
        raise DiskError("read failed", errno=errno.EIO)

    before, threads = open_descriptors(), threading.active_count()
    with monkeypatch.context() as patched:
        patched.setattr(Catalogue, "__len__", fails)
        with pytest.raises(VolumeOffline):
            volume_at(tmp_path).open()
    assert (open_descriptors(), threading.active_count()) == (before, threads)


def test_a_directory_whose_name_would_be_expanded_is_refused_with_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", "/tmp")
    with pytest.raises(ConfigError, match="expand"):
        volume_at(tmp_path / "$ELSEWHERE").open()


async def test_what_was_pinned_before_the_order_of_eviction_is_loaded_stays_pinned(tmp_path: Path) -> None:
    volume, unit = volume_at(tmp_path), b"u" * 16
    volume.open()
    volume.policy.admit(unit, 100)
    with ThreadPoolExecutor(1) as executor:
        await volume.save_recency(executor)
        volume.policy.pin(unit)
        await volume.load_recency(executor)
    assert volume.policy.is_pinned(unit)
    volume.close(clean=False)
