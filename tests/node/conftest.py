"""One ground per module; a module that wants another one says so in ``GROUND``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.ground import Ground, GroundOptions, running_ground


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """Origin and node, shared by the tests of one module: each test uses paths of its own."""
    options = getattr(request.module, "GROUND", GroundOptions())
    async with running_ground(tmp_path_factory.mktemp("node"), options) as ground:
        yield ground


@pytest.fixture(autouse=True)
def log_without_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test that made the node log a fault of its own is the one that fails."""
    yield
    ground = request.node.funcargs.get("ground")
    if isinstance(ground, Ground):
        ground.node.check_log()
