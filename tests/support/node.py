"""A node in a process of its own, as an operator runs it: started, asked, signalled, killed, started again.

Owns the process and what it writes on stderr. At the end of every run it insists that each line there is one JSON
object without control characters, that no warning and no fault of a library was logged, and no traceback.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.client import Lines, Response, fetch
from tests.support.flow import PATIENCE_S

Address = tuple[str, int]
LogLine = dict[str, Any]

_ROOT = Path(__file__).resolve().parents[2]
_FLAGS = os.environ.get("TEST_NODE_FLAGS", "").split()
"""Flags of the interpreter that nodes run on; tests themselves need their assert statements."""
_LISTENING = re.compile(r"\[?([0-9a-f.:]+?)\]?:([0-9]+)")
_START_S = 50.0
"""How long a node may take to listen: on a busy machine, its imports alone take many seconds."""
_STARTED = ("listening", "ended")
_LIBRARIES = ("aiohttp", "asyncio", "concurrent")
_FAULT_EVENTS = ("admin_failed", "failed", "loop_error")


class NodeFailed(AssertionError):
    """The node did not start, or ended in a way it must not."""


class Metrics:
    """One reading of ``/metrics``."""

    def __init__(self, text: str) -> None:
        self.samples: list[Sample] = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def names(self) -> set[str]:
        """Names of all samples."""
        return {sample.name for sample in self.samples}

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples of ``name`` that carry these labels; KeyError where the name does not exist."""
        found = [sample for sample in self.samples if sample.name == name]
        if not found:
            raise KeyError(name)
        return sum(s.value for s in found if labels.items() <= s.labels.items())


class Node:
    """One cache directory and configuration, and the process that runs on it while it runs."""

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str],
        config: str,
        env: Mapping[str, str],
        *,
        module: str = "cacheserver",
        launcher: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.cache_dir = directory / "cache"
        self.config_file = directory / "cacheserver.toml"
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(config)
        self.content: Address = ("", 0)
        self.admin: Address = ("", 0)
        self.log: list[LogLine] = []
        """Lines of stderr of all runs."""
        self.stray: list[bytes] = []
        """Lines of stderr that are not what a line must be."""
        self._arguments = arguments
        self._module = module
        self._launcher = launcher
        self._pass_fds = tuple(pass_fds)
        self._env = {**os.environ, "HOME": str(directory), "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "default", **env}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._logged = asyncio.Condition()
        self._checked = 0

    # -- the process --------------------------------------------------------------------------------------------

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The running process."""
        assert self._process is not None, "the node is not running"
        return self._process

    @property
    def is_running(self) -> bool:
        """Whether a process was started and not yet waited for."""
        return self._process is not None

    async def start(self) -> None:
        """Start the process and wait until it listens."""
        node = (sys.executable, *_FLAGS, "-m", self._module, "serve", "--config", str(self.config_file))
        mark = len(self.log)
        self._process = await asyncio.create_subprocess_exec(
            *(*self._launcher, *node),
            *self._arguments,
            cwd=self.config_file.parent,
            env=self._env,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=self._pass_fds,
        )
        self._reader = asyncio.create_task(self._read_log(self._process))
        try:
            listening = await self.wait_log(lambda line: line.get("event") in _STARTED, since=mark, within_s=_START_S)
        except TimeoutError:
            await self.kill()
            raise NodeFailed(f"the node does not listen: {self.log[mark:]} {self.stray}") from None
        if listening["event"] == "ended":
            await self.ended()
            raise NodeFailed(f"the node ended at once: {self.log[mark:]} {self.stray}")
        self.content = _address(listening["content"])
        self.admin = _address(listening["admin"])

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """SIGKILL."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> int:
        """Wait for the end of the process; the exit code."""
        assert self._reader is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                code = await self.process.wait()
                await self._reader
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise NodeFailed("the node does not end") from None
        self._process = None
        return code

    async def restart(self) -> None:
        """Stop cleanly and start again on the same cache."""
        assert await self.stop() == 0
        await self.start()

    def reload(self) -> None:
        """SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    # -- what it writes -----------------------------------------------------------------------------------------

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while raw := await process.stderr.readline():
            line = _log_line(raw)
            if line is None:
                cut = not raw.endswith(b"\n") and await process.wait() == -signal.SIGKILL
                self.stray += [] if cut else [raw]  # SIGKILL may come in the midst of a line
            else:
                self.log.append(line)
            async with self._logged:
                self._logged.notify_all()
        self.log.append({"event": "ended"})
        async with self._logged:
            self._logged.notify_all()

    async def wait_log(
        self, wanted: Callable[[LogLine], bool], *, since: int = 0, within_s: float = PATIENCE_S
    ) -> LogLine:
        """The first line from number ``since`` on that is ``wanted``; TimeoutError when none comes."""
        async with asyncio.timeout(within_s), self._logged:
            await self._logged.wait_for(lambda: any(map(wanted, self.log[since:])))
        return next(filter(wanted, self.log[since:]))

    async def wait_answered(self, path: str, answers: int = 1) -> list[LogLine]:
        """The access-log lines of ``path``, once there are that many."""
        async with asyncio.timeout(PATIENCE_S), self._logged:
            await self._logged.wait_for(lambda: len(self._answered(path)) >= answers)
        return self._answered(path)

    def _answered(self, path: str) -> list[LogLine]:
        return [line for line in self.log if line.get("path") == path and "status" in line]

    def check_log(self) -> None:
        """Raise where stderr holds anything new that must not be there."""
        new, self._checked = self.log[self._checked :], len(self.log)
        stray, self.stray = self.stray, []
        if stray:
            raise NodeFailed(f"stderr has lines that are not clean JSON: {stray[:5]}")
        if faults := [line for line in new if _is_fault(line)]:
            raise NodeFailed(f"unexpected log lines: {faults[:5]}")

    # -- what it answers ----------------------------------------------------------------------------------------

    async def get(self, target: str, headers: Lines = (), *, method: str = "GET", host: str | None = None) -> Response:
        """One request to the content listener on a connection of its own."""
        return await fetch(self.content, target, headers, method=method, host=host)

    async def ask_admin(self, target: str, headers: Lines = (), *, method: str = "GET") -> Response:
        """One request to the admin listener."""
        return await fetch(self.admin, target, headers, method=method)

    async def metrics(self) -> Metrics:
        """A reading of ``/metrics``."""
        response = await self.ask_admin("/metrics")
        assert response.status == 200, response.status
        return Metrics(response.body.decode())

    async def status(self) -> dict[str, Any]:
        """``/api/v1/status``."""
        response = await self.ask_admin("/api/v1/status")
        assert response.status == 200, response.status
        status = json.loads(response.body)
        assert isinstance(status, dict)
        return status


@asynccontextmanager
async def running_node(
    directory: Path,
    *,
    allow: Iterable[str] = (),
    connect_to: Mapping[str, str] | None = None,
    config: str = "",
    max_size: str = "1GiB",
    cache_dir: Path | None = None,
    env: Mapping[str, str] | None = None,
    module: str = "cacheserver",
    launcher: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[Node]:
    """A node that listens on free loopback ports, with its files under ``directory``; stopped and checked at the end.

    ``connect_to`` maps origin hosts to ``address:port``; ``config`` is TOML text; ``module`` is what Python runs.
    ``launcher`` is a command that runs the node in its own place, with the descriptors ``pass_fds``.
    """
    cache_dir = directory / "cache" if cache_dir is None else cache_dir
    arguments = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    arguments += ["--cache-dir", str(cache_dir), "--max-size", max_size]
    for host in allow:
        arguments += ["--allow", host]
    for host, address in (connect_to or {}).items():
        arguments += ["--connect-to", f"{host}={address}"]
    node = Node(directory, arguments, config, env or {}, module=module, launcher=launcher, pass_fds=pass_fds)
    node.cache_dir = cache_dir
    await node.start()
    try:
        yield node
    finally:
        code = await node.stop() if node.is_running else 0
    node.check_log()
    if code != 0:
        raise NodeFailed(f"exit code {code}")


def _address(listed: object) -> Address:
    """The first ``host:port`` of a log member, which is a text or a list of them."""
    found = _LISTENING.search(str(listed))
    if found is None:
        raise NodeFailed(f"no address in {listed!r}")
    return found[1], int(found[2])


def _is_fault(line: LogLine) -> bool:
    logger = str(line.get("logger", ""))
    if logger == "py.warnings" or logger.partition(".")[0] in _LIBRARIES:
        return True
    if "internal" in (line.get("outcome"), line.get("reason")):
        return True
    return line.get("event") in _FAULT_EVENTS or "Traceback" in str(line)


def _log_line(raw: bytes) -> LogLine | None:
    """The line as an object, None where it is not one clean JSON object."""
    text = raw.decode("utf-8", "replace").removesuffix("\n")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        return None
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
