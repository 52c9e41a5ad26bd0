"""One lab for each module; a test that spoils something puts it right again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.doctor.lab import Lab, running_lab


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """Origins, services and a node, all in order."""
    async with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab
