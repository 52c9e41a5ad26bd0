"""When what is said of contents has changed, and what a node does then.

Owns: the eras of trust: one begins at a reload, when a catalogue has expired, and once a day where services are asked.
Must not judge objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from cacheserver.core.request.service import Service
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.judging import Judge
from cacheserver.maintenance.rejudging import Rejudging
from cacheserver.trust.anchors import Anchors

EVERY_S: Final = 30.0
"""How late an expired catalogue may be given up."""
SERVICES_EVERY_S: Final = 86_400.0
"""How often trust services are asked again about what is stored."""


class TrustWatch:
    """``services`` gives those in use; ``forget`` takes what the fast lane would answer without a look-up from it."""

    def __init__(
        self,
        *,
        anchors: Anchors,
        judge: Judge,
        rejudging: Rejudging,
        coordinator: Coordinator,
        services: Callable[[], Iterable[Service]],
        forget: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._anchors = anchors
        self._judge = judge
        self._rejudging = rejudging
        self._coordinator = coordinator
        self._services = services
        self._forget = forget
        self._sleep = sleep
        self._spoke = False
        """Whether anything was said or demanded when the last era began."""

    def judge_all(self) -> None:
        """Have what is stored, and what is on its way, judged where anything is said or demanded, or was until now."""
        demanded = any(service.require == "anchored" for service in self._services())
        speaks = demanded or self._anchors.speaks
        if speaks or self._spoke:
            self._coordinator.ask_again()
            self._rejudging.ask_all()
        self._spoke = speaks

    def begin_era(self) -> None:
        """What is said of contents has changed: no object is given out before it was looked at again."""
        self._judge.begin_era()
        self._forget()
        self.judge_all()

    async def run(self) -> None:
        """Watch until cancelled."""
        since_s = 0.0
        while True:
            await self._sleep(EVERY_S)
            since_s += EVERY_S
            due = self._anchors.asks and since_s >= SERVICES_EVERY_S
            if self._anchors.expire() or due:
                since_s = 0.0
                self.begin_era()
