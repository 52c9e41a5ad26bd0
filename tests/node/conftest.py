"""One ground per module; a module that wants another one says so in ``GROUND``.

The tests of HTTP run on four kinds of node: fast lane on and off, one process and two.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.support.ground import Ground, GroundOptions, running_ground

_CONFORMANCE = ("collapse", "conditional", "freshness", "generation", "ranges", "request_forms", "reuse")
_KINDS = [pytest.param((lane, workers), id=f"lane_{lane}-{workers}") for lane in ("on", "off") for workers in (1, 2)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the modules about HTTP on every kind of node."""
    module = metafunc.module.__name__.rpartition(".test_")[2]
    if "ground" in metafunc.fixturenames and module in _CONFORMANCE:
        metafunc.parametrize("ground", _KINDS, indirect=True, scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """Origin and node, shared by the tests of one module: each test uses paths of its own."""
    options = getattr(request.module, "GROUND", GroundOptions())
    if hasattr(request, "param"):
        lane, workers = request.param
        config = options.config if lane == "on" else f"[server]\nfast_lane = false\n{options.config}"
        options = replace(options, config=config, workers=workers)
    async with running_ground(tmp_path_factory.mktemp("node"), options) as ground:
        yield ground


@pytest.fixture(autouse=True)
def log_without_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test that made the node log a fault of its own is the one that fails."""
    yield
    ground = request.node.funcargs.get("ground")
    if isinstance(ground, Ground):
        ground.node.check_log()
