"""What is known of an answer from its head, for answers that give the body of another one in their own way.

Owns: these facts. Must not read or close anything.
"""

from __future__ import annotations

from cacheserver.ports import Take, UpstreamAnswer


class AnswerFacts:
    """The head of ``answer``, and whence it came; see ``ports.UpstreamAnswer``."""

    def __init__(self, answer: UpstreamAnswer) -> None:
        self.status = answer.status
        self.fields = answer.fields
        self.source = answer.source
        self.asked = answer.asked
        self.source_class = answer.source_class
        self.secure = answer.secure
        self.request_time_s = answer.request_time_s
        self.response_time_s = answer.response_time_s

    async def receive(self, _take: Take, _most: int) -> int | None:
        """Not from here."""
        return None
