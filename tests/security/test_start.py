"""A node that could not be safe does not start, and says why in one line."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.support.certificates import Authority
from tests.support.node import running_node

_ROOT = Path(__file__).resolve().parents[2]
_EXIT_CONFIG = 2


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a node is started; ``prepare`` makes its directory what it is to be."""

    name: str
    said: str
    config: str = ""
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda _room: None


def loose_directory(room: Path) -> None:
    (room / "cache" / "objects").mkdir(parents=True)
    (room / "cache").chmod(0o777)


def loose_object_directory(room: Path) -> None:
    (room / "cache" / "objects" / "00").mkdir(parents=True)
    (room / "cache" / "objects" / "00").chmod(0o777)


def linked_object_directory(room: Path) -> None:
    (room / "cache" / "objects").mkdir(parents=True)
    (room / "cache" / "objects" / "7f").symlink_to("/tmp")


def foreign_directory(room: Path) -> None:
    (room / "cache").mkdir()
    os.chown(room / "cache", 12345, 12345)


def readable_key(room: Path) -> None:
    authority = Authority(room)
    authority.server_context()
    leaf = next(room.glob("leaf-*.pem"))
    leaf.rename(room / "leaf.pem").chmod(0o644)


def older_library(room: Path) -> None:
    (room / "sitecustomize.py").write_text("import aiohttp\naiohttp.__version__ = '3.13.5'\n")


TLS = '[server]\nlisten_tls = ["127.0.0.1:0"]\n[tls]\ncertificate = "{room}/leaf.pem"\nkey = "{room}/leaf.pem"\n'
ATTEMPTS = [
    Attempt("the parser in Python", "C parser", env={"AIOHTTP_NO_EXTENSIONS": "1"}),
    Attempt("an old library", "older than", env={"PYTHONPATH": "{room}:" + str(_ROOT)}, prepare=older_library),
    Attempt("a key for everyone", "can be read by everyone", TLS, prepare=readable_key),
    Attempt("every host by flag", "open proxy", arguments=("--allow", "*")),
    Attempt("every host with a dot", "open proxy", arguments=("--allow", "*.*")),
    Attempt("a whole top-level domain", "too wide", arguments=("--allow", "*.com")),
    Attempt("every host in a service", "open proxy", '[services.x]\nhosts = ["*"]\n'),
    Attempt("every host in the file", "open proxy", 'allow = ["*"]\n'),
    Attempt("admin for everyone", "not loopback", arguments=("--admin-listen", "0.0.0.0:0")),
    Attempt("admin for everyone by IPv6", "not loopback", arguments=("--admin-listen", "[::]:0")),
    Attempt("a short token", "shorter than", '[admin]\ntoken = "secret"\n'),
    Attempt("a cache that others may write to", "written by other users", prepare=loose_directory),
    Attempt("objects that others may write to", "written by other users", prepare=loose_object_directory),
    Attempt("objects behind a link", "is a link", prepare=linked_object_directory),
    Attempt("an unknown setting", "unknown", "[server]\nverify = false\n"),
]
if os.geteuid() == 0:
    ATTEMPTS.append(Attempt("a cache of another user", "belongs to another user", prepare=foreign_directory))


async def fault_of(attempt: Attempt, room: Path) -> str | None:
    """What is wrong with how the node refused, None where nothing is."""
    attempt.prepare(room)
    (room / "c.toml").write_text(attempt.config.replace("{room}", str(room)))
    env = {name: value.replace("{room}", str(room)) for name, value in attempt.env.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cacheserver", "serve", "--config", str(room / "c.toml")),
        *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--cache-dir", str(room / "cache")),
        *attempt.arguments,
        cwd=room,
        env={**os.environ, "PYTHONPATH": str(_ROOT), **env},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            _, stderr = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        return f"{attempt.name}: it started"
    lines = stderr.decode().splitlines()
    if process.returncode != _EXIT_CONFIG or len(lines) != 1 or attempt.said not in lines[0]:
        return f"{attempt.name}: exit {process.returncode}, {lines[-3:]}"
    return None


async def measure(scene: Scene) -> Figure:
    """Every attempt, two at a time, and one start that is warned of."""
    turn = asyncio.Semaphore(2)

    async def attempted(number: int, attempt: Attempt) -> str | None:
        async with turn:
            return await fault_of(attempt, scene.room(f"attempt{number}"))

    found = await asyncio.gather(*(attempted(number, attempt) for number, attempt in enumerate(ATTEMPTS)))
    faults = [fault for fault in found if fault is not None]
    token = '[admin]\ntoken = "0123456789abcdef0123"\n'
    async with running_node(scene.room("exposed"), config=token) as node:
        if not any(line.get("event") == "token_readable" for line in node.log):
            faults.append("nothing is said of a token that everyone can read")
    refused = len(ATTEMPTS) - len(faults)
    return Figure(f"{refused} of {len(ATTEMPTS)} unsafe starts refused with one line, exposed token warned of", faults)


ROW = Row(
    "start-up: Python parser, old aiohttp, readable keys, `*` allow-lists, loose directories",
    "refused with exit code 2 and one line",
    measure,
)


@pytest.mark.timeout(120)
async def test_an_unsafe_node_does_not_start(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()


async def test_a_directory_that_others_may_only_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    async with running_node(tmp_path / "room", cache_dir=tmp_path / "cache"):
        assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


async def test_an_empty_directory_that_others_may_write_to_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o775)
    async with running_node(tmp_path / "room", cache_dir=tmp_path / "cache"):
        assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
