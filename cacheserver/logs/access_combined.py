"""The access log in nginx's combined form, and more facts.

``client - - [time] "GET /path HTTP/1.1" status bytes "-" "user agent"``, which is nginx's, then
``"cache status" host service outcome seconds "range"``. The referrer is not recorded, and the protocol is always
written as HTTP/1.1. Escapes are nginx's: ``\\xHH``.
"""

from __future__ import annotations

import re
import time
from typing import Final

from cacheserver.core.request.answer_record import AnswerRecord
from cacheserver.logs.access_json import AccessLogLines, LineTemplate, bare_path

_FIELD_LIMIT: Final = 256
_METHOD_LIMIT: Final = 32
_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
_UNSAFE_IN_WORD: Final = re.compile(r"[^!#-\[\]-~]")


class CombinedLines(AccessLogLines):
    """Lines in combined form; otherwise as ``AccessLogLines``."""

    _local_second = -1
    _local_text = b""

    def _template(self, answer: AnswerRecord) -> LineTemplate:
        """The form has no place in these lines."""
        asked = answer.request
        request = f"{_word(asked.method[:_METHOD_LIMIT])} {_word(bare_path(asked.path))} HTTP/1.1"
        outcome = _word(answer.cut or answer.outcome)
        words = f"{_word(asked.host[:_FIELD_LIMIT])} {_word(asked.service)} {outcome}"
        return LineTemplate(
            f"{_word(answer.client.address)} - - [".encode("ascii"),
            f'] "{request}" '.encode("ascii"),
            f' "-" "{_quoted(asked.user_agent)}" "{_quoted(answer.cache_status)}" {words} '.encode("ascii"),
        )

    def _line(self, template: LineTemplate, answer: AnswerRecord) -> bytes:
        shown = answer.range
        return b'%b%b%b%d %d%b%.3f "%b"' % (
            template.head,
            self._local_time(),
            template.middle,
            answer.status,
            answer.body_bytes,
            template.tail,
            answer.duration_s,
            b"bytes=" + shown if isinstance(shown, bytes) else _quoted(shown).encode("ascii"),
        )

    def _local_time(self) -> bytes:
        """nginx's ``$time_local``, always in UTC; made once a second."""
        second = int(self._wall_s())
        if second != self._local_second:
            self._local_second = second
            now = time.gmtime(second)
            month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[now.tm_mon - 1]
            self._local_text = time.strftime(f"%d/{month}/%Y:%H:%M:%S +0000", now).encode("ascii")
        return self._local_text


def _word(text: str) -> str:
    """One token without spaces; ``-`` for nothing."""
    return _UNSAFE_IN_WORD.sub(_escaped, text) or "-"


def _quoted(text: str | None) -> str:
    """What may stand between quotes, bounded; ``-`` for nothing."""
    return _UNSAFE.sub(_escaped, (text or "")[:_FIELD_LIMIT]) or "-"


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))
