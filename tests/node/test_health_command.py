"""``cacheserver health``: what it asks, and that its exit code is the answer."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from tests.support.ground import Ground, GroundOptions
from tests.support.node import running_node

GROUND = GroundOptions()
TOKEN = "a-token-of-some-length"


async def health(folder: Path, config: str, *flags: str) -> tuple[int, str]:
    """Exit code and output of the command with these settings."""
    file = folder / "asked.toml"
    file.write_text(config)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cacheserver", "health", "--config", str(file), *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_running_node_is_alive_and_ready(ground: Ground, tmp_path: Path) -> None:
    config = f'[admin]\nlisten = "127.0.0.1:{ground.node.admin[1]}"\n'
    assert await health(tmp_path, config) == (0, "alive\n")
    assert await health(tmp_path, config, "--ready") == (0, "ready\n")


async def test_a_listener_for_everyone_is_asked_on_loopback_whatever_the_token(tmp_path: Path) -> None:
    async with running_node(tmp_path, config=f'[admin]\ntoken = "{TOKEN}"\n') as node:
        listen = f'[admin]\nlisten = "0.0.0.0:{node.admin[1]}"\n'
        assert await health(tmp_path, f'{listen}token = "{TOKEN}"\n') == (0, "alive\n")
        other = f'{listen}token = "another-token-of-some-length"\n'
        assert await health(tmp_path, other, "--ready") == (0, "ready\n"), "health needs no token"


async def test_a_node_that_drains_lives_but_is_not_ready(tmp_path: Path) -> None:
    async with running_node(tmp_path, config="[server]\ndrain_s = 5\n") as node:
        config = f'[admin]\nlisten = "127.0.0.1:{node.admin[1]}"\n'
        reader, writer = await asyncio.open_connection(*node.content)
        writer.write(b"GET /half HTTP/1.1\r\n")
        await writer.drain()
        node.process.send_signal(signal.SIGTERM)
        code, output = await health(tmp_path, config, "--ready")
        assert code == 1
        assert output.startswith("cacheserver: error: ")
        writer.close()
        await reader.read()


async def test_no_node_and_no_listener_are_one_line_each(ground: Ground, tmp_path: Path) -> None:
    code, output = await health(tmp_path, '[admin]\nlisten = "127.0.0.1:1"\n')
    assert (code, output) == (1, "cacheserver: error: no node answers on 127.0.0.1:1: Connection refused\n")
    code, output = await health(tmp_path, '[admin]\nlisten = ""\n')
    assert code == 2
    assert output.endswith("admin.listen: there is no admin listener to ask\n")
