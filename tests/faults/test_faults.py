"""Every harness in reduced size: each figure is within its bar."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.figures import Size, table
from tests.faults.harnesses import HARNESSES


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", HARNESSES)
async def test_every_figure_is_within_its_bar(tmp_path: Path, name: str) -> None:
    figures = await HARNESSES[name](tmp_path, Size.REDUCED)
    assert figures
    assert all(figure.within for figure in figures), "\n" + table(figures)
