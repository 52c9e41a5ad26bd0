"""What operators learn of content that the decision did not let out: a count by its reason, and a line in the log.

Owns: the event. The log limits its rate. Must not decide anything.
"""

from __future__ import annotations

import logging

from cacheserver.core.integrity.release import Reason
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Meter

_log = get_logger(__name__)


def note_refused(meter: Meter, reason: Reason, *, object_id: str) -> None:
    """Content of an object was refused or withheld; a bad piece that is fetched again is only counted."""
    meter.content_refused(reason.value)
    event(_log, "content_refused", severity=logging.WARNING, reason=reason.value, object_id=object_id)
