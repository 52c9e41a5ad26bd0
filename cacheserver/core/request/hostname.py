"""Host grammar: which spellings of a host name, an IP literal and a port the node accepts.

Owns: turning ``Host``, an absolute-form authority and ``cacheHostOrigin`` into one canonical ``Authority``. Every odd
spelling of an IP address (decimal, octal, hexadecimal, short, with a trailing dot) is refused rather than understood,
because each resolver understands it differently. Must not decide whether a host is allowed (``core.request.allowlist``)
or whether an address is (``core.request.addresses``); messages never repeat what the client sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import unquote_to_bytes

from cacheserver.core.errors import MalformedRequest

MAX_NAME: Final = 253
"""Longest host name without its trailing dot (RFC 1035 §2.3.4: 255 octets on the wire)."""

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOSE_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# A last label of this form makes resolvers read the whole name as an IPv4 address (inet_aton; WHATWG URL §3.5).
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Authority:
    """A canonical host and the port that came with it.

    ``host`` is a lower-case name without trailing dot, a dotted quad, or a bracketed, compressed IPv6 literal.
    """

    host: str
    port: int | None = None


def parse_authority(text: str) -> Authority:
    """Parse ``host [":" port]`` (RFC 9110 §7.2, RFC 3986 §3.2) into its canonical form.

    Raises MalformedRequest for anything but an LDH name, a plain dotted quad or a bracketed IPv6 literal, with an
    optional port of 1 to 65535 in ASCII digits.
    """
    return _parse(text, _LABEL)


def check_unused_host(text: str) -> None:
    """Check a ``Host`` value that names the node itself and is not used any further.

    The grammar of ``parse_authority``, but labels may hold underscores, as names of Windows machines do. Raises
    MalformedRequest.
    """
    _parse(text, _LOOSE_LABEL)


def decode_cache_host_origin(raw: str) -> Authority:
    """Percent-decode a ``cacheHostOrigin`` value exactly once and parse it; ``%5B::1%5D`` is ``[::1]``.

    Raises MalformedRequest, also for a value that is still escaped after one decoding.
    """
    if _BAD_ESCAPE.search(raw) or not raw.isascii():
        raise MalformedRequest("cacheHostOrigin is not percent-encoded correctly")
    try:
        decoded = unquote_to_bytes(raw).decode("ascii")
    except UnicodeDecodeError as exc:
        raise MalformedRequest("cacheHostOrigin is not ASCII") from exc
    return parse_authority(decoded)


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a canonical host is, or None for a name."""
    try:
        if host.startswith("[") and host.endswith("]"):
            return IPv6Address(host[1:-1])
        return IPv4Address(host)
    except AddressValueError:
        return None


def is_ip_literal(host: str) -> bool:
    """Whether a canonical host is a dotted quad or a bracketed IPv6 literal."""
    return literal_address(host) is not None


def _parse(text: str, label: re.Pattern[str]) -> Authority:
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise MalformedRequest("the host is not a valid IPv6 literal")
        host, port_text = _ipv6(inner), rest[1:] if rest else None
    else:
        name, colon, after = text.partition(":")
        host, port_text = _name_or_ipv4(name, label), after if colon else None
    return Authority(host, None if port_text is None else _port(port_text))


def _port(text: str) -> int | None:
    if not text:
        return None  # RFC 3986 §3.2.3: an empty port is the default one
    if not _PORT.fullmatch(text) or int(text) > 65_535:
        raise MalformedRequest("the port is not a number from 1 to 65535")
    return int(text)


def _ipv6(inner: str) -> str:
    # A dotted tail and a zone are further spellings of addresses that have a plain one, or are local to one machine.
    if "." in inner or "%" in inner or not inner.isascii():
        raise MalformedRequest("the host is not a plain IPv6 literal")
    try:
        address = IPv6Address(inner)
    except AddressValueError as exc:
        raise MalformedRequest("the host is not a valid IPv6 literal") from exc
    if address.ipv4_mapped is not None:
        raise MalformedRequest("an IPv4 address must be written as a dotted quad")
    return f"[{address.compressed}]"


def _name_or_ipv4(text: str, label: re.Pattern[str]) -> str:
    lowered = text.lower() if text.isascii() else ""
    name = lowered.removesuffix(".")
    if not name or len(name) > MAX_NAME:
        raise MalformedRequest("the host is empty, too long or not ASCII")
    labels = name.split(".")
    if not all(label.fullmatch(part) for part in labels):
        raise MalformedRequest("the host is not a valid name")
    if _NUMERIC_LABEL.fullmatch(labels[-1]) and (name != lowered or not _is_dotted_quad(name)):
        raise MalformedRequest("an IPv4 address must be written as a dotted quad")
    return name


def _is_dotted_quad(name: str) -> bool:
    try:
        return str(IPv4Address(name)) == name
    except AddressValueError:
        return False
