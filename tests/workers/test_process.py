"""Worker processes: which code they run, and that they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cacheserver.workers import messages
from cacheserver.workers.channel import Channel, socket_pair
from cacheserver.workers.process import end_process, start_process


async def test_a_worker_runs_the_owners_code_whatever_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cacheserver", "msgspec"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(66)\n")
    monkeypatch.chdir(tmp_path)
    ours, theirs = socket_pair()
    said: asyncio.Future[messages.ToOwner] = asyncio.get_running_loop().create_future()
    lost = asyncio.Event()
    channel = Channel(
        ours, on_message=lambda data, _fd: said.set_result(messages.to_owner.decode(data)), on_lost=lost.set
    )
    with theirs:
        process = await start_process(theirs.fileno())
    async with asyncio.timeout(20):
        await asyncio.wait((said, asyncio.ensure_future(lost.wait())), return_when=asyncio.FIRST_COMPLETED)
    channel.close()
    assert await end_process(process, 5.0) == 0
    assert said.result() == messages.Hello(process.pid)


async def test_a_process_that_does_not_end_is_killed() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    assert await end_process(process, 0.0) == -9
