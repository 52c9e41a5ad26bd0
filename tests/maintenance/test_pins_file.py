"""Pins on disk: whole or not at all, and no drive takes them with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.maintenance.pins_file import FILE_NAME, SavedPin, SavedPins, load_pins, save_pins

PINS = SavedPins(3, (SavedPin("http://a.test/x?token", "0" * 32, "/v", 77), SavedPin("http://a.test/y", "1" * 32)))


def test_what_is_saved_is_loaded_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    assert load_pins(str(tmp_path)) == SavedPins()
    save_pins((str(tmp_path),), PINS)
    assert load_pins(str(tmp_path)) == PINS
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_a_directory_that_takes_nothing_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    save_pins((str(tmp_path / "gone"), str(tmp_path)), PINS)
    assert load_pins(str(tmp_path)) == PINS
    for nowhere in ((str(tmp_path / "gone"),), ()):
        with pytest.raises(DiskError, match="could not be written down"):
            save_pins(nowhere, PINS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"number":-1,"pins":[]}',
        b'{"number":1,"pins":[{"url":"http://a.test/x"}]}',
        b'{"number":1,"pins":[{"url":"http://a.test/x","object_id":"../../../../etc/passwd"}]}',
        b'{"number":1,"pins":[],"more":1}',
    ],
)
def test_a_damaged_file_is_an_error_and_is_kept_aside(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(DiskError, match="damaged"):
        load_pins(str(tmp_path))
    assert (tmp_path / f"{FILE_NAME}.damaged").read_bytes() == data
    assert load_pins(str(tmp_path)) == SavedPins()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"number":1,"pins":[]}')
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match="cannot be read"):
        load_pins(str(tmp_path))
