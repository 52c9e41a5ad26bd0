"""One ground per module; a module that wants another one says so in ``GROUND``.

The tests of HTTP run on two kinds of node: fast lane on and off. Each plain warm hit is repeated there, and the node's
own counter says which repeats the lane answered: nearly all where it is on, none where it is off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.support.ground import Ground, GroundOptions, running_ground
from tests.support.repeats import Repeats, lane_answers

_CONFORMANCE = ("collapse", "conditional", "freshness", "generation", "ranges", "request_forms", "reuse")
_LANES = [pytest.param(lane, id=f"lane_{lane}") for lane in ("on", "off")]
_LEAST_SHARE = 0.95
_PASSED = {
    "ranges": "suffix ranges",
    "request_forms": "heads in parts, pipelined heads, and suffix ranges",
}
"""Modules in which the full path has to answer hits that could be the lane's, and which ones."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the modules about HTTP on every kind of node."""
    module = metafunc.module.__name__.rpartition(".test_")[2]
    if "ground" in metafunc.fixturenames and module in _CONFORMANCE:
        metafunc.parametrize("ground", _LANES, indirect=True, scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """Origin and node, shared by the tests of one module: each test uses paths of its own."""
    options = getattr(request.module, "GROUND", GroundOptions())
    lane = getattr(request, "param", None)
    if lane is not None:
        config = f"[server]\nfast_lane = {str(lane == 'on').lower()}\n{options.config}"
        options = replace(options, config=config if lane == "on" else _by_the_loop(config))
    async with running_ground(tmp_path_factory.mktemp("node"), options) as ground:
        if lane is None:
            yield ground
            return
        ground.repeats = Repeats(ground.node)
        yield ground
        if lane == "on":
            await _check_lane(ground, ground.repeats, request.module.__name__.rpartition(".test_")[2])
        else:
            assert await lane_answers(ground.node) == 0, "the fast lane is off"


def _by_the_loop(config: str) -> str:
    """The same settings, with bodies that the event loop receives."""
    lines = ["[upstream]", "threads_receive = false"]
    tables = config.splitlines()
    at = tables.index(lines[0]) if lines[0] in tables else len(tables)
    return "\n".join((*tables[:at], *lines, *tables[at + 1 :], ""))


async def _check_lane(ground: Ground, repeats: Repeats, module: str) -> None:
    """The lane answered at least 95 % of the repeats, and of all hits that it could answer."""
    told = f"the fast lane answered {repeats.by_lane} of {repeats.sent} plain warm hits that were repeated"
    assert repeats.by_lane >= _LEAST_SHARE * repeats.sent, told
    metrics = await ground.node.metrics()
    answers, passed = (metrics.total(f"cacheserver_lane_{name}_total") for name in ("answers", "passed"))
    told = f"the fast lane answered {answers:.0f} plain warm hits and passed {passed:.0f}"
    assert module in _PASSED or answers >= _LEAST_SHARE * (answers + passed), told


@pytest.fixture(autouse=True)
def log_without_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test that made the node log a fault of its own is the one that fails."""
    yield
    ground = request.node.funcargs.get("ground")
    if isinstance(ground, Ground):
        ground.node.check_log()
