"""Snapshots of the eviction order: the same victims after a restart, and no trust in damaged data."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheserver.core.eviction.s3fifo import S3Fifo


def unit(number: int) -> bytes:
    """A key; odd numbers are extents."""
    name = number.to_bytes(16, "big")
    return name + b"\0\7" if number % 2 else name


def evict(policy: S3Fifo, need_bytes: int) -> list[bytes]:
    return policy.victims(need_bytes, skip=lambda _key: False)


def busy_policy(seed: int, steps: int) -> S3Fifo:
    rng = Random(seed)
    policy = S3Fifo(capacity_bytes=2000, ghost_entries=0)
    for _ in range(steps):
        key = unit(rng.randrange(200))
        if key in policy:
            policy.touch(key)
        else:
            policy.admit(key, rng.randrange(100))
        evict(policy, policy.used_bytes - 2000)
    return policy


@given(seed=st.integers(0, 1000), steps=st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_restored_policy_chooses_the_same_victims(seed: int, steps: int) -> None:
    policy = busy_policy(seed, steps)
    restored = S3Fifo(capacity_bytes=2000, ghost_entries=0)
    restored.restore(policy.snapshot())
    assert list(restored.units()) == list(policy.units())
    assert restored.snapshot() == policy.snapshot()
    assert evict(restored, 700) == evict(policy, 700)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_damaged_snapshot_is_refused_and_leaves_an_empty_policy(data: st.DataObject) -> None:
    snapshot = bytearray(busy_policy(1, 100).snapshot())
    if data.draw(st.booleans(), label="cut"):
        del snapshot[data.draw(st.integers(0, len(snapshot) - 1), label="at") :]
    else:
        position = data.draw(st.integers(0, len(snapshot) - 1), label="position")
        snapshot[position] ^= data.draw(st.integers(1, 255), label="flip")
    policy = busy_policy(2, 50)
    with pytest.raises(ValueError, match="eviction snapshot"):
        policy.restore(bytes(snapshot))
    assert len(policy) == 0
    assert policy.used_bytes == 0


def signed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def head(small: int, main: int, version: int = 1) -> bytes:
    return b"S3FQ" + bytes([version]) + b"\0\0\0" + small.to_bytes(8, "little") + main.to_bytes(8, "little")


ONE_SIZE = (5).to_bytes(8, "little")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(head(0, 0, version=2), id="another version"),
        pytest.param(head(2**63, 0), id="absurd number of units"),
        pytest.param(head(0, 0) + b"\0", id="bytes left over"),
        pytest.param(head(1, 0) + b"\x04\x10" + ONE_SIZE + bytes(16), id="frequency above three"),
        pytest.param(head(1, 0) + b"\x00\x11" + ONE_SIZE + bytes(17), id="key of 17 bytes"),
        pytest.param(head(1, 1) + b"\0\0\x10\x10" + ONE_SIZE * 2 + bytes(32), id="same key twice"),
        pytest.param(head(1, 0) + b"\x00\x10" + b"\xff" * 8 + bytes(16), id="size out of range"),
    ],
)
def test_well_signed_nonsense_is_refused(body: bytes) -> None:
    policy = busy_policy(3, 50)
    with pytest.raises(ValueError):
        policy.restore(signed(body))
    assert len(policy) == 0


def test_snapshot_written_by_hand_is_read() -> None:
    policy = S3Fifo(capacity_bytes=100)
    policy.restore(signed(head(1, 0) + b"\x03\x10" + ONE_SIZE + bytes(16)))
    assert list(policy.units()) == [(bytes(16), 5)]
