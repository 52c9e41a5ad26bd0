"""A machine that was suspended: nobody is blamed for what did not happen meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import HOST, PIECE, GroundOptions, running_ground

BODY = blob(77, 3 * PIECE)
CONFIG = "[upstream]\nstall_timeout_s = 1\nmin_rate_bps = 4096\n[fill]\nfirst_byte_s = 2\n"
STILL_S = 4.0


async def test_a_download_goes_on_and_no_source_is_at_fault(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions(config=CONFIG)) as ground:
        path = ground.add(BODY)
        gate = ground.origin.gate(path, at=PIECE)
        async with RawClient(*ground.node.content) as client:
            response = await client.start("GET", path, host=HOST)
            await client.read_body(response, PIECE)
            os.kill(ground.node.process.pid, signal.SIGSTOP)
            await asyncio.sleep(STILL_S)  # the standstill itself
            gate.open()
            os.kill(ground.node.process.pid, signal.SIGCONT)
            await client.finish(response)
            assert (response.complete, response.body) == (True, BODY)
        assert len(ground.origin.asked(path)) <= 2
        warned = [line for line in ground.node.log if line.get("level") not in (None, "info")]
        assert warned == []
