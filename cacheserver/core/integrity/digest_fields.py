"""Digests that an origin sends with its answer: Repr-Digest and Content-Digest (RFC 9530), Content-MD5.

Owns: the grammar of the fields and the rule for when they speak of the whole content. Must not decide how the
answer travelled: callers say so.
"""

from __future__ import annotations

import re
from typing import Final

from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.digest_text import from_base64
from cacheserver.core.integrity.trust import Claim

# A Dictionary whose members are Byte Sequences without parameters (RFC 9651 §3.2, §3.3.5; RFC 9530 §2 and §3).
_MEMBER: Final = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):")
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")
_ALGORITHMS: Final = {
    "sha-256": ("sha256", 32),
    "sha-512": ("sha512", 64),
    "sha": ("sha1", 20),
    "md5": ("md5", 16),
}
"""RFC 9530 key → hashlib name and size; other algorithms are passed over."""


def claims_from_fields(response: Fields, *, https: bool, whole: bool) -> tuple[Claim, ...]:
    """What the digest fields of one answer say of the whole content; empty where they say nothing.

    ``https``: the answer came over verified TLS all the way, which alone makes the claim authentic. ``whole``: it is a
    200 with the whole content; Content-Digest and Content-MD5 of a part cover only that part and are passed over,
    while Repr-Digest covers the whole representation always. A field that is malformed says nothing; fields that
    contradict one another are a claim each, and no content is what all of them say.
    """
    told = [_dictionary(response.value("Repr-Digest"))]
    if whole:
        told.append(_dictionary(response.value("Content-Digest")))
        told.append(_content_md5(response.value("Content-MD5")))
    joined: list[dict[str, bytes]] = []
    for part in told:
        fits = next((each for each in joined if all(each.get(name, part[name]) == part[name] for name in part)), None)
        if fits is not None:
            fits.update(part)
        elif part:
            joined.append(part)
    return tuple(
        Claim(
            "digest_field",
            https,
            sha256=each.get("sha256"),
            sha512=each.get("sha512"),
            sha1=each.get("sha1"),
            md5=each.get("md5"),
        )
        for each in joined
    )


def _dictionary(value: str | None) -> dict[str, bytes]:
    """hashlib name → digest; empty for a field that breaks the grammar, repeats a key or has a digest of odd size."""
    digests: dict[str, bytes] = {}
    seen: set[str] = set()
    for text in _COMMA.split(value.strip(" ")) if value is not None else ():
        member = _MEMBER.fullmatch(text)
        if member is None or member[1] in seen:
            return {}
        seen.add(member[1])
        if (algorithm := _ALGORITHMS.get(member[1])) is None:
            continue
        name, size_bytes = algorithm
        try:
            digests[name] = from_base64(_padded(member[2]), size_bytes)
        except ValueError:
            return {}
    return digests


def _padded(text: str) -> str:
    """With the padding that a sender may leave off (RFC 9651 §4.2.7)."""
    bare = text.rstrip("=")
    return text if text != bare else bare + "=" * (-len(bare) % 4)


def _content_md5(value: str | None) -> dict[str, bytes]:
    try:
        return {} if value is None else {"md5": from_base64(value.strip(" \t"), 16)}
    except ValueError:
        return {}
