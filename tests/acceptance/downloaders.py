"""curl, wget and aria2c through the node: whole files, ranges, and what is left of a file after a cut.

Owns their options. Every form of request occurs: cache-host form, Host form, absolute form.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.acceptance.lab import OWN_HOST, Case, ClientFailed, Lab
from tests.support.ground import DO_HOST

_TOKEN = "P1=1700000000&P2=404&P3=2&P4=abc%2bdef%3d%3d"
_READ_BYTES = 1 << 16

Runner = Callable[[Lab, Path, random.Random], Awaitable[Case]]


async def curl_whole(lab: Lab, source: Path, _random: random.Random) -> Case:
    """The whole file in cache-host form, as a Delivery Optimization client asks."""
    case = Case("curl, whole file, cache-host form", "curl")
    path = lab.add("/curl-whole/payload.bin", source)
    for name in ("cold", "warm"):
        folder = lab.folder(f"curl-whole-{name}")
        async with lab.run(case, name, [path]):
            url = f"{lab.node_url}{path}?{_TOKEN}&cacheHostOrigin={DO_HOST}"
            await lab.command(case, ["curl", "-sS", "-f", "-o", "payload.bin", url], cwd=folder)
        lab.check(path, folder / "payload.bin")
    lab.expect_once_then_never(case)
    return case


async def curl_ranges(lab: Lab, source: Path, chance: random.Random) -> Case:
    """Four ranges with borders at any byte, put together again; Host form."""
    case = Case("curl -r, four ranges, Host form", "curl")
    path = lab.add("/curl-ranges/payload.bin", source)
    size = lab.sizes[path]
    borders = [0, *sorted(chance.sample(range(1, size), 3)), size]
    for name in ("cold", "warm"):
        folder = lab.folder(f"curl-ranges-{name}")
        async with lab.run(case, name, [path]):
            for number, (start, stop) in enumerate(itertools.pairwise(borders)):
                argv = ["curl", "-sS", "-f", *_connect_to(lab), "-r", f"{start}-{stop - 1}", "-o", f"part{number}"]
                await lab.command(case, [*argv, f"http://{OWN_HOST}{path}"], cwd=folder)
        _join(folder, [f"part{number}" for number in range(4)], "payload.bin")
        lab.check(path, folder / "payload.bin")
    lab.expect_once_then_never(case)
    return case


async def curl_resume(lab: Lab, source: Path, chance: random.Random) -> Case:
    """curl is killed after any number of bytes; ``-C -`` gets the rest."""
    argv = ["curl", "-sS", "-f", *_connect_to(lab)]
    return await _resumed(lab, source, chance, "curl -C -, after a cut", argv, first=["-N"], then=["-C", "-", "-o"])


async def wget_whole(lab: Lab, source: Path, _random: random.Random) -> Case:
    """The whole file in cache-host form."""
    case = Case("wget, whole file, cache-host form", "wget")
    path = lab.add("/wget-whole/payload.bin", source)
    for name in ("cold", "warm"):
        folder = lab.folder(f"wget-whole-{name}")
        async with lab.run(case, name, [path]):
            url = f"{lab.node_url}{path}?{_TOKEN}&cacheHostOrigin={DO_HOST}"
            await lab.command(case, ["wget", "-q", "-O", "payload.bin", url], cwd=folder)
        lab.check(path, folder / "payload.bin")
    lab.expect_once_then_never(case)
    return case


async def wget_resume(lab: Lab, source: Path, chance: random.Random) -> Case:
    """wget is killed after any number of bytes; ``-c`` gets the rest; absolute form, as through a proxy."""
    argv = ["wget", "-q", "-e", "use_proxy=on", "-e", f"http_proxy={lab.node_url}"]
    return await _resumed(lab, source, chance, "wget -c, after a cut", argv, first=["-O", "-"], then=["-c", "-O"])


async def aria2_eight(lab: Lab, source: Path, _random: random.Random) -> Case:
    """Eight connections at once, each with a share of the file; absolute form."""
    case = Case("aria2c, 8 connections, absolute form", "aria2c")
    path = lab.add("/aria2/payload.bin", source)
    for name in ("cold", "warm"):
        folder = lab.folder(f"aria2-{name}")
        async with lab.run(case, name, [path]):
            argv = ["aria2c", "-q", "-x", "8", "-s", "8", "-k", "1M", "--file-allocation=none", "-o", "payload.bin"]
            url = f"http://{OWN_HOST}{path}"
            await lab.command(case, [*argv, f"--all-proxy={lab.node_url}", url], cwd=folder)
        lab.check(path, folder / "payload.bin")
        if sum(case.runs[-1].outcomes.values()) < 8:
            raise ClientFailed("aria2c asked in fewer than eight parts")
    lab.expect_once_then_never(case)
    return case


DOWNLOADERS: tuple[tuple[str, Runner], ...] = (
    ("curl", curl_whole),
    ("curl", curl_ranges),
    ("curl", curl_resume),
    ("wget", wget_whole),
    ("wget", wget_resume),
    ("aria2c", aria2_eight),
)
"""Program that must be installed, and what to do with it."""


def _connect_to(lab: Lab) -> list[str]:
    return ["--connect-to", f"{OWN_HOST}:80:{lab.node_address}"]


async def _resumed(
    lab: Lab, source: Path, chance: random.Random, title: str, argv: list[str], *, first: list[str], then: list[str]
) -> Case:
    case = Case(title, argv[0])
    path = lab.add(f"/{argv[0]}-resume/payload.bin", source)
    cut = chance.randrange(1, lab.sizes[path])
    for name in ("cold", "warm"):
        folder = lab.folder(f"{argv[0]}-resume-{name}")
        url = f"http://{OWN_HOST}{path}"
        async with lab.run(case, name, [path]):
            await _cut_at(lab, case, [*argv, *first, url], folder / "payload.bin", cut)
            await lab.command(case, [*argv, *then, "payload.bin", url], cwd=folder)
        lab.check(path, folder / "payload.bin")
    case.notes.append(f"Killed after {cut:,} of {lab.sizes[path]:,} bytes.")
    cold, warm = case.runs
    if cold.origin_bytes > cold.file_bytes * 1.5 or warm.origin_requests:
        raise ClientFailed(f"{title}: {cold.origin_bytes} bytes of the origin, then {warm.origin_requests} requests")
    return case


async def _cut_at(lab: Lab, case: Case, argv: Sequence[str], into: Path, cut: int) -> None:
    """Start a program that writes to its output, take ``cut`` bytes of it into a file, kill it."""
    shown = lab.shown(" ".join(argv)) + "   (killed)"
    if shown not in case.commands:
        case.commands.append(shown)
    process = await asyncio.create_subprocess_exec(*argv, cwd=into.parent, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        with into.open("wb") as file:
            while file.tell() < cut:
                data = await process.stdout.read(min(_READ_BYTES, cut - file.tell()))
                if not data:
                    raise ClientFailed(f"{shown}: ended before byte {cut}")
                file.write(data)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _join(folder: Path, parts: Sequence[str], name: str) -> None:
    with (folder / name).open("wb") as whole:
        for part in parts:
            whole.write((folder / part).read_bytes())
