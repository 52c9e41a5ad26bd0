"""Counting and logging of finished answers, of the full path and of the fast lane."""

from __future__ import annotations

import logging
from typing import cast

from aiohttp import web

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.errors import AddressRefused, CacheserverError, RequestError
from cacheserver.core.request.answer_record import AnswerRecord, RequestLabel
from cacheserver.core.request.client import Client
from cacheserver.core.request.recent_refusals import RecentRefusals
from cacheserver.logs.access_json import AccessLogLines, LineTemplate
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock, Meter
from cacheserver.web.connection import ClientConnection
from cacheserver.web.exchange import Exchange
from cacheserver.web.under_way import UnderWay

_log = get_logger(__name__)
_MALFORMED_BURST = 200.0
_MALFORMED_PER_S = 5.0
_TELL_AGAIN_S = 60.0
_TOLD_LIMIT = 1024


class AnswerAccounting:
    """Writes each answer to the metrics and the access log, and refusals to the list of recent ones."""

    def __init__(
        self, *, meter: Meter, access_log: AccessLogLines | None, clock: Clock, refusals: RecentRefusals
    ) -> None:
        self._meter = meter
        self._count = meter.answered
        self.under_way = UnderWay(meter.booked)
        self._refusals = refusals
        self._access_log = access_log
        self._clock = clock
        self._malformed_left = (_MALFORMED_BURST, 0.0)
        self._told = BoundedMemory[tuple[str, str, str], bool](_TOLD_LIMIT)

    def book(self) -> None:
        """Count what was sent so far of the answers that are under way."""
        self.under_way.book(self._clock.monotonic_s())

    def hit(self, answer: AnswerRecord, known: dict[str, LineTemplate]) -> None:
        """Account for one answer of the fast lane; ``known`` has the log lines of its head."""
        self._count(answer)
        if self._access_log is not None:
            self._access_log.record(answer, known)

    def close(self, exchange: Exchange) -> None:
        """Account for one answer of the full path."""
        self.under_way.ended(exchange)
        if exchange.aside:
            return
        answer = exchange.record(self._clock.monotonic_s())
        self._count(answer)
        if exchange.error is not None:
            self._note(exchange, exchange.error)
        elif answer.cut == "internal":
            event(_log, "cut", severity=logging.WARNING, reason=answer.cut, service=answer.request.service)
        if self._access_log is None or (isinstance(exchange.error, RequestError) and not self._may_log_malformed()):
            return
        self._access_log.record(answer)

    def _note(self, exchange: Exchange, error: CacheserverError) -> None:
        refused = exchange.outcome == "refused"
        if refused or isinstance(error, AddressRefused):
            self._refusals.note(error.code, exchange.host, self._clock.wall_s())
        if refused:
            self._meter.refused(error.code)
        name = "refused" if refused else "cut" if exchange.cut == error.code else "unserved"
        self._tell(name, error, exchange.host, exchange.client, exchange.channel.status)

    def _tell(self, name: str, error: CacheserverError, host: str, client: Client, status: int) -> None:
        """Log cause, host and remedy of an answer that is no success: once a minute for each host and reason."""
        key, now_s = (name, error.code, host or client.address), self._clock.monotonic_s()
        if self._told.get(key, now_s):
            return
        self._told.keep(key, True, now_s + _TELL_AGAIN_S)
        remedy = error.advice(host)
        facts = {"reason": error.code, "cause": str(error), "host": host, "client": client.address, "status": status}
        severity = logging.INFO if name == "refused" else logging.WARNING
        event(_log, name, severity=severity, **facts, remedy=" ".join((remedy.text, remedy.setting)).strip())

    def _may_log_malformed(self) -> bool:
        """Whether one more malformed request gets a line: 200 at once, then five a second; the metrics count all."""
        left, since_s = self._malformed_left
        now_s = self._clock.monotonic_s()
        left = min(_MALFORMED_BURST, left + (now_s - since_s) * _MALFORMED_PER_S)
        self._malformed_left = (max(0.0, left - 1.0), now_s)
        return left >= 1.0

    def malformed(self, request: web.BaseRequest, refusal: RequestError | None, error: BaseException | None) -> None:
        """Account for a head that aiohttp's parser refused, or, without ``refusal``, a fault of our own."""
        reason = "internal" if refusal is None else refusal.code
        self._meter.refused(reason)
        client = cast(ClientConnection, request.protocol).client
        if refusal is None:
            event(_log, "failed", reason=reason, client=client.address, kind=type(error).__name__)
            self._count(AnswerRecord(RequestLabel(), client, "error", 500, 0, 0.0))
            return
        self._refusals.note(reason, "", self._clock.wall_s())
        self._tell("refused", refusal, "", client, refusal.own_status)
        self._count(AnswerRecord(RequestLabel(), client, "refused", refusal.own_status, 0, 0.0))
