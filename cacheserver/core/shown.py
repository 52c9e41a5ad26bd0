"""What a message may show of a value from settings, a file or a peer: the place that it names, never a secret in it.

Owns: URLs without user information, query and fragment, by their structure. Where it is not certain which part is
which, nothing of it is shown. Pure text work.
"""

from __future__ import annotations

import re
from typing import Final

REMOVED: Final = "(removed)"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}://[^\s\"<>]*")
_USER: Final = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}:[^\s\"<>]{1,256}@")
_END: Final = re.compile(r"[?#;]|%(?:3[BFbf]|23)")
"""Where a path ends, also where somebody has escaped that."""
_REFUSED: Final = re.compile(r"(?s)\A(Invalid enum value) '?(.*?)'?(?=\Z| - at `)")
_PLACE: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]{0,40}://)?(?:\*\.)?[\w.:\[\]%*-]*", re.ASCII)


def bare_url(url: str) -> str:
    """``SCHEME://HOST[:PORT][/PATH]`` of a URL, and a mark in the place of its query or fragment.

    A URL with an @ behind its first /, ? or # may have a password with such a character: its scheme alone is shown.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :]:
        return f"{scheme}://{REMOVED}"
    place = rest[authority.rfind("@") + 1 :]
    found = _END.search(place)
    if found is None:
        return f"{scheme}://{place}"
    mark = found[0][0] + REMOVED if found.end() < len(place) else ""
    return f"{scheme}://{place[: found.start()]}{mark}"


def without_secrets(text: str) -> str:
    """``text`` with every URL in it bare, and without USER:PASSWORD before an @."""
    if "://" in text:
        text = _URL.sub(lambda found: bare_url(found[0]), text)
    return _USER.sub(f"{REMOVED}@", text) if "@" in text else text


def shown(value: str, limit: int = 80) -> str:
    """A value that was refused, as far as it is a host with or without scheme and port; dots stand for the rest."""
    bare = bare_url(value) if "://" in value else REMOVED if "@" in value else value
    if bare.rpartition("://")[2] == REMOVED:
        return bare
    found = _PLACE.match(bare[:limit])
    place = found[0] if found is not None else ""
    return place if bare[len(place) :] in ("", "/") else f"{place}..."


def without_value(fault: str) -> str:
    """A message of msgspec with no more of the value that it refuses than ``shown`` gives."""
    return _REFUSED.sub(lambda found: f"{found[1]} {shown(found[2])!r}", fault)
