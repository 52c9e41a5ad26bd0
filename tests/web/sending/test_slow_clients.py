"""The lowest rate that a client may read at."""

from __future__ import annotations

import pytest

from cacheserver.web.sending.slow_clients import reads_too_slowly


@pytest.mark.parametrize(
    ("taken_bytes", "waited_s", "min_rate_bps", "slow"),
    [
        (0, 30.0, 1024, True),
        (30 * 1024 - 1, 30.0, 1024, True),
        (30 * 1024, 30.0, 1024, False),
        (40 * 1024, 45.0, 1024, True),
        (0, 30.0, 0, False),
    ],
)
def test_a_client_is_slow_below_the_lowest_rate(
    taken_bytes: int, waited_s: float, min_rate_bps: int, slow: bool
) -> None:
    assert reads_too_slowly(taken_bytes, waited_s, min_rate_bps=min_rate_bps) == slow
