"""Counting and logging of finished answers, of the full path and of the fast lane."""

from __future__ import annotations

import logging
from typing import cast

from aiohttp import web

from cacheserver.core.errors import AddressRefused, MalformedRequest
from cacheserver.core.request.answer_record import AnswerRecord, RequestLabel
from cacheserver.core.request.recent_refusals import RecentRefusals
from cacheserver.logs.access_json import AccessLogLines, LineTemplate
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock, Meter
from cacheserver.web.connection import ClientConnection
from cacheserver.web.exchange import Exchange

_log = get_logger(__name__)
_MALFORMED_BURST = 200.0
_MALFORMED_PER_S = 5.0


class AnswerAccounting:
    """Writes each answer to the metrics and the access log, and refusals to the list of recent ones."""

    def __init__(
        self, *, meter: Meter, access_log: AccessLogLines | None, clock: Clock, refusals: RecentRefusals
    ) -> None:
        self._meter = meter
        self._count = meter.answered
        self._refusals = refusals
        self._access_log = access_log
        self._clock = clock
        self._malformed_left = (_MALFORMED_BURST, 0.0)

    def hit(self, answer: AnswerRecord, known: dict[str, LineTemplate]) -> None:
        """Account for one answer of the fast lane; ``known`` has the log lines of its head."""
        self._count(answer)
        if self._access_log is not None:
            self._access_log.record(answer, known)

    def close(self, exchange: Exchange) -> None:
        """Account for one answer of the full path."""
        answer = exchange.record(self._clock.monotonic_s())
        self._count(answer)
        self._note_refusal(exchange)
        if answer.cut is not None and answer.cut != "client":
            event(_log, "cut", severity=logging.WARNING, reason=answer.cut, service=answer.request.service)
        if self._access_log is None or (exchange.refused == MalformedRequest.code and not self._may_log_malformed()):
            return
        self._access_log.record(answer)

    def _note_refusal(self, exchange: Exchange) -> None:
        reason, refused = exchange.refused, exchange.outcome == "refused"
        if reason is None:
            return
        if refused or reason == AddressRefused.code:
            host = exchange.refused_host or (exchange.target.host if exchange.target is not None else "")
            self._refusals.note(reason, host, self._clock.wall_s())
        if refused:
            self._meter.refused(reason)
            event(_log, "refused", reason=reason, client=exchange.client.address, status=exchange.channel.status)

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
            self._refusals.note(reason, "", self._clock.wall_s())
        client = cast(ClientConnection, request.protocol).client
        outcome = "refused" if status == 400 else "error"
        self._count(AnswerRecord(RequestLabel(), client, outcome, status, 0, 0.0))
        facts = {"reason": reason, "client": client.address, "kind": type(error).__name__}
        event(_log, "refused" if status == 400 else "failed", severity=logging.INFO, **facts)
