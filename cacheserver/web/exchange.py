"""One request and what became of it: filled in by the handler, read by the accounting."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from cacheserver.core.errors import CacheserverError, HostNotAllowed
from cacheserver.core.request.answer_record import AnswerRecord, RequestLabel
from cacheserver.core.request.client import Client
from cacheserver.core.request.target import Target
from cacheserver.web.lane.hot_table import HotEntry
from cacheserver.web.sending.response import ResponseWriter


@dataclass(slots=True, eq=False)
class Exchange:
    """The response of one request, and facts of it for the access log and the metrics."""

    channel: ResponseWriter
    client: Client
    method: str
    raw_target: str
    started_s: float
    range_field: str | None = None
    user_agent: str | None = None
    target: Target | None = None
    outcome: str = "error"
    """A word of ``core.cache.decision.Outcome``."""
    cache_status: str = ""
    error: CacheserverError | None = None
    """Why the answer is no success, or ended early."""
    hot: HotEntry | None = None
    """Set when the fast lane may answer the same head again."""
    wants_page: bool = False
    """Whether a browser asks: it accepts HTML."""
    aside: bool = False
    """Whether it is no answer to a client of the cache: it is neither counted nor logged."""
    cut: str | None = None
    """Error code when the connection was cut inside the body."""
    booked_bytes: int = 0
    """See ``web.under_way``."""

    @classmethod
    def of(cls, request: web.BaseRequest, channel: ResponseWriter, client: Client, *, started_s: float) -> Exchange:
        """What is known of a request before admission."""
        return cls(
            channel,
            client,
            request.method,
            request.raw_path,
            started_s,
            range_field=request.headers.getall("Range", [None])[-1],
            user_agent=request.headers.get("User-Agent"),
            wants_page="text/html" in request.headers.get("Accept", ""),
        )

    @property
    def host(self) -> str:
        """The origin host, canonical, with its port where it is in no service; empty where none was understood."""
        if isinstance(self.error, HostNotAllowed):
            return self.error.host
        return "" if self.target is None else self.target.host

    def label(self) -> RequestLabel:
        """The part that every repeat of the request has."""
        target = self.target
        if target is None:
            return RequestLabel(method=self.method, path=self.raw_target, user_agent=self.user_agent)
        return RequestLabel(
            method=self.method,
            service=target.service.name,
            form=target.form.value,
            host=target.host,
            path=target.path_and_query,
            user_agent=self.user_agent,
        )

    def record(self, ended_s: float) -> AnswerRecord:
        """The answer as metrics and logs see it; ``ended_s`` is in monotonic time."""
        channel = self.channel
        return AnswerRecord(
            self.label(),
            self.client,
            self.outcome,
            channel.status,
            channel.body_bytes,
            ended_s - self.started_s,
            None if channel.started_s is None else channel.started_s - self.started_s,
            self.cache_status,
            self.range_field,
            self.cut,
            self.booked_bytes,
        )
