"""Both logs on one stderr: a line never begins inside another, and a reader that stands still stops nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.logs.writer import LineWriter
from tests.support.client import RawClient
from tests.support.ground import HOST, GroundOptions, running_ground

_REQUESTS = 2000
"""Their lines are several times what a pipe holds."""


async def test_reader_of_stderr_that_stands_still_stops_no_answer_and_loses_no_line(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions()) as ground:
        node, path = ground.node, ground.add(b"x" * 100)
        process: Any = node.process
        pipe = process._transport.get_pipe_transport(2)
        async with RawClient(*node.content) as client:
            pipe.pause_reading()
            for asked in range(_REQUESTS):
                assert (await client.request("GET", path, host=HOST)).status == 200
                if asked % 200 == 199:
                    node.reload()  # each one writes an event where the pipe is full of answers
            pipe.resume_reading()
        lines = await node.wait_answered(path, _REQUESTS)
        await node.wait_log(lambda line: line.get("event") == "reloaded")
    assert len(lines) == _REQUESTS


def test_a_fifo_that_nobody_reads_is_refused_and_does_not_hang_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(ConfigError, match="log"):
        LineWriter(str(tmp_path / "log"))


def test_a_fifo_whose_reader_leaves_costs_lines_and_no_more(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    writer = LineWriter(str(tmp_path / "log"))
    writer.put(b"first\n", 1)
    wait_for_line(reader)
    os.close(reader)
    writer.reopen()
    writer.put(b"second\n", 1)
    writer.close()
    assert writer.dropped == 1


def wait_for_line(fd: int) -> None:
    os.set_blocking(fd, True)
    assert os.read(fd, 100) == b"first\n"
