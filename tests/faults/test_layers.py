"""The harnesses can fail: what they stand on does what it says, and a node without its safeguards is found out."""

from __future__ import annotations

import errno
import os
import random
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cacheserver.concurrency.keyed_lock import KeyedLock
from cacheserver.core.cache import answer
from cacheserver.fill.object.claims import Progress
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.open_objects import OpenObjects
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from tests.faults import power_cut, simulation
from tests.faults.disk_layer import Call, DiskLayer, NthCall
from tests.faults.figures import Size, in_time, table
from tests.faults.trace import Disk, Loss, Op


def test_a_figure_beyond_its_bar_is_shown_as_such() -> None:
    rows = [in_time("x", "late", [1.0, 3.0], 2.0, Size.FULL), in_time("x", "soon", [1.0], 2.0, Size.FULL)]
    assert [row.within for row in rows] == [False, True]
    assert table(rows).count("| NO ") == 1
    assert in_time("x", "never", [], 2.0, Size.FULL).within is False


def test_the_layer_fails_the_call_that_the_rule_names_and_no_other_file(tmp_path: Path) -> None:
    inside, outside = tmp_path / "volume", tmp_path / "elsewhere"
    inside.mkdir()
    layer = DiskLayer(inside)
    with layer.installed():
        layer.rule = NthCall(2, errno.EIO)
        fd = os.open(inside / "file", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with pytest.raises(OSError, match="Input/output") as caught:
                os.pwrite(fd, b"data", 0)
            assert caught.value.errno == errno.EIO
            assert os.pwrite(fd, b"data", 0) == 4
            layer.rule = lambda _call: errno.EIO
            os.close(os.open(outside, os.O_RDWR | os.O_CREAT, 0o600))
        finally:
            os.close(fd)
    assert layer.made == {"open": 1, "pwrite": 2}


def test_a_call_is_known_to_write_or_not() -> None:
    assert Call("open", "x", 0, ("x", os.O_RDWR | os.O_CREAT)).writes
    assert not Call("open", "x", 0, ("x", os.O_RDONLY)).writes
    assert not Call("sendfile", "x", 0, ()).writes
    assert Call("punch", "x", 0, ()).writes


TRACE = [
    Op("create", "a.new"),
    Op("write", "a.new", 0, data=b"1" * 4096),
    Op("sync", "a.new"),
    Op("write", "a.new", 4096, data=b"2" * 8192),
    Op("rename", "a.new", target="a"),
]


def cut(directory: Path, loss: Loss, seed: int) -> dict[str, bytes]:
    disk = Disk()
    for op in TRACE:
        disk.apply(op)
    directory.mkdir()
    disk.write_out(directory, loss, random.Random(seed))
    return {place.name: place.read_bytes() for place in directory.iterdir()}


@pytest.mark.parametrize("loss", Loss)
def test_synced_bytes_survive_a_cut_and_others_may_not(tmp_path: Path, loss: Loss) -> None:
    seen = [cut(tmp_path / str(seed), loss, seed) for seed in range(60)]
    assert all(len(files) == 1 for files in seen)
    assert {name for files in seen for name in files} == {"a", "a.new"}
    bodies = {body for files in seen for body in files.values()}
    assert all(body.startswith(b"1" * 4096) for body in bodies)
    assert {4096, 12_288} <= {len(body) for body in bodies}
    assert any(len(body) % 4096 for body in bodies) == (loss is Loss.TORN)


async def test_a_store_that_does_not_check_its_pieces_is_found_by_power_cuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "trace"
    directory.mkdir()
    trace = await power_cut.record(directory, 1)
    monkeypatch.setattr(ObjectFile, "check_piece", lambda _file, _piece: None)
    disk, verdict = Disk(), power_cut.Verdict()
    for number, op in enumerate(trace):
        disk.apply(op)
        if number % 4 == 3 and not verdict.bad:
            place = tmp_path / str(number)
            place.mkdir()
            disk.write_out(place, Loss.SUBSET, random.Random(number))
            await power_cut.judge(place, verdict, str(number))
            shutil.rmtree(place)
    assert verdict.bad


def test_a_node_that_does_not_look_at_generations_is_found_by_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "check_generation", lambda *_args, **_options: None)
    _ran, _delivered, failed = simulation.run_seeds(0, 10, float("inf"))
    assert any("I5" in line for line in failed), failed


def test_one_seed_is_one_simulation() -> None:
    assert simulation.run_seeds(5, 6, float("inf")) == simulation.run_seeds(5, 6, float("inf"))


def first_failure(seeds: range) -> str:
    """What ends the first seed that fails."""
    runs = (simulation.run_seeds(seed, seed + 1, float("inf"))[2] for seed in seeds)
    return next((failed[0] for failed in runs if failed), "")


class Blind(set[str]):
    """Does not know what it holds."""

    def __contains__(self, _item: object) -> bool:
        return False


def test_two_transitions_of_one_object_at_once_are_found_by_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = OpenObjects.__init__

    def blind(objects: OpenObjects, **parts: Any) -> None:
        begin(objects, **parts)
        objects.creating = Blind()

    monkeypatch.setattr(OpenObjects, "__init__", blind)
    monkeypatch.setattr(KeyedLock, "holding", lambda _lock, _key: nullcontext())
    monkeypatch.setattr(KeyedLock, "__contains__", lambda _lock, _key: False)
    assert "IllegalTransition" in first_failure(range(100, 200))


def test_a_reader_for_whom_nobody_plans_is_found_by_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "wake_unclaimed", lambda _progress: None)
    assert "no flight is under way" in first_failure(range(200, 240))


def test_a_generation_that_is_removed_in_place_of_another_is_found_by_simulation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def whatever_is_there(store: Store, obj: StoredObject, *, reason: str) -> None:
        await store.forget(obj.object_id, reason=reason)

    monkeypatch.setattr(Store, "retire", whatever_is_there)
    assert "not meant" in first_failure(range(50, 350))
