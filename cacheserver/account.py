"""Counting and logging of finished exchanges, the same for every way an answer comes about."""

from __future__ import annotations

import logging

from aiohttp import web

from cacheserver.access_log import AccessLog, LineTemplate
from cacheserver.core.errors import MalformedRequest
from cacheserver.log import event, get_logger
from cacheserver.ports import Clock, Meter
from cacheserver.web.exchange import Exchange
from cacheserver.web.hot_table import HotEntry

_log = get_logger(__name__)
NO_SERVICE = "none"
_TEMPLATES_LIMIT = 64
_MALFORMED_BURST = 200.0
_MALFORMED_PER_S = 5.0
LANE_CACHE_STATUS = "cacheserver; hit"


class Account:
    """Writes each exchange to the metrics and the access log."""

    def __init__(self, *, meter: Meter, access_log: AccessLog | None, clock: Clock) -> None:
        self._meter = meter
        self._access_log = access_log
        self._clock = clock
        self._malformed_left = (_MALFORMED_BURST, 0.0)

    def close(self, exchange: Exchange) -> None:
        """Account for one finished exchange."""
        duration_s = self._clock.monotonic_s() - exchange.started_s
        target = exchange.target
        service = target.service.name if target is not None else NO_SERVICE
        self._meter.request(service, exchange.outcome, exchange.status, exchange.body_bytes, duration_s)
        if exchange.outcome == "refused" and exchange.refused is not None:
            self._meter.refused(exchange.refused)
            event(_log, "refused", reason=exchange.refused, client=exchange.client, status=exchange.status)
        if exchange.cut is not None and exchange.cut != "client":
            event(_log, "cut", severity=logging.WARNING, reason=exchange.cut, service=service)
        if self._access_log is None or (exchange.refused == MalformedRequest.code and not self._may_log_malformed()):
            return
        self._access_log.record(
            client=exchange.client,
            method=exchange.method,
            form=target.form.value if target is not None else "",
            service=service,
            host=target.host if target is not None else "",
            path=target.path_and_query if target is not None else exchange.raw_target,
            status=exchange.status,
            body_bytes=exchange.body_bytes,
            duration_s=duration_s,
            outcome=exchange.cut or exchange.outcome,
            cache=exchange.cache_status,
            range_=exchange.range_field,
            ua=exchange.user_agent,
        )

    def _may_log_malformed(self) -> bool:
        """Whether one more malformed request gets a line: 200 at once, then five a second; the metrics count all."""
        left, since_s = self._malformed_left
        now_s = self._clock.monotonic_s()
        left = min(_MALFORMED_BURST, left + (now_s - since_s) * _MALFORMED_PER_S)
        self._malformed_left = (max(0.0, left - 1.0), now_s)
        return left >= 1.0

    def lane(
        self, entry: HotEntry, status: int, body_bytes: int, started_s: float, client: str, range_: bytes | None
    ) -> None:
        """Account for one answer of the fast lane."""
        duration_s = self._clock.monotonic_s() - started_s
        self._meter.request(entry.target.service.name, "hit", status, body_bytes, duration_s)
        if self._access_log is None:
            return
        template = entry.log_lines.get(client)
        if template is None:
            template = self._template(self._access_log, entry, client)
        self._access_log.record_again(template, status, body_bytes, duration_s, range_)

    def _template(self, access_log: AccessLog, entry: HotEntry, client: str) -> LineTemplate:
        if len(entry.log_lines) >= _TEMPLATES_LIMIT:
            entry.log_lines.clear()
        target = entry.target
        template = entry.log_lines[client] = access_log.template(
            client=client,
            method="GET",
            form=target.form.value,
            service=target.service.name,
            host=target.host,
            path=target.path_and_query,
            outcome="hit",
            cache=LANE_CACHE_STATUS,
            ua=entry.user_agent,
        )
        return template

    def malformed(self, request: web.BaseRequest, status: int, error: BaseException | None) -> None:
        """Account for a head that aiohttp's parser refused, or a fault of our own."""
        reason = "malformed" if status == 400 else "internal"
        self._meter.refused(reason)
        self._meter.request(NO_SERVICE, "refused" if status == 400 else "error", status, 0, 0.0)
        facts = {"reason": reason, "client": request.remote or "", "kind": type(error).__name__}
        event(_log, "refused" if status == 400 else "failed", severity=logging.INFO, **facts)
