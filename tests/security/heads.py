"""Request heads that are malformed, or that two readers may read differently, and what a right server makes of them.

Owns the table alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.ground import HOST

HIDDEN = b"GET /admin HTTP/1.1\r\nHost: smuggled.example\r\n\r\n"
"""A request that nobody meant: it stands where a body is."""
ENDED = b"0\r\n\r\n" + HIDDEN
"""The same behind the end of a chunked body."""


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes, the statuses that a right server gives for them, and whether it closes behind the last one.

    A status of 0 stands for any refusal.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...]
    closes: bool = True


class _Heads:
    """Heads for one path that is served with 200."""

    def __init__(self, path: str) -> None:
        self.p, self.h = path.encode(), HOST.encode()
        self.get = b"GET %s HTTP/1.1\r\nHost: %s\r\n" % (self.p, self.h)
        self.good = self.get + b"\r\n"

    def lines(self, lines: bytes, behind: bytes = b"") -> bytes:
        """A head with these lines, and what comes behind it."""
        return self.get + lines + b"\r\n\r\n" + behind


def cases(path: str) -> list[Case]:
    """Every case for a ``path`` that is served with 200."""
    heads = _Heads(path)
    return [*_sequences(heads), *_framing(heads), *_fields(heads), *_request_lines(heads)]


def _sequences(heads: _Heads) -> list[Case]:
    """Requests behind one another, and sizes."""
    p, h, good, lines = heads.p, heads.h, heads.good, heads.lines
    return [
        Case("plain", good, (200,), closes=False),
        Case("three in a row", good * 3, (200, 200, 200), closes=False),
        Case("an empty line before it", b"\r\n" + good, (200,), closes=False),
        Case("good, then malformed", good + b"GET / HTTP/1.1\r\nbad line\r\n\r\n" + good, (200, 0)),
        Case(
            "twice good, then two lengths", good * 2 + lines(b"Content-Length: 1\r\nContent-Length: 2"), (200, 200, 0)
        ),
        Case("good, then a body", good + lines(b"Content-Length: 49", HIDDEN) + good, (200, 0)),
        Case(
            "an upgrade that is declined",
            lines(b"Connection: Upgrade\r\nUpgrade: websocket") + good,
            (200, 200),
            closes=False,
        ),
        Case(
            "an upgrade to h2c",
            lines(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA"),
            (200,),
            closes=False,
        ),
        Case("CONNECT, then a request", b"CONNECT %s:80 HTTP/1.1\r\nHost: %s\r\n\r\n" % (h, h) + HIDDEN, (0,)),
        Case("Expect: 100-continue", lines(b"Expect: 100-continue"), (200,), closes=False),
        Case("Connection: close, then more", lines(b"Connection: close") + good, (200,)),
        Case("HTTP/1.0, then more", b"GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" % (p, h) + good, (200,)),
        Case("a huge request line", b"GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (b"a" * 70_000, h), (0,)),
        Case("a huge field", lines(b"X-A: " + b"a" * 70_000), (0,)),
        Case("a flood of fields", lines(b"\r\n".join(b"X-%d: %d" % (n, n) for n in range(20_000))), (0,)),
    ]


def _framing(heads: _Heads) -> list[Case]:
    """Lengths and codings that two readers may read differently."""
    lines = heads.lines
    return [
        Case("length and chunked", lines(b"Content-Length: 4\r\nTransfer-Encoding: chunked", ENDED), (0,)),
        Case("chunked and length", lines(b"Transfer-Encoding: chunked\r\nContent-Length: 4", ENDED), (0,)),
        Case("two lengths", lines(b"Content-Length: 0\r\nContent-Length: 40", HIDDEN), (0,)),
        Case("two equal lengths", lines(b"Content-Length: 49\r\nContent-Length: 49", HIDDEN), (0,)),
        Case("a list of lengths", lines(b"Content-Length: 0, 49", HIDDEN), (0,)),
        Case("a length with a sign", lines(b"Content-Length: +49", HIDDEN), (0,)),
        Case("a negative length", lines(b"Content-Length: -1", HIDDEN), (0,)),
        Case("a hexadecimal length", lines(b"Content-Length: 0x31", HIDDEN), (0,)),
        Case("a length of 30 digits", lines(b"Content-Length: " + b"9" * 30, HIDDEN), (0,)),
        Case("a length of letters", lines(b"Content-Length: abc", HIDDEN), (0,)),
        Case("a body of a known length", lines(b"Content-Length: %d" % len(HIDDEN), HIDDEN), (0,)),
        Case("chunked", lines(b"Transfer-Encoding: chunked", b"31\r\n" + HIDDEN + b"\r\n0\r\n\r\n" + HIDDEN), (0,)),
        Case("chunked with extensions", lines(b"Transfer-Encoding: chunked", b'0;a="\r\n\r\n' + HIDDEN), (0,)),
        Case("chunked with a sign", lines(b"Transfer-Encoding: chunked", b"+0\r\n\r\n" + HIDDEN), (0,)),
        Case("chunked with a hex prefix", lines(b"Transfer-Encoding: chunked", b"0x0\r\n\r\n" + HIDDEN), (0,)),
        Case("chunked behind a tab", lines(b"Transfer-Encoding:\tchunked", ENDED), (0,)),
        Case("chunked behind vertical tab", lines(b"Transfer-Encoding: \x0bchunked", ENDED), (0,)),
        Case("chunked twice", lines(b"Transfer-Encoding: chunked, chunked", ENDED), (0,)),
        Case("chunked, then identity", lines(b"Transfer-Encoding: chunked, identity", ENDED), (0,)),
        Case("an unknown coding", lines(b"Transfer-Encoding: xchunked", ENDED), (0,)),
        Case("two coding lines", lines(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", HIDDEN), (0,)),
        Case("a blank before the colon", lines(b"Transfer-Encoding : chunked", ENDED), (0,)),
        Case("a blank before the name", lines(b" Transfer-Encoding: chunked", ENDED), (0,)),
    ]


def _fields(heads: _Heads) -> list[Case]:
    """Lines of the head."""
    p, h, lines = heads.p, heads.h, heads.lines
    return [
        Case("a folded line", lines(b"X-A: 1\r\n Transfer-Encoding: chunked", HIDDEN), (0,)),
        Case("a folded line by tab", lines(b"X-A: 1\r\n\tb", HIDDEN), (0,)),
        Case("a folded Host", b"GET %s HTTP/1.1\r\nHost:\r\n %s\r\n\r\n" % (p, h), (0,)),
        Case("a line without colon", lines(b"no colon here"), (0,)),
        Case("an empty field name", lines(b": value"), (0,)),
        Case("a control character in a name", lines(b"X-\x01A: 1"), (0,)),
        Case("NUL in a value", lines(b"X-A: a\x00b"), (0,)),
        Case("a bare CR in a value", lines(b"X-A: a\rTransfer-Encoding: chunked"), (0,)),
        Case("bare LF behind a field", b"GET %s HTTP/1.1\r\nHost: %s\nX-A: 1\r\n\r\n" % (p, h), (0,)),
        Case("bare LF everywhere", b"GET %s HTTP/1.1\nHost: %s\n\n" % (p, h) + HIDDEN, (0,)),
        Case("CR CR LF", b"GET %s HTTP/1.1\r\nHost: %s\r\r\n\r\n" % (p, h), (0,)),
        Case("two Host lines", lines(b"Host: %s" % h, HIDDEN), (0,)),
        Case("two different Host lines", lines(b"Host: smuggled.example", HIDDEN), (0,)),
        Case("no Host line", b"GET %s HTTP/1.1\r\n\r\n" % p, (0,)),
        Case("an empty Host", b"GET %s HTTP/1.1\r\nHost:\r\n\r\n" % p, (0,)),
        Case("Host with user information", b"GET %s HTTP/1.1\r\nHost: a@%s\r\n\r\n" % (p, h), (0,)),
        Case("Host as a list", b"GET %s HTTP/1.1\r\nHost: %s, %s\r\n\r\n" % (p, h, h), (0,)),
    ]


def _request_lines(heads: _Heads) -> list[Case]:
    """Request lines, and what is none."""
    p, h = heads.p, heads.h
    return [
        Case("no version", b"GET %s\r\n\r\n" % p, (0,)),
        Case("version 2.0", b"GET %s HTTP/2.0\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("version 1.10", b"GET %s HTTP/1.10\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("version with a sign", b"GET %s HTTP/+1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("lower-case version", b"GET %s http/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (0,)),
        # RFC 9112 §3 allows to be lenient here, and there is only one way to read it.
        Case("two blanks in the request line", b"GET  %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (200,), closes=False),
        Case("a tab in the request line", b"GET\t%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a target with a blank", b"GET %s x HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a target with NUL", b"GET %s\x00 HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a target with raw bytes", b"GET %s\xff\xfe HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a method that nobody knows", b"FOO %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a lower-case method", b"get %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case(
            "POST with a HIDDEN request",
            b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 49\r\n\r\n" % (p, h) + HIDDEN,
            (0,),
        ),
        Case("binary", bytes(range(256)), (0,)),
        Case("the beginning of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", (0,)),
    ]
