"""What the machine's configuration says of names, as far as a DNS library does not know it.

Owns: reading ``nsswitch.conf`` (hosts) and ``gai.conf``. Must not read files or resolve names. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SOURCES = re.compile(r"\[[^\]]*\]|[^\s\[]+")


def beyond_dns(nsswitch: str, gai: str) -> str:
    """Why only the system's resolver finds what the system would find; empty: files, then DNS, are all there is.

    Empty files are those of a machine without them. ``nsswitch.conf`` with an action between its sources, or another
    order, is left to the system; so are rules of one's own for the order of addresses.
    """
    hosts = next((rest for key, rest in _entries(nsswitch, ":") if key == "hosts"), "files dns")
    sources = _SOURCES.findall(hosts)
    if sources != ["files", "dns"]:
        return f"nsswitch.conf looks hosts up in {' '.join(sources) or 'nothing'}"
    if any(key in ("label", "precedence", "scopev4") for key, _rest in _entries(gai, None)):
        return "gai.conf has rules for the order of addresses"
    return ""


def _entries(text: str, separator: str | None) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        parts = line.partition("#")[0].strip().split(separator, 1)
        if len(parts) == 2:
            yield parts[0].strip().lower(), parts[1].strip()
