"""The end of a volume: what a stop leaves, whatever the disk does then."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cacheserver.store import volume as room
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
