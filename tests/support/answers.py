"""Answer records with one fact or another of a test's choice."""

from __future__ import annotations

from typing import Any

from cacheserver.core.request.answer_record import AnswerRecord, RequestLabel
from cacheserver.core.request.client import Client

_OF_REQUEST = RequestLabel.__struct_fields__


def answer(
    service: str = "wu",
    outcome: str = "hit",
    status: int = 200,
    body_bytes: int = 0,
    duration_s: float = 0.1,
    client: Client | None = None,
    first_byte_s: float | None = None,
    **facts: Any,
) -> AnswerRecord:
    """One answer; ``facts`` are further members of the record or of its request."""
    request = {name: facts.pop(name) for name in _OF_REQUEST if name in facts}
    return AnswerRecord(
        RequestLabel(service=service, **request),
        client or Client(),
        outcome,
        status,
        body_bytes,
        duration_s,
        first_byte_s,
        **facts,
    )
