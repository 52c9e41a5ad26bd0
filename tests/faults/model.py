"""Model-based stress: a real node that evicts all the time, everything done to it at once, every byte judged.

Rounds of a minute, each with a seed of its own that decides cache size, fast lane, disk and paths. Afterwards the node
is left alone, and files, catalogue, ledger, blocks and descriptors must agree. FAULTS_MODEL_MINUTES shortens the full
size, FAULTS_MODEL_SEED is the first round's seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory

from tests.faults.figures import Figure, Size, at_least, none_of
from tests.faults.model_acts import Acts
from tests.faults.model_books import balanced
from tests.faults.model_clients import Asking, whole
from tests.faults.model_truth import Path, Truth, Verdicts
from tests.support.certificates import cert_pem
from tests.support.client import RawClient
from tests.support.content import Content
from tests.support.disks import tmpfs, why_no_tmpfs
from tests.support.ground import FRESH, HOST
from tests.support.manifests import phf
from tests.support.node import Node, NodeFailed, running_node
from tests.support.origin import Origin
from tests.support.tls_scene import PKI, install, issue

PIECE = 65_536
LARGE = 16 * PIECE
CLIENTS = 12
FIRST_SEED = 20_140
_ROUND_S = 60
_END_S = 25.0
_BROKEN = 3
"""Pieces that are begun and not ended, at the end."""
_SLOW = ("0:0", "0.1:0.1", "0.03:0.4")
"""Shares of disk calls that wait, and for how many seconds at most."""
_FSIZE = 8 << 20
"""Above the journal of the catalogue."""
_FAULTS = ("loop_error", "failed", "admin_failed", "bad_descriptor")
CONFIG = """
[server]
listen_tls = ["127.0.0.1:0"]
fast_lane = {lane}
[store]
piece_size = "64KiB"
extent = "256KiB"
open_objects = 16
retry_offline_s = 1
[fill]
linger_s = 0.2
pass_memory_s = 0.2
[log]
access = false
[tls]
certificate = "tls/node.pem"
key = "tls/node.key"
names = ["cache.example.test"]
[services.model]
hosts = ["http://cdn.example.test"]
lifetime = "rfc"
forward_fields = ["*"]
manifests = [{{ path = "/m/?", url = "{{base}}/pieceshash" }}]
"""


@dataclass(slots=True)
class Outcome:
    """Of all rounds."""

    rounds: int = 0
    verdicts: Verdicts = field(default_factory=Verdicts)
    acts: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    """Reasons that the node gives for the answers that it broke off."""
    unexplained: list[str] = field(default_factory=list)
    books: dict[str, list[str]] = field(default_factory=dict)
    """Differences at the end of rounds, by invariant."""
    faults: list[str] = field(default_factory=list)
    """What the node has logged as its own fault."""
    offline: list[str] = field(default_factory=list)


def _paths(rng: random.Random) -> list[Path]:
    """Large ones, more small ones than the node keeps open, one beyond the largest file that the node may write."""
    paths = [Path(f"/p/{n}", LARGE, rng.choice((0, 1, 1, 2)), tagged=n != 3) for n in range(6)]
    paths += [Path(f"/s/{n}", 9000, rng.choice((0, 1, 2)), tagged=n % 5 != 0) for n in range(40)]
    paths += [Path(f"/v/{n}", 100_000, 1, (("Vary", "Accept-Language"),)) for n in range(2)]
    paths += [Path(f"/m/{n}", LARGE // 2, 1, changes=False) for n in range(2)]
    return [*paths, Path("/huge", _FSIZE + PIECE, 1)]


@asynccontextmanager
async def _running(
    directory: FilePath, cache_dir: FilePath, origin: Origin, slow: str, max_size: str, config: str
) -> AsyncIterator[Node]:
    folder = directory / "tls"
    folder.mkdir(parents=True)
    install(folder, issue(days_left=20))
    async with running_node(
        directory,
        connect_to={HOST: origin.address},
        config=config,
        max_size=max_size,
        cache_dir=cache_dir,
        module="tests.faults.slowed",
        env={"FAULTS_SLOW": slow, "FAULTS_FSIZE": str(_FSIZE)},
    ) as node:
        yield node


async def _round(directory: FilePath, seed: int, seconds: float, outcome: Outcome) -> None:
    rng = random.Random(seed)
    most_bytes = rng.choice((LARGE * 3 // 2, LARGE * 3 // 2, LARGE * 4))
    removing, slow = rng.random() < 0.4, f"{seed}:{rng.choice(_SLOW)}"
    config = CONFIG.format(lane="true" if rng.random() < 0.7 else "false")
    with ExitStack() as stack:
        disk = None
        if not why_no_tmpfs() and rng.random() < 0.6:
            disk = stack.enter_context(tmpfs(directory / "disk", f"{most_bytes + (8 << 20)}"))
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where blocks are pages and no more
        place = disk or FilePath(stack.enter_context(TemporaryDirectory(dir=memory)))
        async with Origin(connection_rate_bps=40e6) as origin:
            truth = Truth(origin, rng)
            for path in _paths(rng):
                truth.add(path)
                if path.path.startswith("/m/"):
                    origin.add(f"{path.path}/pieceshash", Content(phf(path.generations[0].body, PIECE), headers=FRESH))
            try:
                async with _running(directory, place / "cache", origin, slow, f"{most_bytes}", config) as node:
                    asking = Asking(
                        node,
                        truth,
                        outcome.verdicts,
                        tls=ssl.create_default_context(cadata=cert_pem(PKI.root).decode()),
                    )
                    acts = Acts(asking, origin, random.Random(seed), config, disk=disk, removing=removing)
                    try:
                        await _stress(asking, acts, seed, seconds)
                        await _end(asking, acts, outcome, seed, before_scrub=not removing)
                    finally:
                        _take_down(asking, acts, node, outcome, seed)
            except NodeFailed as exc:
                outcome.faults.append(f"seed {seed}: {exc}")


async def _stress(asking: Asking, acts: Acts, seed: int, seconds: float) -> None:
    clients = [asyncio.create_task(asking.keep_asking(random.Random(seed * 100 + n))) for n in range(CLIENTS)]
    try:
        await acts.run(seconds)
    finally:
        asking.stop.set()
        await asyncio.gather(*clients)


async def _end(asking: Asking, acts: Acts, outcome: Outcome, seed: int, *, before_scrub: bool) -> None:
    """Nobody asks any more. The books must be right, with pieces that were begun too, and after a pass of the scrubber.

    ``before_scrub``: before it too, as no file was removed, which only that pass may find.
    """
    await _fetched_whole(asking)
    if before_scrub:
        await _compare(asking, outcome, seed, 0)
    for _ in range(_BROKEN):
        await acts.break_origin()
    if before_scrub:
        await _compare(asking, outcome, seed, _BROKEN * PIECE)
    for _ in range(2):  # the first one may end a pass that has met some rows before their files went
        await _scrubbed(asking.node)
    await _compare(asking, outcome, seed, _BROKEN * PIECE)


async def _fetched_whole(asking: Asking) -> None:
    """Pieces that were begun when their source was too slow are ended: they are charged whole until then."""
    async with RawClient(*asking.node.content) as client:
        for path in asking.truth.paths.values():
            assert await asking.pipelined(client, [whole(path)]), f"{path.path} does not come"


async def _scrubbed(node: Node) -> None:
    mark = len(node.log)
    async with RawClient(*node.admin) as client:
        headers = [("Content-Type", "application/json"), ("Content-Length", "2")]
        await client.send(client.head("POST", "/api/v1/scrub", headers) + b"{}")
        assert (await client.receive()).status == 202
    await node.wait_log(lambda line: line.get("event") == "scrub_complete", since=mark)


async def _compare(asking: Asking, outcome: Outcome, seed: int, begun_bytes: int) -> None:
    was_full = bool(asking.full.spans)
    books = await balanced(asking.node, was_full=was_full, within_s=_END_S, begun_bytes=begun_bytes)
    for invariant, difference in books.differences(begun_bytes).items():
        bad = outcome.books.setdefault(invariant, [])
        if difference and not (bad and bad[-1].startswith(f"seed {seed}:")):
            bad.append(f"seed {seed}: {difference}")


def _take_down(asking: Asking, acts: Acts, node: Node, outcome: Outcome, seed: int) -> None:
    outcome.acts.update(acts.done)
    outcome.unexplained += [f"seed {seed}: {line}" for line in asking.unexplained]
    for line in node.log:
        told = str(line.get("event"))
        outcome.cuts[str(line.get("reason"))] += told == "cut"
        if told in _FAULTS or "unexpected" in told:
            outcome.faults.append(f"seed {seed}: {str(line)[:400]}")
        if told in ("volume_offline", "volume_lost"):
            outcome.offline.append(f"seed {seed}: {line}")


async def run(directory: FilePath, size: Size) -> list[Figure]:
    """30 minutes in full size, 10 seconds reduced."""
    minutes = float(os.environ.get("FAULTS_MODEL_MINUTES", "30"))
    seconds = 10.0 if size is Size.REDUCED else minutes * 60
    first_seed = int(os.environ.get("FAULTS_MODEL_SEED", FIRST_SEED))
    rounds, outcome = max(1, round(seconds / _ROUND_S)), Outcome()
    for seed in range(first_seed, first_seed + rounds):
        print(f"   model: seed {seed}", flush=True)
        await _round(directory / str(seed), seed, seconds / rounds, outcome)
        outcome.rounds += 1
    _tell(outcome)
    return _figures(f"model, {seconds:.0f} s from seed {first_seed}", outcome, seconds)


def _tell(outcome: Outcome) -> None:
    verdicts = outcome.verdicts
    print("  ", dict(outcome.acts), dict(verdicts.kinds), f"refused {dict(verdicts.refused)}")
    print("  ", f"cut {verdicts.cut}, by the node {dict(+outcome.cuts)}")
    lists = (verdicts.wrong, outcome.unexplained, outcome.faults, outcome.offline, *outcome.books.values())
    for lines in lists:
        for line in lines[:6]:
            print("  ", line)


def _figures(fault: str, outcome: Outcome, seconds: float) -> list[Figure]:
    verdicts, rounds = outcome.verdicts, f"{outcome.rounds} rounds"
    refused = verdicts.unexcused[502] + verdicts.unexcused[504]
    return [
        none_of(fault, "wrong answers", len(verdicts.wrong), among=f"{verdicts.answers} answers"),
        at_least(fault, "right answers", verdicts.right / seconds, 10, unit="/s"),
        none_of(fault, "502 and 504 of a healthy origin", refused, among=f"{verdicts.answers} answers"),
        none_of(fault, "unexplained cuts and 5xx", len(outcome.unexplained), among=f"{verdicts.answers} answers"),
        none_of(fault, "faults in the log", len(outcome.faults), among=rounds),
        none_of(fault, "volumes offline or lost", len(outcome.offline), among=rounds),
        *(
            none_of(fault, f"rounds not in line: {each}", len(lines), among=rounds)
            for each, lines in outcome.books.items()
        ),
    ]
