"""Counting and logging of finished exchanges, the same for every way an answer comes about."""

from __future__ import annotations

import logging
from typing import cast

from aiohttp import web

from cacheserver.core.errors import AddressRefused, MalformedRequest
from cacheserver.core.request.recent_refusals import RecentRefusals
from cacheserver.logs.access_json import AccessLogLines
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock, Meter
from cacheserver.web.connection import ClientConnection
from cacheserver.web.exchange import Exchange

_log = get_logger(__name__)
NO_SERVICE = "none"
_MALFORMED_BURST = 200.0
_MALFORMED_PER_S = 5.0


class Account:
    """Writes each exchange to the metrics and the access log, and refusals to ``web.answer.refusals``."""

    def __init__(
        self, *, meter: Meter, access_log: AccessLogLines | None, clock: Clock, refusals: RecentRefusals
    ) -> None:
        self._meter = meter
        self.refusals = refusals
        self._access_log = access_log
        self._clock = clock
        self._malformed_left = (_MALFORMED_BURST, 0.0)

    def close(self, exchange: Exchange) -> None:
        """Account for one finished exchange."""
        duration_s = self._clock.monotonic_s() - exchange.started_s
        target = exchange.target
        service = target.service.name if target is not None else NO_SERVICE
        self._meter.request(
            service,
            exchange.outcome,
            exchange.status,
            exchange.body_bytes,
            duration_s,
            exchange.client,
            None if exchange.first_byte_s is None else exchange.first_byte_s - exchange.started_s,
        )
        if exchange.refused is not None and (exchange.outcome == "refused" or exchange.refused == AddressRefused.code):
            host = exchange.refused_host or (target.host if target is not None else "")
            self.refusals.note(exchange.refused, host, self._clock.wall_s())
        if exchange.outcome == "refused" and exchange.refused is not None:
            self._meter.refused(exchange.refused)
            event(_log, "refused", reason=exchange.refused, client=exchange.client.address, status=exchange.status)
        if exchange.cut is not None and exchange.cut != "client":
            event(_log, "cut", severity=logging.WARNING, reason=exchange.cut, service=service)
        if self._access_log is None or (exchange.refused == MalformedRequest.code and not self._may_log_malformed()):
            return
        self._access_log.record(
            client=exchange.client.address,
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

    def malformed(self, request: web.BaseRequest, status: int, error: BaseException | None) -> None:
        """Account for a head that aiohttp's parser refused, or a fault of our own."""
        reason = "malformed" if status == 400 else "internal"
        self._meter.refused(reason)
        if reason == MalformedRequest.code:
            self.refusals.note(reason, "", self._clock.wall_s())
        client = cast(ClientConnection, request.protocol).client
        self._meter.request(NO_SERVICE, "refused" if status == 400 else "error", status, 0, 0.0, client)
        facts = {"reason": reason, "client": client.address, "kind": type(error).__name__}
        event(_log, "refused" if status == 400 else "failed", severity=logging.INFO, **facts)
