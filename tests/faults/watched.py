"""The node's own command with probes for the harnesses: ``python -m tests.faults.watched serve …``.

SIGUSR1 has it log how many tasks it has. FAULTS_NOFILE lowers its descriptor limit. FAULTS_CLOCK names a file with the
seconds by which its wall clock is off; SIGUSR2 reads it again. DNS never answers for hosts under ``silent.test`` and
knows nothing of hosts under ``unknown.test``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path


def _limit_descriptors() -> None:
    if limit := int(os.environ.get("FAULTS_NOFILE", "0")):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


class WallClock:
    """Stands in for ``time.time``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._real = time.time
        self._off_s = 0.0
        self.read()

    def read(self) -> None:
        """Take up what the file says now."""
        self._off_s = float(self._file.read_text())

    def now_s(self) -> float:
        """The wrong time."""
        return self._real() + self._off_s


def _watch(clock: WallClock | None) -> None:
    from cacheserver.logs.events import event, get_logger
    from cacheserver.node.lifetime import Node

    log = get_logger("cacheserver.watched")
    start = Node.start

    def tell() -> None:
        gc.collect()
        line = json.dumps({"event": "watched", "tasks": len(asyncio.all_tasks())})
        os.write(2, f"{line}\n".encode())  # past the log, whose rate is limited

    def move() -> None:
        assert clock is not None
        clock.read()
        event(log, "clock_moved")

    async def watched_start(self: Node) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, tell)
        if clock is not None:
            loop.add_signal_handler(signal.SIGUSR2, move)
        await start(self)

    Node.start = watched_start  # type: ignore[method-assign]


def _spoil_dns() -> None:
    from cacheserver.outgoing.lookups import Lookups
    from cacheserver.outgoing.resolver import Found

    look_up = Lookups.__call__

    async def spoiled(self: Lookups, host: str) -> Found | Sequence[str]:
        if host.endswith(".silent.test"):
            await asyncio.Event().wait()
        if host.endswith(".unknown.test"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await look_up(self, host)

    Lookups.__call__ = spoiled  # type: ignore[method-assign]


def main() -> None:
    """Run the command."""
    _limit_descriptors()
    clock = WallClock(Path(os.environ["FAULTS_CLOCK"])) if "FAULTS_CLOCK" in os.environ else None
    if clock is not None:
        time.time = clock.now_s
    _watch(clock)
    _spoil_dns()
    from cacheserver.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
