"""What the test origin notes about each request, and what it holds at each path.

Owns the values only; ``support.origin`` fills them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cacheserver.core.http.fields import Fields
from tests.support.content import Content, Fault
from tests.support.flow import Gate


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request as it came, and what became of it."""

    method: str
    target: str
    fields: Fields
    connection: int
    """Number of the connection, counted from 1."""
    started_s: float
    """Event-loop time at which the head was complete."""
    path: str = ""
    """The path under which the origin found (or missed) its content."""
    status: int = 0
    bytes_sent: int = 0
    """Body bytes handed to the kernel."""
    done: bool = False

    @property
    def range(self) -> str | None:
        """The last Range line."""
        return self.fields.last("Range")


Responder = Callable[[RequestRecord], Content]


@dataclass(slots=True)
class Resource:
    """What one path holds, and how it misbehaves."""

    source: Content | Responder
    scheduled: deque[Fault] = field(default_factory=deque)
    permanent: Fault | None = None
    gates: list[Gate] = field(default_factory=list)

    def content(self, record: RequestRecord) -> Content:
        """The content for one request."""
        return self.source if isinstance(self.source, Content) else self.source(record)

    def next_fault(self) -> Fault:
        """The fault of the next answer: scheduled ones in order, then the permanent one, then none."""
        if self.scheduled:
            return self.scheduled.popleft()
        return self.permanent or Fault()
