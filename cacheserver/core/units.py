"""Sizes and addresses as operators write them.

Owns: the grammar of ``100GiB`` and of ``ADDR:PORT``, the type of a size in the settings. Pure text work; every fault is
a ValueError with one line.
"""

from __future__ import annotations

import ipaddress
import re

from cacheserver.core.shown import shown

_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?[ ]?([A-Za-z]*)\Z")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_BINARY_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64KiB``, ``1.5TiB``, ``500GB`` (decimal), ``100G`` (binary) or ``4096``.

    Units ignore case. Raises ValueError for anything else and for a fraction of a byte.
    """
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"{shown(text)!r} is not a size such as 100GiB")
    whole, fraction, unit = match.group(1), match.group(2) or "", match.group(3).upper()
    power = _POWERS.get(unit.removesuffix("IB").removesuffix("B"))
    if power is None or unit == "IB":
        raise ValueError(f"{shown(text)!r}: unknown unit; use B, KiB, MiB, GiB, TiB or KB, MB, GB, TB")
    base = 1000 if power and unit.endswith("B") and not unit.endswith("IB") else 1024
    unit_bytes = int(base**power)
    size_bytes, rest = divmod(int(whole + fraction) * unit_bytes, int(10 ** len(fraction)))
    if rest and power == 0:
        raise ValueError(f"{shown(text)!r} is a fraction of a byte")
    return size_bytes


class Size(str):
    """A size as the operator wrote it, parsed once into ``bytes``. Raises ValueError like ``parse_size``."""

    __slots__ = ("bytes",)

    def __init__(self, text: str) -> None:
        self.bytes = parse_size(text)


def format_size(size_bytes: int) -> str:
    """The shortest exact or one-decimal binary form: ``1MiB``, ``1.5GiB``, ``1000B``."""
    value, power = float(size_bytes), 0
    while abs(value) >= 1024 and power < len(_BINARY_NAMES) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.1f}".removesuffix(".0") + _BINARY_NAMES[power]


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``192.0.2.1:80``, ``[::]:80`` or ``localhost:80``; port 0 asks for any free one.

    The host comes back without brackets. Raises ValueError.
    """
    host, colon, port_text = text.rpartition(":")
    if not colon or not host or _PORT.match(port_text) is None or int(port_text) > 65_535:
        raise ValueError(f"{shown(text)!r} is not ADDR:PORT such as 0.0.0.0:8080 or [::]:8080")
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1], text), int(port_text)
    if ":" in host:
        raise ValueError(f"{shown(text)!r}: an IPv6 address needs brackets, such as [::1]:8080")
    if not is_ip(host) and not _is_name(host):
        raise ValueError(f"{shown(text)!r}: neither an address nor a host name")
    return host, int(port_text)


def address_text(host: str, port: int) -> str:
    """``host:port`` as URLs and operators write it: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(listen: str) -> tuple[str, int]:
    """Where a listener on ``listen`` is reached from its own machine: a wildcard address is none. Raises ValueError."""
    host, port = parse_listen(listen)
    if is_ip(host) and (address := ipaddress.ip_address(host)).is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return host, port


def is_ip(host: str) -> bool:
    """Whether ``host`` is an IPv4 or IPv6 literal without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a listener on ``host`` is reachable from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _ipv6(inner: str, text: str) -> str:
    try:
        ipaddress.IPv6Address(inner)
    except ValueError:
        raise ValueError(f"{shown(text)!r}: not an IPv6 address in brackets") from None
    return inner


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return len(host) <= 253 and all(_LABEL.match(label) for label in labels) and not labels[-1].isdigit()


def several(number: int, one: str) -> str:
    """A number with its noun: ``1 object``, ``2 objects``."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"
