"""Settings of the scrubber that are refused, with the place of the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.settings.load import Flags, load_settings


@pytest.mark.parametrize(
    "line",
    [
        "days = 0",
        "days = 400",
        'max_rate = "1KiB"',
        'max_rate = "fast"',
        'busy_rate = "-1"',
        "pause_above_fills = -1",
        "rate = 1",
    ],
)
def test_a_wrong_setting_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"[scrub]\nenabled = true\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(str(path), Flags())
    assert f"scrub.{line.partition(' ')[0]}" in str(caught.value)
    assert caught.value.where == f"{path}:3"


def test_zero_busy_rate_leaves_the_drives_to_clients(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[scrub]\nbusy_rate = "0"\nmax_rate = "1GiB"\ndays = 0.5\n')
    assert load_settings(str(path), Flags()).scrub.days == 0.5
