"""Names in certificates: the host names and addresses that clients use, and which of them a certificate covers.

Owns: one spelling per name and the matching rule of RFC 9525 §6.3 (a wildcard stands for the whole left-most label).
Must not know of certificates themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from cacheserver.core.errors import MalformedRequest
from cacheserver.core.request.hostname import parse_authority
from cacheserver.core.shown import shown
from cacheserver.core.units import is_ip


def certificate_name(text: str) -> str:
    """A DNS name in lower case, perhaps ``*.`` in front, or an address in its shortest form without brackets.

    Raises ValueError for anything else: a port, a path, a name that is not ASCII.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    name = text.removeprefix("*.")
    if not name.isascii():
        raise ValueError(f"{shown(text)} is not ASCII; write an international name in its xn-- form")
    try:
        authority = parse_authority(name)
    except MalformedRequest as exc:
        raise ValueError(f"{shown(text)} is neither a host name nor an address") from exc
    if authority.port is not None or ":" in name:
        raise ValueError(f"{shown(text)}: a certificate names hosts, not ports")
    if name != text and "." not in authority.host:
        raise ValueError(f"{shown(text)}: a wildcard needs a domain of at least two labels")
    return f"*.{authority.host}" if name != text else authority.host


def missing_names(wanted: Iterable[str], held: Iterable[str]) -> list[str]:
    """Those of ``wanted`` (in the form of ``certificate_name``) that none of a certificate's names covers."""
    names = set(_plain(held))
    return [name for name in wanted if name not in names and not _by_wildcard(name, names)]


def _plain(held: Iterable[str]) -> Iterator[str]:
    """A certificate's names in the form of ``certificate_name``; one that has none covers nothing."""
    for name in held:
        try:
            yield certificate_name(name)
        except ValueError:
            continue


def _by_wildcard(name: str, names: set[str]) -> bool:
    label, dot, domain = name.partition(".")
    return bool(dot) and label != "*" and not is_ip(name) and f"*.{domain}" in names
