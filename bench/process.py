"""Processes under measurement: started on one core, read through /proc, stopped by their own id.

Owns: pinning, CPU seconds and memory of a process tree, ports, orderly stop. Must not know which program it runs.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT_S = 10.0
WANTED_DESCRIPTORS = 65_536


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process tree in bytes: resident (shared pages counted once per process) and proportional."""

    rss_bytes: int
    pss_bytes: int


@contextlib.contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Run the body on these cores; children started inside inherit them. None given: no change."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def spawn(
    argv: Sequence[str | Path],
    *,
    cores: Sequence[int],
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program pinned to ``cores`` with both outputs appended to ``log``, as the leader of its own group."""
    with log.open("ab") as out, pinned(*cores):
        return subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program that ``spawn`` started: SIGTERM, then SIGKILL to its own process group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tree(pid: int) -> list[int]:
    """The process and all its descendants that are alive."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(parents.get(member, ()))
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system seconds that these processes have used; 10 ms steps on most kernels."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def thread_cpu_seconds(pid: int) -> dict[int, float]:
    """Thread id → seconds it has run, to the nanosecond; the thread whose id is ``pid`` is the main one."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def core_busy_seconds(core: int) -> float:
    """Seconds that anything at all ran on this core since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(tick) for tick in ticks[:8])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_S
    return 0.0


def memory(pids: Sequence[int]) -> Memory:
    """Memory of these processes now."""
    rss = pss = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, *rest = line.split()
                if name == "Rss:":
                    rss += int(rest[0]) * 1024
                elif name == "Pss:":
                    pss += int(rest[0]) * 1024
    return Memory(rss, pss)


class Peak:
    """A context: the most that ``look`` gives within the block, asked every ``every_s`` seconds by a thread."""

    def __init__(self, look: Callable[[], int], *, every_s: float) -> None:
        self.most = 0
        self._look = look
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.wait(self._every_s):
            self.most = max(self.most, self._look())


def io_counters(pid: int) -> dict[str, int]:
    """``/proc/PID/io``: ``wchar`` bytes written by any call, ``read_bytes`` bytes fetched from a disk, and more.

    OSError when the process is gone or another user's.
    """
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, _colon, value in (line.partition(":") for line in lines)}


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, *, timeout_s: float = 20.0) -> None:
    """Wait until something accepts on ``port``; RuntimeError with the log's end when the program ended first."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        check_alive(process, log)
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing listens on port {port} after {timeout_s:.0f} s:\n{log_end(log)}")
        time.sleep(0.01)


def check_alive(process: subprocess.Popen[bytes], log: Path) -> None:
    """RuntimeError with the log's end when the program has ended."""
    if process.poll() is not None:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}:\n{log_end(log)}")


def log_end(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def raise_descriptor_limit() -> int:
    """Lift the descriptor limit to 65,536, or as far as the hard limit lets an ordinary user, for this process and
    those it starts; the limit.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(hard, WANTED_DESCRIPTORS), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
