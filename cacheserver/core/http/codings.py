"""Content codings (RFC 9110 §8.4, §12.5.3): which ones an answer has, and which ones a request accepts."""

from __future__ import annotations

from cacheserver.core.http.field_rules import list_members
from cacheserver.core.http.fields import Fields

_KNOWN = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})


def content_codings(response: Fields) -> tuple[str, ...]:
    """Lower-case codings of an answer's body that change its bytes.

    Stores label plain bytes with words that are no codings (``aws-chunked``, ``none``, ``utf-8``): those do not count.
    """
    members = (member.lower() for member in list_members(response.value("Content-Encoding") or ""))
    return tuple(member for member in members if member in _KNOWN)


def accepted_codings(field: str | None) -> frozenset[str]:
    """Lower-case codings besides identity that a request accepts; empty when it names none."""
    accepted: set[str] = set()
    refused: set[str] = set()
    any_other = False
    for member in (field or "").split(","):
        coding, _, parameters = member.strip().partition(";")
        coding = coding.strip().lower()
        if not coding or coding == "identity":
            continue
        if _refused(parameters):
            refused.add(coding)
        elif coding == "*":
            any_other = True
        else:
            accepted.add(coding)
    return frozenset(accepted | (_KNOWN - refused if any_other else set()))


def _refused(parameters: str) -> bool:
    name, _, weight = parameters.strip().partition("=")
    return name.strip().lower() == "q" and weight.strip().rstrip("0").rstrip(".") in ("0", "")
