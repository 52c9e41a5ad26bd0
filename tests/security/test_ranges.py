"""No Range field makes the node send or fetch much more than the object holds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.support.client import RawClient, Response
from tests.support.content import blob
from tests.support.ground import HOST, PIECE, Ground, GroundOptions, running_ground

SIZE = 3 * PIECE + 777
BODY = blob(7, SIZE)
_PART_HEAD_BYTES = 256


def values(count: int) -> list[str]:
    """Range fields: hand-made extremes, then drawn ones."""
    last = SIZE - 1
    made = [
        "bytes=" + ",".join(["0-"] * 1000), "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2000, 2)),
        "bytes=" + ",".join(f"-{n}" for n in range(1, 1000)), "bytes=" + ",".join(["0-0"] * 1000),
        "bytes=" + ",".join(f"{n}-{last}" for n in range(300)), f"bytes=0-{last},0-{last}", f"bytes=0-,{last}-,-1",
        "bytes=0-0,-1", "bytes=0-0, , ,1-1", "bytes=,", "bytes=-0", "bytes=-", "bytes=", "bytes", "bytes=--1",
        "bytes=1--1",
        "bytes=0-" + "9" * 19, "bytes=" + "9" * 19 + "-", "bytes=-" + "9" * 25, "bytes=0-" + "9" * 5000, "bytes=5-2",
        f"bytes=0-{2**63 - 1}", f"bytes=0-{2**64}", f"bytes={2**63}-{2**64}", f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE}",
        "bytes=\u0661-\u0662", "bytes=\u00b2-\u00b3", "bytes=1_0-2_0", "bytes=+1-+2", "bytes=0x0-0x9", "bytes=1e3-",
        "bytes=0 - 9", "bytes =0-9", "BYTES=0-9", "items=0-9", "bytes=0-9;q=1", "bytes=*-9", "bytes=0-*", "none=0-",
        "bytes=00000000000000000000000000-9", "bytes=0-9\t,\t20-29", "bytes=0-1,0-1,0-1,0-1,0-1,0-1", "bytes=,,,,,,0-9",
    ]  # fmt: skip
    draw = random.Random(6)
    while len(made) < count:
        many = draw.choice((1, 1, 2, 5, 40))
        spans = []
        for _ in range(many):
            first = draw.choice((0, draw.randrange(SIZE), last, SIZE, draw.randrange(2**70)))
            spans.append(draw.choice((f"{first}-", f"-{first}", f"{first}-{first + draw.randrange(2 * SIZE)}")))
        made.append("bytes=" + ",".join(spans))
    return made


def fault_of(value: str, answer: Response) -> str | None:
    """What is wrong with an answer, None where nothing is."""
    shown = value[:60]
    if answer.status not in (200, 206, 400, 416) or not answer.complete:
        return f"{shown}: {answer.status}, {answer.ending}"
    parts = answer.body.count(b"\r\nContent-Range: ")
    if len(answer.body) > SIZE + parts * _PART_HEAD_BYTES + _PART_HEAD_BYTES:
        return f"{shown}: {len(answer.body)} bytes in {parts} parts"
    if answer.status == 206 and not parts:
        first, last = map(int, (answer.fields.value("Content-Range") or "").split()[1].split("/")[0].split("-"))
        if answer.body != BODY[first : last + 1]:
            return f"{shown}: wrong bytes"
    return None


async def warm(ground: Ground, count: int) -> tuple[int, int, list[str]]:
    """Ask a stored object in every way: fields sent, most body bytes, faults."""
    path, faults, most = ground.add(BODY), [], 0
    assert (await ground.get(path)).body == BODY
    fields = values(count)
    async with RawClient(*ground.node.content) as client:
        for value in fields:
            line = ("Range", value.encode().decode("latin-1"))
            answer = await client.request("GET", path, [line], host=HOST)
            most = max(most, len(answer.body))
            fault = fault_of(value, answer)
            faults += [] if fault is None else [fault]
    if ground.origin.body_bytes(path) != SIZE:
        faults.append(f"the origin sent {ground.origin.body_bytes(path)} bytes for a stored object")
    return len(fields), most, faults


async def cold(ground: Ground) -> tuple[int, list[str]]:
    """One byte of cold objects at several places: the most that one cost upstream, and faults."""
    faults, most = [], 0
    for value in ("bytes=0-0", "bytes=-1", f"bytes={PIECE}-{PIECE}", f"bytes={2 * PIECE - 1}-{2 * PIECE - 1}"):
        path = ground.add(BODY)
        answer = await ground.get(path, ("Range", value))
        await ground.origin.wait_done(path)
        cost = ground.origin.body_bytes(path)
        most = max(most, cost)
        if answer.status != 206 or len(answer.body) != 1 or cost > PIECE:
            faults.append(f"cold {value}: {answer.status}, {len(answer.body)} bytes, {cost} upstream")
    return most, faults


async def measure(scene: Scene) -> Figure:
    """A stored object under many fields, and cold ones under a byte each."""
    async with running_ground(scene.room("node"), GroundOptions()) as ground:
        asked, most, faults = await warm(ground, scene.size(3000, 300))
        cost, found = await cold(ground)
    text = f"{asked} Range fields on {SIZE} bytes: at most {most} sent; a cold byte cost {cost} bytes upstream"
    return Figure(text, faults + found)


ROW = Row(
    "range abuse: 1,000 ranges, overlaps, overflow, long and non-ASCII digits",
    "<= object + part heads; a cold byte <= 1 piece upstream",
    measure,
)


@pytest.mark.timeout(180)
async def test_no_range_field_costs_more_than_the_object(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
