"""One answer per request that was meant, and the connection ends behind a malformed one, however the bytes arrive."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.security.heads import Case, cases
from tests.security.raw import exchange
from tests.support.ground import Ground, GroundOptions, running_ground

_AT_ONCE = 16
_REFUSED = frozenset({400, 403, 405, 413, 501, 505})


def fault_of(case: Case, statuses: tuple[int, ...], closed: bool) -> str | None:
    """What is wrong with an outcome, None where nothing is."""
    right = len(statuses) == len(case.statuses) and all(
        got in _REFUSED or got == 431 if want == 0 else got == want
        for got, want in zip(statuses, case.statuses, strict=True)
    )
    if not right:
        return f"{case.name}: {statuses} instead of {case.statuses}"
    if case.closes != closed and 403 not in statuses[-1:]:
        return f"{case.name}: {'stays open' if case.closes else 'closes'} behind {statuses}"
    return None


async def attack(ground: Ground, path: str, every: int) -> tuple[int, list[str]]:
    """Send every case in one part and split at every ``every``-th byte; how many were sent, and what was wrong."""
    room = asyncio.Semaphore(_AT_ONCE)
    faults: list[str] = []
    sent = 0

    async def send(case: Case, *parts: bytes) -> None:
        nonlocal sent
        async with room:
            try:
                outcome = await exchange(ground.node.content, parts)
            except (TimeoutError, AssertionError) as error:
                faults.append(f"{case.name}: split {[len(part) for part in parts]}: {error!r}")
                return
        sent += 1
        fault = fault_of(case, outcome.statuses, outcome.closed)
        if fault is not None:
            faults.append(f"{fault}, split {[len(part) for part in parts]}")

    sendings = []
    for number, case in enumerate(cases(path)):
        sendings.append(send(case, case.data))
        if len(case.data) < 2000:
            cuts = range(1 + number % every, len(case.data), every)
            sendings += [send(case, case.data[:cut], case.data[cut:]) for cut in cuts]
    await asyncio.gather(*sendings)
    return sent, faults


async def measure(scene: Scene) -> Figure:
    """Everything against a node with the fast lane and one without."""
    total, faults = 0, []
    for lane in ("true", "false"):
        options = GroundOptions(config=f"[server]\nfast_lane = {lane}\n")
        async with running_ground(scene.room(f"lane-{lane}"), options) as ground:
            path = ground.add(b"the one right body")
            for _ in range(2):
                assert (await ground.get(path)).status == 200
            sent, found = await attack(ground, path, scene.size(1, 11))
            total += sent
            faults += [f"lane {lane}: {fault}" for fault in found]
            asked = {record.target for record in ground.origin.requests}
            faults += [f"lane {lane}: went upstream: {target}" for target in asked - {path}]
    text = (
        f"{total} sendings of {len(cases('/'))} heads, lane on and off: {len(faults)} wrong answers, counts or endings"
    )
    return Figure(text, faults)


ROW = Row(
    "smuggling and malformed heads, split at every byte",
    "one answer per meant request; closed after a 400; lane on and off",
    measure,
)


@pytest.mark.timeout(180)
async def test_every_meant_request_gets_one_answer_and_a_malformed_one_ends_the_connection(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
