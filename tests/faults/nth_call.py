"""Every disk call of a run that fills, serves, evicts and starts again fails once: the first, the second, and so on."""

from __future__ import annotations

import errno
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cacheserver.settings.schema import Settings
from tests.faults.disk_layer import DiskLayer, NthCall, works
from tests.faults.figures import Figure, Size, all_of, none_of
from tests.faults.in_process import InProcess, running, settings_for
from tests.faults.load import GONE, Tally
from tests.support.content import Content, blob
from tests.support.flow import eventually
from tests.support.ground import FRESH
from tests.support.origin import Origin
from tests.support.stored import bytes_on_disk

PIECE = 65_536
CONFIG = """
[store]
piece_size = "64KiB"
extent = "128KiB"
retry_offline_s = 1
io_threads = 2
[fill]
backoff_s = 0.01
pass_memory_s = 0
linger_s = 0
span_pieces = 2
parallel = 2
"""
CAPACITY = "1MiB"
SIZES = {"/small": 5_000, "/middle": 3 * PIECE + 100, "/large": 7 * PIECE, "/other": 6 * PIECE + 1}
BODIES = {path: blob(700 + number, size) for number, (path, size) in enumerate(SIZES.items())}
STALE = ("/middle",)
SPANS: tuple[tuple[str, int, int | None], ...] = (
    ("/small", 0, None),
    ("/middle", 0, None),
    ("/middle", 70_000, 140_000),
    ("/large", 3 * PIECE, 4 * PIECE),
    ("/large", 0, None),
    ("/small", 0, 100),
    ("/other", 0, None),
    ("/middle", 0, None),
    ("/large", 5, 3 * PIECE),
)
STUCK_S = 15.0


@dataclass(slots=True)
class Outcome:
    """Of all runs."""

    tally: Tally = field(default_factory=Tally)
    stuck: int = 0
    runs: int = 0
    clean_restarts: int = 0
    faults: list[str] = field(default_factory=list)
    failed_calls: Counter[str] = field(default_factory=Counter)


async def ask_all(node: InProcess, outcome: Outcome, label: str) -> None:
    """Every span once."""
    for path, start, stop in SPANS:
        body = BODIES[path]
        headers = () if stop is None else (("Range", f"bytes={start}-{stop - 1}"),)
        before = outcome.tally.right
        try:
            answer = await node.get(path, headers, timeout_s=STUCK_S)
            outcome.tally.judge(answer, (body if stop is None else body[start:stop],), 200 if stop is None else 206)
        except TimeoutError:
            outcome.stuck += 1
        except GONE:
            outcome.tally.cut += 1
        if outcome.tally.right == before:
            outcome.faults.append(f"{label}: {path} {start}-{stop} was not answered rightly")


async def one_run(directory: Path, origin: Origin, number: int, error: int, outcome: Outcome) -> bool:
    """A run in which call ``number`` fails; False when there were fewer calls."""
    volume = directory / "cache"
    settings = settings_for(directory, origin, CONFIG, [volume], CAPACITY)
    layer, rule = DiskLayer(volume), NthCall(number, error)
    label = f"call {number} with {errno.errorcode[error]}"
    with layer.installed():
        layer.rule = rule
        for _ in range(2):
            try:
                async with running(settings) as node:
                    await ask_all(node, outcome, label)
                outcome.faults += [f"{label}, {rule.failed}: {fault}" for fault in node.faults]
            except Exception as exc:  # a node that cannot even start is a finding
                outcome.faults.append(f"{label}, {rule.failed}: {type(exc).__name__}: {exc}")
        layer.rule = works
        outcome.runs += 1
        await _start_cleanly(settings, volume, outcome, label)
    if rule.failed is not None:
        outcome.failed_calls[rule.failed.name] += 1
    shutil.rmtree(directory)
    return rule.failed is not None


async def _start_cleanly(settings: Settings, volume: Path, outcome: Outcome, label: str) -> None:
    """After the fault: everything is answered, and the ledger is what the disk holds."""
    before = outcome.tally.right
    async with running(settings) as node:
        await node.recovered()
        await ask_all(node, outcome, f"after {label}")

        async def nothing_reserved() -> bool:
            return not node.volumes[0].ledger.reserved_bytes

        await eventually(nothing_reserved)
        ledger = node.volumes[0].ledger.stored_bytes
        on_disk = bytes_on_disk(volume)
    right = outcome.tally.right - before == len(SPANS)
    if ledger != on_disk:
        outcome.faults.append(f"after {label}: the ledger says {ledger}, the disk holds {on_disk}")
    outcome.clean_restarts += right and ledger == on_disk and not node.faults


def _add_contents(origin: Origin) -> None:
    for path, body in BODIES.items():
        headers = (("Cache-Control", "max-age=0"),) if path in STALE else FRESH
        origin.add(path, Content(body, headers=headers))


async def run(directory: Path, size: Size) -> list[Figure]:
    """In full size every call fails once with EIO and once with ENOSPC; reduced, every 37th."""
    outcome, ended, step = Outcome(), 0, size.choose(37, 1)
    until_s = time.monotonic() + size.choose(240, 1500)
    async with Origin() as origin:
        _add_contents(origin)
        for error in (errno.EIO, errno.ENOSPC):
            number = 1
            while time.monotonic() < until_s:
                if not await one_run(directory / f"{error}-{number}", origin, number, error, outcome):
                    ended += 1
                    break
                number += step
    calls = sum(outcome.failed_calls.values())
    fault = f"disk call N fails, N = 1 … ({calls} runs)"
    for line in (*outcome.faults[:10], *outcome.tally.examples[:5]):
        print("  ", line)
    print("  ", dict(outcome.failed_calls))
    return [
        none_of(fault, "wrong answers", outcome.tally.wrong, among=f"{outcome.tally.requests} requests"),
        none_of(fault, "stuck requests", outcome.stuck, among=f"{outcome.tally.requests} requests"),
        none_of(fault, "faults of the node's own", len(outcome.faults), among=f"{outcome.runs} runs"),
        all_of(fault, "clean restarts", outcome.clean_restarts, outcome.runs),
        all_of(fault, "series up to a run without a fault", ended, 2),
    ]
