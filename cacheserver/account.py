"""Counting and logging of finished exchanges, the same for every way an answer comes about."""

from __future__ import annotations

import logging
from typing import cast

from aiohttp import web

from cacheserver.access_log import AccessLog, LineTemplate
from cacheserver.core.client import Client
from cacheserver.log import event, get_logger
from cacheserver.ports import Clock, Meter
from cacheserver.web.connection import ClientConnection
from cacheserver.web.exchange import Exchange
from cacheserver.web.hot_table import HotEntry

_log = get_logger(__name__)
NO_SERVICE = "none"
_TEMPLATES_LIMIT = 64
LANE_CACHE_STATUS = "cacheserver; hit"


class Account:
    """Writes each exchange to the metrics and the access log."""

    def __init__(self, *, meter: Meter, access_log: AccessLog | None, clock: Clock) -> None:
        self._meter = meter
        self._access_log = access_log
        self._clock = clock

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
        if exchange.outcome == "refused" and exchange.refused is not None:
            self._meter.refused(exchange.refused)
            event(_log, "refused", reason=exchange.refused, client=exchange.client.address, status=exchange.status)
        if exchange.cut is not None and exchange.cut != "client":
            event(_log, "cut", severity=logging.WARNING, reason=exchange.cut, service=service)
        if self._access_log is None:
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
        duration_s = self._clock.monotonic_s() - started_s
        self._meter.request(entry.target.service.name, "hit", status, body_bytes, duration_s, client, first_byte_s)
        if self._access_log is None:
            return
        template = entry.log_lines.get(client.address)
        if template is None:
            template = self._template(self._access_log, entry, client.address)
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
        client = cast(ClientConnection, request.protocol).client
        self._meter.request(NO_SERVICE, "refused" if status == 400 else "error", status, 0, 0.0, client)
        facts = {"reason": reason, "client": client.address, "kind": type(error).__name__}
        event(_log, "refused" if status == 400 else "failed", severity=logging.INFO, **facts)
