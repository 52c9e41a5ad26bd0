"""One scene per test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fetch.scene import Scene
from tests.support.origin import Origin


@pytest_asyncio.fixture
async def scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Scene]:
    """An origin without contents and an empty directory."""
    async with Origin() as origin:
        yield Scene(origin, tmp_path, capsys)


@pytest_asyncio.fixture
async def cache() -> AsyncIterator[Origin]:
    """A second origin that plays a cache host."""
    async with Origin() as origin:
        yield origin
