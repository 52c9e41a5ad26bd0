"""Counting and logging of the fast lane's answers, in the owner and in its workers."""

from __future__ import annotations

from collections.abc import Callable

from cacheserver.core.request.client import Client
from cacheserver.logs.access_json import AccessLogLines, LineTemplate
from cacheserver.ports import Clock
from cacheserver.web.lane.hot_table import HotEntry

_TEMPLATES_LIMIT = 64
LANE_CACHE_STATUS = "cacheserver; hit"
Count = Callable[[str, str, int, int, float, Client, float | None], None]


class HitAccount:
    """Writes each answer of the lane to the metrics and the access log; ``count`` is ``ports.AnswerMeter.request``."""

    def __init__(self, *, count: Count, access_log: AccessLogLines | None, clock: Clock) -> None:
        self._count = count
        self._access_log = access_log
        self._monotonic_s = clock.monotonic_s

    def lane(
        self,
        entry: HotEntry,
        status: int,
        body_bytes: int,
        started_s: float,
        client: Client,
        range_: bytes | None,
        first_byte_s: float | None = None,
    ) -> None:
        """Account for one answer of the fast lane."""
        duration_s = self._monotonic_s() - started_s
        self._count(entry.label.service, "hit", status, body_bytes, duration_s, client, first_byte_s)
        if self._access_log is None:
            return
        template = entry.log_lines.get(client.address)
        if template is None:
            template = self._template(self._access_log, entry, client.address)
        self._access_log.record_again(template, status, body_bytes, duration_s, range_)

    def _template(self, access_log: AccessLogLines, entry: HotEntry, client: str) -> LineTemplate:
        if len(entry.log_lines) >= _TEMPLATES_LIMIT:
            entry.log_lines.clear()
        label = entry.label
        template = entry.log_lines[client] = access_log.template(
            client=client,
            method="GET",
            form=label.form,
            service=label.service,
            host=label.host,
            path=label.path,
            outcome="hit",
            cache=LANE_CACHE_STATUS,
            ua=label.user_agent,
        )
        return template
