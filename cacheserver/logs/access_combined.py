"""The access log in nginx's combined form, with more facts behind it.

``client - - [time] "GET /path HTTP/1.1" status bytes "-" "user agent"``, which is nginx's, then
``"cache status" host service outcome seconds "range"``.

Owns: the spelling of these lines. Collecting them is ``logs.access_json``'s, writing them ``logs.writer``'s. The
referrer is not recorded, and the protocol is always written as HTTP/1.1. Escapes are nginx's: ``\\xHH``.
"""

from __future__ import annotations

import re
import time
from typing import Final

from cacheserver.logs.access_json import AccessLogLines, LineTemplate, bare_path

_FIELD_LIMIT: Final = 256
_METHOD_LIMIT: Final = 32
_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
_UNSAFE_IN_WORD: Final = re.compile(r"[^!#-\[\]-~]")


class CombinedLines(AccessLogLines):
    """Lines in combined form; otherwise as ``AccessLogLines``."""

    _local_second = -1
    _local_text = b""

    def template(
        self,
        *,
        client: str,
        method: str,
        form: str,
        service: str,
        host: str,
        path: str,
        outcome: str,
        cache: str,
        ua: str | None,
    ) -> LineTemplate:
        """See ``AccessLogLines.template``; ``form`` has no place in these lines."""
        request = f"{_word(method[:_METHOD_LIMIT])} {_word(bare_path(path))} HTTP/1.1"
        words = f"{_word(host[:_FIELD_LIMIT])} {_word(service)} {_word(outcome)}"
        return LineTemplate(
            f"{_word(client)} - - [".encode("ascii"),
            f'] "{request}" '.encode("ascii"),
            f' "-" "{_quoted(ua)}" "{_quoted(cache)}" {words} '.encode("ascii"),
        )

    def record_again(
        self, template: LineTemplate, status: int, body_bytes: int, duration_s: float, range_: bytes | None
    ) -> None:
        """See ``AccessLogLines.record_again``."""
        self._add_line(template, status, body_bytes, duration_s, b"-" if range_ is None else b"bytes=" + range_)

    def record(
        self,
        *,
        client: str,
        method: str,
        form: str,
        service: str,
        host: str,
        path: str,
        status: int,
        body_bytes: int,
        duration_s: float,
        outcome: str,
        cache: str = "",
        range_: str | None = None,
        ua: str | None = None,
    ) -> None:
        """See ``AccessLogLines.record``."""
        template = self.template(
            client=client, method=method, form=form, service=service, host=host, path=path, outcome=outcome,
            cache=cache, ua=ua,
        )  # fmt: skip
        self._add_line(template, status, body_bytes, duration_s, _quoted(range_).encode("ascii"))

    def _add_line(
        self, template: LineTemplate, status: int, body_bytes: int, duration_s: float, shown_range: bytes
    ) -> None:
        self._add(
            b'%b%b%b%d %d%b%.3f "%b"'
            % (
                template.head,
                self._local_time(),
                template.middle,
                status,
                body_bytes,
                template.tail,
                duration_s,
                shown_range,
            )
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
