"""Stress of what is said of contents: a signed catalogue that changes, two sources of which one lies, late manifests.

Rounds of a minute, each with a seed of its own. A real node takes up statements that come, go and contradict, while
piece-hash files are late, wrong, withheld or in other pieces, bytes flip on its disk under slow readers, and it is
stopped and started at any moment; over plain connections, the fast lane and TLS. At the end all is said rightly: every
content must come, and the books of the node must be right. FAULTS_MODEL_MINUTES and FAULTS_MODEL_SEED are as for
``model``.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from cacheserver.trust.signing import new_private_key, public_key
from tests.faults.figures import Figure, Size, at_least, none_of
from tests.faults.model_books import balanced
from tests.faults.statements_acts import LIAR, Acts
from tests.faults.statements_clients import Asking
from tests.faults.statements_truth import Spoken, Tally
from tests.support.certificates import cert_pem
from tests.support.content import Content, blob
from tests.support.ground import FRESH
from tests.support.manifests import b64
from tests.support.node import Node, NodeFailed, running_node
from tests.support.origin import Origin
from tests.support.tls_scene import PKI, install, issue

PIECE = 65_536
LARGE, SMALL = 20 * PIECE + 1234, 50_000
CLIENTS = 5
FIRST_SEED = 30_150
_ROUND_S = 60
_END_S = 25.0
_FAULTS = ("loop_error", "failed", "admin_failed", "bad_descriptor")
DEMANDING, LAX = "strict.example.test", "lax.example.test"
CONFIG = """
[server]
listen_tls = ["127.0.0.1:0"]
drain_s = 0.5
[store]
piece_size = "64KiB"
[fill]
linger_s = 0.2
pass_memory_s = 0.2
hold_timeout_s = {hold_s}
[scrub]
max_rate = "1GiB"
busy_rate = "100GiB"
pause_above_fills = 1000
[log]
access = false
[tls]
certificate = "tls/node.pem"
key = "tls/node.key"
names = ["cache.example.test"]
[trust]
catalogues = ["catalogue.json"]
catalogue_keys = ["{key}"]
"""
SERVICE = """
[services.{name}]
hosts = ["http://{name}.example.test"]
require = "{require}"
forward_fields = ["*"]
manifests = [{{ path = "/c/?", url = "{{base}}/pieceshash" }}]
sources = ["{liar}"]
prefer_sources = {prefer}
"""


@dataclass(slots=True)
class Outcome:
    """Of all rounds."""

    rounds: int = 0
    tally: Tally = field(default_factory=Tally)
    acts: Counter[str] = field(default_factory=Counter)
    books: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def _contents(rng: random.Random, origin: Origin, liar: Origin) -> list[Spoken]:
    """Of each service two large ones and two of a single piece; the liar has other bytes in some of their pieces."""
    made = []
    for number in range(8):
        host, size = (DEMANDING, LAX)[number % 2], (SMALL, LARGE)[number // 4]
        right = blob(rng.getrandbits(40), size)
        lie = bytearray(right)
        pieces = range(0, size, PIECE)
        for at in rng.sample(pieces, max(1, len(pieces) // 3)):
            lie[at : at + PIECE] = blob(rng.getrandbits(40), len(lie[at : at + PIECE]))
        content = Spoken(host, f"/c/{number}", right, bytes(lie), host == DEMANDING, PIECE)
        content.say(None, 0.0)
        made.append(content)
        tag = f'"{number}"'
        origin.add(content.path, Content(right, etag=tag, headers=FRESH))
        liar.add(content.path, Content(bytes(lie), etag=tag, headers=FRESH))
    return made


async def _round(directory: Path, seed: int, seconds: float, outcome: Outcome) -> None:
    rng = random.Random(seed)
    private_key = new_private_key()
    config = CONFIG.format(key=b64(public_key(private_key)), hold_s=rng.choice((0.3, 5)))
    for name, require in (("strict", "anchored"), ("lax", "any")):
        prefer = "true" if rng.random() < 0.6 else "false"
        config += SERVICE.format(name=name, require=require, liar=LIAR.removesuffix(":80"), prefer=prefer)
    most_bytes = rng.choice((2 * LARGE, 8 * LARGE))
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where blocks are pages and no more
    (directory / "tls").mkdir(parents=True)
    install(directory / "tls", issue(days_left=20))
    with TemporaryDirectory(dir=memory) as place:
        async with Origin(connection_rate_bps=40e6) as origin, Origin(connection_rate_bps=40e6) as liar:
            contents = _contents(rng, origin, liar)
            catalogue = directory / "catalogue.json"
            hosts = {DEMANDING: origin.address, LAX: origin.address, "liar.example.test": liar.address}
            Acts.write(catalogue, private_key, (), 0)
            try:
                async with running_node(
                    directory,
                    connect_to=hosts,
                    config=config,
                    max_size=f"{most_bytes}",
                    cache_dir=Path(place) / "cache",
                    module="tests.faults.slowed",
                    env={"FAULTS_SLOW": f"{seed}:{rng.choice(('0:0', '0.05:0.1'))}"},
                ) as node:
                    tls = ssl.create_default_context(cadata=cert_pem(PKI.root).decode())
                    asking = Asking(node, contents, outcome.tally, tls)
                    acts = Acts(asking, rng, origin=origin, liar=liar, catalogue=catalogue, key=private_key)
                    try:
                        await _stress(asking, acts, seed, seconds)
                        await _end(node, acts, outcome, seed)
                    finally:
                        outcome.acts.update(acts.done)
                        _look_at_log(node, outcome, seed)
            except (NodeFailed, TimeoutError) as exc:
                outcome.faults.append(f"seed {seed}: {exc!r}")


async def _stress(asking: Asking, acts: Acts, seed: int, seconds: float) -> None:
    for content in asking.contents:
        acts.manifest_of(content, acts.origin, content.right, "right")
        acts.manifest_of(content, acts.liar, content.lie, "right")
    clients = [asyncio.create_task(asking.keep_asking(random.Random(seed * 100 + n))) for n in range(CLIENTS)]
    try:
        await acts.run(seconds)
    finally:
        asking.stop.set()
        await asyncio.gather(*clients)


async def _end(node: Node, acts: Acts, outcome: Outcome, seed: int) -> None:
    """Nobody asks any more: flipped bytes are found, all is said rightly, every content comes, the books are right."""
    mark = len(node.log)
    await acts.scrub()
    await node.wait_log(lambda line: line.get("event") == "scrub_complete", since=mark)
    await acts.healed()
    books = await balanced(node, was_full=False, within_s=_END_S)
    for invariant, difference in books.differences().items():
        outcome.books.setdefault(invariant, []).extend([f"seed {seed}: {difference}"] * bool(difference))


def _look_at_log(node: Node, outcome: Outcome, seed: int) -> None:
    for line in node.log:
        told = str(line.get("event"))
        if told in _FAULTS or "unexpected" in told or told in ("volume_offline", "volume_lost"):
            outcome.faults.append(f"seed {seed}: {str(line)[:400]}")


async def run(directory: Path, size: Size) -> list[Figure]:
    """30 minutes in full size, 8 seconds reduced."""
    minutes = float(os.environ.get("FAULTS_MODEL_MINUTES", "30"))
    seconds = 8.0 if size is Size.REDUCED else minutes * 60
    first_seed = int(os.environ.get("FAULTS_MODEL_SEED", FIRST_SEED))
    rounds, outcome = max(1, round(seconds / _ROUND_S)), Outcome()
    for seed in range(first_seed, first_seed + rounds):
        print(f"   statements: seed {seed}", flush=True)
        before = len(outcome.tally.wrong)
        await _round(directory / str(seed), seed, seconds / rounds, outcome)
        outcome.tally.wrong[before:] = [f"seed {seed}: {line}" for line in outcome.tally.wrong[before:]]
        outcome.rounds += 1
    tally = outcome.tally
    print("  ", dict(outcome.acts), f"right {tally.right}, cut {tally.cut}, 5xx {tally.refused}")
    print("  ", f"condemned under readers: {tally.under_readers}")
    for lines in (tally.wrong, outcome.faults, *outcome.books.values()):
        for line in lines[:8]:
            print("  ", line)
    return _figures(f"statements, {seconds:.0f} s from seed {first_seed}", outcome, seconds)


def _figures(fault: str, outcome: Outcome, seconds: float) -> list[Figure]:
    tally, rounds = outcome.tally, f"{outcome.rounds} rounds"
    return [
        none_of(fault, "wrong answers", len(tally.wrong), among=f"{tally.answers} answers"),
        at_least(fault, "right answers", tally.right / seconds, 2, unit="/s"),
        none_of(fault, "faults in the log", len(outcome.faults), among=rounds),
        *(
            none_of(fault, f"rounds not in line: {each}", len(lines), among=rounds)
            for each, lines in outcome.books.items()
        ),
    ]
