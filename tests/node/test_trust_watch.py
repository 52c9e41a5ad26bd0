"""When an era of trust begins: at an expiry, once a day where services are asked, and never for nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from cacheserver.core.request.service import Service
from cacheserver.node.trust_watch import EVERY_S, SERVICES_EVERY_S, TrustWatch


@dataclass
class Parts:
    """Stands for anchors, judge and background work; notes what is called."""

    asks: bool = False
    speaks: bool = False
    expired: bool = False
    calls: list[str] = field(default_factory=list)

    def expire(self) -> bool:
        """Whether a catalogue has expired just now."""
        was, self.expired = self.expired, False
        return was

    def begin_era(self) -> None:
        """See ``Judge``."""
        self.calls.append("era")

    def ask_again(self) -> None:
        """See ``Coordinator``."""
        self.calls.append("fills")

    def ask_all(self) -> None:
        """See ``Rejudging``."""
        self.calls.append("all")


async def watched(parts: Any, rounds: int, *, require: str = "any") -> TrustWatch:
    """A watch that has looked so many times."""
    left = rounds

    async def sleep(_seconds: float) -> None:
        nonlocal left
        if not left:
            raise asyncio.CancelledError
        left -= 1

    watch = TrustWatch(
        anchors=parts,
        judge=parts,
        rejudging=parts,
        coordinator=parts,
        services=lambda: [Service(name="s", hosts=("a.test",), own=True, require=cast(Any, require))],
        forget=lambda: parts.calls.append("forgotten"),
        sleep=sleep,
    )
    with pytest.raises(asyncio.CancelledError):
        await watch.run()
    return watch


async def test_an_expiry_begins_an_era_and_the_lane_forgets() -> None:
    parts = Parts(speaks=True, expired=True)
    await watched(parts, 3)
    assert parts.calls == ["era", "forgotten", "fills", "all"]


@pytest.mark.parametrize(("asks", "eras"), [(True, 2), (False, 0)])
async def test_services_are_asked_again_once_a_day(asks: bool, eras: int) -> None:
    parts = Parts(asks=asks, speaks=asks)
    await watched(parts, int(2 * SERVICES_EVERY_S / EVERY_S))
    assert parts.calls.count("era") == eras


async def test_all_is_judged_only_where_something_is_said_or_demanded_or_was_until_now() -> None:
    parts = Parts()
    watch = await watched(parts, 0)
    watch.judge_all()
    assert parts.calls == []
    parts.speaks = True
    watch.judge_all()
    parts.speaks = False
    watch.judge_all()
    watch.judge_all()
    assert parts.calls == ["fills", "all"] * 2
    (await watched(parts, 0, require="anchored")).judge_all()
    assert parts.calls == ["fills", "all"] * 3
