"""The quick part of the acceptance runs: curl, wget and aria2c with a made-up payload."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.acceptance.downloaders import DOWNLOADERS, Runner
from tests.acceptance.lab import Lab, running_lab
from tests.acceptance.nginx_origin import nginx_program

PAYLOAD_BYTES = (24 << 20) + 12_345


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Origin and node of one test."""
    if nginx_program() is None:
        pytest.skip("nginx is not installed")
    async with running_lab(tmp_path / "lab") as made:
        yield made


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is no multiple of anything."""
    made = tmp_path_factory.mktemp("payload") / "payload.bin"
    made.write_bytes(random.Random(7).randbytes(PAYLOAD_BYTES))
    return made


@pytest.mark.parametrize(("program", "runner"), DOWNLOADERS, ids=[runner.__name__ for _, runner in DOWNLOADERS])
async def test_a_real_client_gets_right_bytes_and_costs_the_origin_each_once(
    program: str, runner: Runner, lab: Lab, payload: Path
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    case = await runner(lab, payload, random.Random(payload.stat().st_size))
    assert [run.name for run in case.runs] == ["cold", "warm"]
