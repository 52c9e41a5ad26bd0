"""A Debian 12 that boots in a container of its own: made by mmdebstrap, started by systemd-nspawn, entered by nsenter.

Owns the container's life and running commands in it. Its network is its own and has loopback alone. Needs root; starts
nothing outside but the one nspawn process, which is ended by its number.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("mmdebstrap", "systemd-nspawn", "nsenter", "tar")
SUITE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "procps", "iproute2"),
    *("python3-venv", "prometheus", "curl", "ca-certificates", "openssl"),
)
_MAKE_S = 900.0
_BOOT_S = 60.0
_COMMAND_S = 180.0
_STEP_S = 0.1
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ContainerFailed(AssertionError):
    """The container could not be made, booted or used, or a command in it failed."""


def missing_programs() -> list[str]:
    """What this machine lacks to run a container."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def make_root(archive: Path, packages: Sequence[str] = PACKAGES) -> Path:
    """A clean Debian as a tar archive, from the machine's mirrors unless it is there already."""
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_suffix(".new")
        options = ["--variant=minbase", "--format=tar", f"--include={','.join(packages)}"]
        done = subprocess.run(
            ["mmdebstrap", *options, SUITE, str(unfinished)], capture_output=True, timeout=_MAKE_S, check=False
        )
        if done.returncode:
            raise ContainerFailed(f"mmdebstrap: exit {done.returncode}\n{_tail(done.stderr)}")
        unfinished.rename(archive)
    return archive


class Container:
    """A booted container; ``leader`` is the process number of its init as seen from outside."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._enter = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]

    def command(self, script: str) -> list[str]:
        """The command that runs the shell script ``script`` inside."""
        return [*self._enter, "/usr/bin/env", "-i", f"PATH={_PATH}", "LC_ALL=C.UTF-8", "bash", "-euc", script]

    def run(self, script: str, *, fails: bool = False) -> str:
        """Standard output of a shell script; ContainerFailed when it does not end as it should."""
        done = subprocess.run(
            self.command(script), capture_output=True, timeout=_COMMAND_S, check=False, stdin=subprocess.DEVNULL
        )
        if bool(done.returncode) != fails:
            raise ContainerFailed(f"{script}: exit {done.returncode}\n{_tail(done.stdout)}\n{_tail(done.stderr)}")
        return done.stdout.decode("utf-8", "replace").strip()

    def start(self, script: str) -> subprocess.Popen[bytes]:
        """A shell script that runs while others do; the caller waits for it."""
        return subprocess.Popen(self.command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def wait(self, what: str, holds: Callable[[], bool], within_s: float = 30.0) -> None:
        """Ask again and again until ``holds``; ContainerFailed when it does not in time."""
        deadline_s = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise ContainerFailed(f"{what}: not within {within_s:.0f} s")
            time.sleep(_STEP_S)

    def write(self, path: str, text: str) -> None:
        """A file inside; the mode of one that exists stays."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


@contextmanager
def booted(archive: Path, directory: Path, shown: Mapping[Path, str]) -> Iterator[Container]:
    """A container on a fresh copy of ``archive`` in ``directory``; the folders ``shown`` are seen inside, read-only."""
    root = directory / "root"
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", archive, "--exclude=./dev/*"], check=True, timeout=_MAKE_S)
    binds = [f"--bind-ro={outside}:{inside}" for outside, inside in shown.items()]
    nspawn = subprocess.Popen(
        [
            *("systemd-nspawn", f"--directory={root}", "--quiet", "--boot", "--private-network", "--register=no"),
            *("--keep-unit", "--console=pipe", "--settings=no", f"--machine=cacheserver-{os.getpid()}", *binds),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        container = Container(root, _leader(nspawn))
        container.wait("systemd in the container", lambda: _is_up(container, nspawn), _BOOT_S)
        yield container
    finally:
        _end(nspawn)


def _leader(nspawn: subprocess.Popen[bytes]) -> int:
    """The container's init: the child of nspawn that has a process namespace of its own."""
    own = os.readlink(f"/proc/{nspawn.pid}/ns/pid")
    deadline_s = time.monotonic() + _BOOT_S
    while time.monotonic() < deadline_s and nspawn.poll() is None:
        for child in _children(nspawn.pid):
            try:
                if os.readlink(f"/proc/{child}/ns/pid") != own:
                    return child
            except OSError:
                continue
        time.sleep(_STEP_S)
    _end(nspawn)
    reason = nspawn.stderr.read() if nspawn.stderr is not None else b""
    raise ContainerFailed(f"systemd-nspawn did not start a container: {_tail(reason)}")


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _is_up(container: Container, nspawn: subprocess.Popen[bytes]) -> bool:
    if nspawn.poll() is not None:
        raise ContainerFailed("the container ended while it booted")
    script = "systemctl is-system-running || true"
    done = subprocess.run(container.command(script), capture_output=True, timeout=_COMMAND_S, check=False)
    return done.stdout.strip() in (b"running", b"degraded")


def _end(nspawn: subprocess.Popen[bytes]) -> None:
    """SIGTERM asks the container to power off; it is killed when it does not."""
    for _ in range(2):
        if nspawn.poll() is None:
            nspawn.terminate()
            try:
                nspawn.wait(20)
            except subprocess.TimeoutExpired:
                continue
    if nspawn.poll() is None:
        nspawn.kill()
        nspawn.wait(20)


def _tail(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")[-3000:]
