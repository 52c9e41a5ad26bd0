"""The rows about disk, eviction and the profile, with tiny sizes. No speed is tested here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import churn, cold_disk, coldrate, policy, profile
from bench.content import MIB
from bench.eviction_trace import hits_belady, hits_lru, hits_s3fifo, make_trace
from bench.lab import Lab
from bench.node import node_kind
from bench.page_cache import FilePages
from bench.profiled_node import ACCOUNT, CONNECTION, DECIDE, DELIVER, LOOK_UP, ROOMS
from bench.servers import find_program
from bench.stopwatch import Stopwatch

needs_nginx = pytest.mark.skipif(find_program("nginx") is None, reason="nginx is not installed")


def test_page_cache_forgets_a_file_and_says_which_pages_are_back(tmp_path: Path) -> None:
    file = tmp_path / "pages"
    file.write_bytes(os.urandom(4 * MIB))
    with FilePages(file) as pages:
        assert pages.resident(0, 4 * MIB) == 4 * MIB // 4096
        pages.settle()
        if pages.resident(0, 4 * MIB):
            pytest.skip("this file system keeps its pages")
        with file.open("rb", buffering=0) as reader:
            reader.seek(MIB)
            reader.read(4096)
        assert pages.resident(MIB, MIB + 4096) == 1


@needs_nginx
def test_cold_disk_row_proves_that_its_ranges_were_cold(lab: Lab) -> None:
    plan = cold_disk.ColdDiskPlan(objects=3, object_bytes=8 * MIB, runs=1, seconds=0.2, warmup_s=0.01, readers=4)
    found = cold_disk.run_cold_disk(lab, [node_kind()], plan)
    (row,) = found["rows"]
    assert row["faults"] == []
    assert row["hits"] > 0
    assert row["cold_requests"] > 0
    (measured,) = found["measures"]
    assert measured["bar"] == 5.0
    assert (measured["figure"] is None) == (row["cold_share"] < 0.95)


@needs_nginx
def test_cold_rate_has_a_row_with_every_piece_verified_and_one_without(lab: Lab) -> None:
    plan = coldrate.ColdRatePlan(objects=2, object_bytes=2 * MIB, cases=((4, True),))
    found = coldrate.run_coldrate(lab, [node_kind()], plan)
    assert [(row["server"], row["faults"]) for row in found["rows"]] == [
        ("cacheserver, verifying", []),
        ("cacheserver", []),
    ]
    assert all(row["gib_per_s"] > 0 and row["cpu_s_per_gib"] > 0 for row in found["rows"])
    assert {measure["bar"] for measure in found["measures"]} == {None, 192.0}


@needs_nginx
def test_churn_row_finds_no_wrong_answer_and_watches_what_the_disk_holds(lab: Lab) -> None:
    plan = churn.ChurnPlan(capacity_bytes=16 * MIB, object_bytes=4 * MIB, clients=2, rounds=1)
    found = churn.run_churn(lab, [node_kind()], plan)
    (row,) = found["rows"]
    assert row["faults"] == []
    assert row["checked_bytes"] == 2 * 8 * 4 * MIB
    assert row["peak_bytes"] > 8 * MIB
    assert row["fill_bytes_per_s"] > 0
    assert lab.store_bytes > plan.capacity_bytes


def test_occupied_bytes_count_a_deleted_file_that_is_held_open_once(tmp_path: Path) -> None:
    kept, held = tmp_path / "kept", tmp_path / "held"
    for file in (kept, held):
        file.write_bytes(os.urandom(MIB))
    os.sync()
    with held.open("rb"), kept.open("rb"):
        held.unlink()
        assert churn.occupied_bytes(tmp_path, [os.getpid()]) == pytest.approx(2 * MIB, rel=0.1)
    assert churn.occupied_bytes(tmp_path, [os.getpid()]) == pytest.approx(MIB, rel=0.1)


def test_split_belady_is_at_least_as_good_as_everything_else() -> None:
    trace, working_set_bytes = make_trace(4_000, scan=True)
    capacity_bytes = working_set_bytes // 20
    bound = hits_belady(trace, capacity_bytes, split=True)
    assert bound >= hits_belady(trace, capacity_bytes)
    assert bound > max(hits_lru(trace, capacity_bytes), hits_s3fifo(trace, capacity_bytes))


def test_split_belady_keeps_the_part_of_an_object_that_fits() -> None:
    trace = [(b"a", 6), (b"b", 6), (b"b", 6), (b"a", 6)]
    assert hits_belady(trace, 10) == 6
    assert hits_belady(trace, 10, split=True) == 6 + 4


def test_policy_row_states_the_lead_over_lru_and_the_gaps_to_belady(lab: Lab) -> None:
    found = policy.run_policy(lab, [node_kind()], policy.PolicyPlan(requests=2_000, capacity_shares=(0.05,)))
    lead, whole, split = found["measures"]
    assert (lead["bar"], lead["unit"]) == (2.0, "points")
    assert split["figure"] >= whole["figure"] > 0


# One way in the default run: every step is looked up at any start, so that a renamed one is noticed in both.
@needs_nginx
@pytest.mark.parametrize(
    ("way", "entered"),
    [
        (profile.FULL, set(ROOMS)),
        pytest.param(profile.LANE, {CONNECTION, LOOK_UP, DECIDE, DELIVER, ACCOUNT}, marks=pytest.mark.slow),
    ],
)
def test_profile_enters_every_room_of_its_way(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, way: str, entered: set[str]
) -> None:
    monkeypatch.setattr(profile, "find_program", lambda _name: None)
    monkeypatch.setattr(profile, "_CASES", profile._CASES[:1])
    monkeypatch.setattr(profile, "WAYS", (way,))
    plan = profile.ProfilePlan(object_bytes=2 * MIB, objects=1, connections=2, runs=1, seconds=0.3, warmup_s=0.2)
    found = profile.run_profile(lab, [node_kind()], plan)
    (row,) = found["rows"]
    assert found["wrong"] is False
    assert {room for room, times in row["entered"].items() if times > 0.5} == entered
    assert row["cpu_us"] > 0


async def test_stopwatch_gives_each_room_its_own_steps_and_passes_results_and_errors_on() -> None:
    watch = Stopwatch()

    async def inner(fail: bool) -> int:
        if fail:
            raise LookupError("asked for")
        return 7

    watched = watch.wrap(inner, "inner")

    async def outer() -> int:
        with pytest.raises(LookupError, match="asked for"):
            await watched(True)
        answer: int = await watched(False)
        return answer

    assert await watch.wrap(outer, "outer")() == 7
    assert {room: calls for room, (_seconds, calls) in watch.rooms().items()} == {"inner": 2, "outer": 1}
    watch.reset()
    assert watch.rooms()["inner"][1] == 0
