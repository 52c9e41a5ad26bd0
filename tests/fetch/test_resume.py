"""Going on after a break: what is there is hashed again, what is missing is fetched, generations never mix."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.fetch.scene import HOST, PATH, PIECE, URL, Outcome, Scene
from tests.support.content import Content, Fault, blob
from tests.support.flow import eventually

SIZE = 8 * PIECE + 77


async def killed_fetch(scene: Scene, number: int, ready: str) -> None:
    """Run the command in a process of its own and kill it once its note holds what ``ready`` names."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cacheserver", "fetch", URL, "-o", str(scene.output), "--quiet"),
        *("--connect-to", f"{HOST}={scene.origin.address}"),
        cwd=Path(__file__).resolve().parents[2],
    )
    note = Path(f"{scene.output}.part.json")

    async def written() -> bool:
        assert process.returncode is None, "ended by itself"
        return note.exists() and progress(json.loads(note.read_bytes()).get(ready)) >= number

    await eventually(written)
    process.send_signal(signal.SIGKILL)
    await process.wait()


def progress(value: object) -> int:
    """Pieces of a bitmap, or bytes of a count."""
    return (
        int.from_bytes(bytes.fromhex(value), "little").bit_count() if isinstance(value, str) else int(str(value or 0))
    )


def test_progress_reads_both_notes() -> None:
    assert (progress("0f01"), progress(7), progress(None)) == (5, 7, 0)


async def test_pieces_of_a_killed_run_are_kept_if_their_bytes_are_right(scene: Scene) -> None:
    scene.hold(SIZE)
    gate = scene.origin.gate(PATH, at=7 * PIECE)
    scene.origin.connection_rate_bps = 2.5 * PIECE
    await killed_fetch(scene, 3, "done")
    note = json.loads(Path(f"{scene.output}.part.json").read_bytes())
    noted = [piece for piece in range(9) if int.from_bytes(bytes.fromhex(note["done"]), "little") >> piece & 1]
    with open(f"{scene.output}.part", "r+b") as part:
        part.seek(noted[0] * PIECE + 5)
        part.write(b"rot")
    gate.open()
    scene.origin.connection_rate_bps = None
    scene.origin.requests.clear()
    outcome = await scene.fetch("--hash-of-hashes", scene.hash_of_hashes)
    assert outcome.code == 0, outcome.err
    assert scene.written()
    assert sorted(scene.pieces_asked(scene.origin)) == sorted(set(range(9)) - set(noted[1:]))
    assert outcome.facts["resumed_bytes"] == (len(noted) - 1) * PIECE


async def interrupted(scene: Scene, *arguments: str) -> Outcome:
    """A run that fails after the first three pieces of the content."""
    scene.origin.fault(PATH, Fault(truncate_after=3 * PIECE), always=Fault.refusing(404))
    outcome = await scene.fetch(*arguments)
    assert outcome.code == 1, outcome.err
    scene.origin.heal(PATH)
    scene.origin.requests.clear()
    return outcome


async def no_metadata(scene: Scene, *, etag: str | None = '"v1"') -> None:
    scene.hold(SIZE, etag=etag)
    scene.origin.fault(f"{PATH}/pieceshash", always=Fault.refusing(404))


async def test_simple_mode_goes_on_by_if_range(scene: Scene) -> None:
    await no_metadata(scene)
    await interrupted(scene)
    outcome = await scene.fetch()
    assert outcome.code == 4, outcome.err
    assert scene.written()
    [record] = scene.origin.asked(PATH)
    resumed = outcome.facts["resumed_bytes"]
    assert 0 < resumed <= 3 * PIECE
    assert (record.range, record.fields.value("If-Range")) == (f"bytes={resumed}-", '"v1"')


async def test_simple_mode_begins_anew_when_the_generation_changed(scene: Scene) -> None:
    await no_metadata(scene)
    await interrupted(scene)
    scene.body = blob(5, SIZE)
    scene.origin.add(PATH, Content(scene.body, etag='"v2"'))
    outcome = await scene.fetch()
    assert outcome.code == 4, outcome.err
    assert scene.written()
    assert outcome.facts["resumed_bytes"] == 0


async def test_simple_mode_never_goes_on_from_bytes_that_rotted(scene: Scene) -> None:
    await no_metadata(scene)
    await interrupted(scene)
    with open(f"{scene.output}.part", "r+b") as part:
        part.write(b"rot")
    outcome = await scene.fetch("--sha256", scene.sha256)
    assert outcome.code == 0, outcome.err
    assert [record.range for record in scene.origin.asked(PATH)] == [None]


async def test_simple_mode_without_a_validator_begins_anew_within_a_run(scene: Scene) -> None:
    await no_metadata(scene, etag=None)
    scene.origin.fault(PATH, Fault(truncate_after=3 * PIECE))
    outcome = await scene.fetch()
    assert outcome.code == 4, outcome.err
    assert scene.written()
    assert [record.range for record in scene.origin.asked(PATH)] == [None, None]


async def test_simple_mode_refuses_a_body_whose_end_cannot_be_told(scene: Scene) -> None:
    await no_metadata(scene)
    scene.origin.fault(PATH, Fault(framing="close"), Fault(framing="chunked-broken"))
    outcome = await scene.fetch()
    assert outcome.code == 4, outcome.err
    assert scene.written()


async def test_empty_content(scene: Scene) -> None:
    await no_metadata(scene)
    scene.body = b""
    scene.origin.add(PATH, Content(b""))
    assert (await scene.fetch()).code == 4
    assert scene.written()


@pytest.mark.parametrize("note", [b"", b"{}", b"[1]", b'{"type":"pieces","hash_of_hashes":"x","done":"zz"}', b"\xff"])
async def test_damaged_note_means_beginning_anew(scene: Scene, note: bytes) -> None:
    scene.hold(SIZE)
    Path(f"{scene.output}.part").write_bytes(b"x" * SIZE * 2)
    Path(f"{scene.output}.part.json").write_bytes(note)
    outcome = await scene.fetch("--hash-of-hashes", scene.hash_of_hashes)
    assert outcome.code == 0, outcome.err
    assert scene.written()
    assert sorted(scene.pieces_asked(scene.origin)) == list(range(9))


async def test_two_fetches_of_one_file_do_not_mix(scene: Scene) -> None:
    import fcntl

    scene.hold(SIZE)
    held = os.open(f"{scene.output}.part", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    outcome = await scene.fetch()
    os.close(held)
    assert outcome.code == 1
    assert "another fetch" in outcome.err
