"""Eviction: byte accounting, S3-FIFO's promises, bounded work."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cacheserver.core.eviction import s3fifo as eviction
from cacheserver.core.eviction.s3fifo import S3Fifo


def unit(number: int) -> bytes:
    """A key; odd numbers are extents."""
    name = number.to_bytes(16, "big")
    return name + b"\0\7" if number % 2 else name


def never(_key: bytes) -> bool:
    return False


def evict(policy: S3Fifo, need_bytes: int, skip: Callable[[bytes], bool] = never) -> list[bytes]:
    return policy.victims(need_bytes, skip=skip)


KEYS = st.integers(0, 40).map(unit)
SIZES = st.integers(0, 1000)


class PolicyAgainstModel(RuleBasedStateMachine):
    """The policy next to a plain dict of sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = S3Fifo(capacity_bytes=5000, ghost_entries=16)
        self.sizes: dict[bytes, int] = {}

    @rule(key=KEYS, size=SIZES)
    def admit(self, key: bytes, size: int) -> None:
        self.policy.admit(key, size)
        self.sizes[key] = self.sizes.get(key, 0) + size

    @rule(key=KEYS)
    def touch(self, key: bytes) -> None:
        self.policy.touch(key)

    @rule(key=KEYS, delta=st.integers(-500, 500))
    def grow(self, key: bytes, delta: int) -> None:
        if key not in self.sizes:
            assert not self.policy.grow(key, delta)
        elif self.sizes[key] + delta < 0:
            with pytest.raises(ValueError, match="out of range"):
                self.policy.grow(key, delta)
        else:
            assert self.policy.grow(key, delta)
            self.sizes[key] += delta

    @rule(key=KEYS)
    def remove(self, key: bytes) -> None:
        assert self.policy.remove(key) == self.sizes.pop(key, 0)

    @rule(need=st.integers(-10, 6000), pinned=st.sets(KEYS))
    def evict(self, need: int, pinned: set[bytes]) -> None:
        chosen = self.policy.victims(need, skip=pinned.__contains__)
        assert len(set(chosen)) == len(chosen)
        assert not pinned.intersection(chosen)
        freed = [self.sizes.pop(key) for key in chosen]
        assert sum(freed) >= need or not set(self.sizes) - pinned
        assert not chosen or sum(freed[:-1]) < need

    @rule()
    def restart(self) -> None:
        self.policy.restore(self.policy.snapshot())

    @invariant()
    def same_units_and_bytes(self) -> None:
        assert dict(self.policy.units()) == self.sizes
        assert self.policy.used_bytes == sum(self.sizes.values())
        assert len(self.policy) == len(self.sizes)
        for number in range(41):
            assert (unit(number) in self.policy) == (unit(number) in self.sizes)


TestPolicyAgainstModel = PolicyAgainstModel.TestCase
TestPolicyAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_index_finds_every_unit_after_much_coming_and_going() -> None:
    rng = Random(7)
    policy = S3Fifo(capacity_bytes=1)
    present: set[int] = set()
    for _ in range(40_000):
        number = rng.randrange(6000)
        if number in present:
            assert policy.remove(unit(number)) == 1
            present.remove(number)
        else:
            policy.admit(unit(number), 1)
            present.add(number)
    assert {number for number in range(6000) if unit(number) in policy} == present


def test_units_leave_in_order_of_arrival_when_none_was_used_again() -> None:
    policy = S3Fifo(capacity_bytes=100)
    for number in range(10):
        policy.admit(unit(number), 10)
    assert evict(policy, 35) == [unit(number) for number in range(4)]


def test_unit_used_twice_in_the_small_queue_outlives_newcomers() -> None:
    policy = S3Fifo(capacity_bytes=100)
    for number in range(10):
        policy.admit(unit(number), 10)
    policy.touch(unit(0))
    policy.touch(unit(0))
    policy.touch(unit(1))
    assert evict(policy, 20) == [unit(1), unit(2)]
    assert unit(0) in policy


def test_one_use_does_not_earn_a_place_in_the_main_queue() -> None:
    policy = S3Fifo(capacity_bytes=100)
    policy.admit(unit(0), 60)
    policy.admit(unit(1), 60)
    policy.touch(unit(0))
    assert evict(policy, 20) == [unit(0)]


def test_main_queue_gives_one_more_round_per_use_up_to_three() -> None:
    policy = S3Fifo(capacity_bytes=1000)
    for _ in range(2):  # the second time they are ghosts and start in the main queue
        evict(policy, 20)
        policy.admit(unit(0), 10)
        policy.admit(unit(2), 10)
    for _ in range(50):
        policy.touch(unit(0))
    assert evict(policy, 10) == [unit(2)]
    policy.admit(unit(2), 10)
    for _ in range(3):
        policy.touch(unit(2))
    assert evict(policy, 10) == [unit(0)]


def test_returning_unit_is_a_ghost_hit_and_starts_in_the_main_queue() -> None:
    policy = S3Fifo(capacity_bytes=100)
    policy.admit(unit(0), 10)
    assert evict(policy, 10) == [unit(0)]
    policy.admit(unit(0), 30)
    assert (policy.ghost_hits, policy.ghost_hit_bytes) == (1, 30), "30 of the 4096 that 10 are rounded up to"
    for number in range(1, 4):
        policy.admit(unit(number), 10)
    assert evict(policy, 10) == [unit(1)]
    assert unit(0) in policy


def test_bytes_that_come_back_count_up_to_what_was_evicted_and_no_further() -> None:
    policy = S3Fifo(capacity_bytes=1 << 20)
    policy.admit(unit(0), 3 * 4096)
    evict(policy, 1)
    for _piece in range(5):
        policy.admit(unit(0), 4096)
    assert (policy.ghost_hits, policy.ghost_hit_bytes) == (1, 3 * 4096)
    evict(policy, 1)
    policy.admit(unit(0), 4096)
    policy.remove(unit(0))
    policy.admit(unit(0), 4096)
    assert (policy.ghost_hits, policy.ghost_hit_bytes) == (2, 4 * 4096), "purged and stored anew is no return"


def test_a_unit_counts_as_kept_by_twice_the_capacity_while_fewer_left_since_than_are_here() -> None:
    policy = S3Fifo(capacity_bytes=200 * 4096, ghost_entries=1024)
    for number in range(400):  # 200 leave, 200 stay
        policy.admit(unit(number), 4096)
        if policy.used_bytes > policy.capacity_bytes:
            assert evict(policy, 1) == [unit(number - 200)]
    policy.admit(unit(199), 4096)  # the last to leave
    assert policy.ghost_hits == 1
    for number in range(200, 300):
        assert evict(policy, 1) == [unit(number)]
    policy.admit(unit(5), 4096)  # 294 left since, about 100 are here
    assert policy.ghost_hits == 1


def test_purged_unit_is_no_ghost() -> None:
    policy = S3Fifo(capacity_bytes=100)
    policy.admit(unit(0), 10)
    policy.remove(unit(0))
    policy.admit(unit(0), 10)
    assert policy.ghost_hits == 0


def test_without_ghost_entries_nothing_is_remembered() -> None:
    policy = S3Fifo(capacity_bytes=100, ghost_entries=0)
    policy.admit(unit(0), 10)
    evict(policy, 10)
    policy.admit(unit(0), 10)
    assert policy.ghost_hits == 0


def test_scan_of_single_use_units_does_not_flush_the_working_set() -> None:
    working_set = [unit(number) for number in range(80)]
    policy = S3Fifo(capacity_bytes=1000)
    lru: OrderedDict[bytes, None] = OrderedDict()

    def ask(key: bytes) -> None:
        if key in policy:
            policy.touch(key)
        else:
            missing = policy.used_bytes + 10 - 1000
            evict(policy, missing)
            policy.admit(key, 10)
        lru[key] = None
        lru.move_to_end(key)
        while len(lru) > 100:
            lru.popitem(last=False)

    for _ in range(4):
        for key in working_set:
            ask(key)
    for number in range(1000, 1400):
        ask(unit(number))
    assert sum(key in lru for key in working_set) == 0
    assert sum(key in policy for key in working_set) >= 70


def test_pinned_units_are_passed_over_and_stay() -> None:
    policy = S3Fifo(capacity_bytes=100)
    for number in range(10):
        policy.admit(unit(number), 10)
    pinned = {unit(0), unit(1)}
    assert evict(policy, 10, pinned.__contains__) == [unit(2)]
    assert pinned <= {key for key, _ in policy.units()}
    assert [key for key, _ in policy.units()][-2:] == [unit(0), unit(1)]


def test_everything_pinned_ends_with_each_unit_asked_once() -> None:
    policy = S3Fifo(capacity_bytes=100)
    for number in range(50):
        policy.admit(unit(number), 10)
    asked: list[bytes] = []

    def pinned(key: bytes) -> bool:
        asked.append(key)
        return True

    assert evict(policy, 10, pinned) == []
    assert sorted(asked) == sorted(unit(number) for number in range(50))
    assert policy.used_bytes == 500


def test_work_is_bounded_when_every_unit_is_hot(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = S3Fifo(capacity_bytes=100)
    for number in range(60):
        policy.admit(unit(number), 10)
        for _ in range(3):
            policy.touch(unit(number))
    promotions = 0
    original = S3Fifo._promote

    def counted(self: S3Fifo, slot: int) -> bool:
        nonlocal promotions
        promotions += 1
        return original(self, slot)

    monkeypatch.setattr(eviction, "STEP_LIMIT", 20)
    monkeypatch.setattr(S3Fifo, "_promote", counted)
    assert len(evict(policy, 30)) == 3
    assert promotions == 20


def test_work_is_bounded_when_too_many_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "STEP_LIMIT", 20)
    policy = S3Fifo(capacity_bytes=100)
    for number in range(60):
        policy.admit(unit(number), 10)
    asked: list[bytes] = []

    def pinned(key: bytes) -> bool:
        asked.append(key)
        return True

    assert evict(policy, 10, pinned) == []
    assert len(asked) == 20
    assert len(policy) == 60


def test_failing_skip_loses_no_unit() -> None:
    policy = S3Fifo(capacity_bytes=100)
    for number in range(5):
        policy.admit(unit(number), 10)

    def broken(key: bytes) -> bool:
        if key == unit(2):
            raise RuntimeError("pin table")
        return True

    with pytest.raises(RuntimeError):
        evict(policy, 10, broken)
    assert len(policy) == 5
    assert policy.used_bytes == 50


def test_nothing_is_evicted_for_no_need() -> None:
    policy = S3Fifo(capacity_bytes=1)
    policy.admit(unit(0), 100)
    assert evict(policy, 0) == []
    assert evict(policy, -5) == []


@pytest.mark.parametrize("key", [b"", b"x" * 15, b"x" * 17, b"x" * 19])
def test_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="16 or 18"):
        S3Fifo(capacity_bytes=1).admit(key, 1)


@pytest.mark.parametrize("size", [-1, 2**62 + 1])
def test_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        S3Fifo(capacity_bytes=1).admit(unit(0), size)


def test_negative_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        S3Fifo(capacity_bytes=-1)
    with pytest.raises(ValueError, match="negative"):
        S3Fifo(capacity_bytes=1, ghost_entries=-1)


def test_what_is_stored_already_is_admitted_once_and_never_grows() -> None:
    policy = S3Fifo(capacity_bytes=1000)
    policy.admit(b"known-----------", 10)
    policy.admit_unless_known(b"known-----------", 700)
    policy.admit_unless_known(b"stored----------", 20)
    assert (len(policy), policy.used_bytes) == (2, 30)
    for key, size_bytes, why in ((b"short", 1, "16 or 18"), (b"too large-------", 2**63, "size")):
        with pytest.raises(ValueError, match=why):
            policy.admit_unless_known(key, size_bytes)
    assert len(policy) == 2
