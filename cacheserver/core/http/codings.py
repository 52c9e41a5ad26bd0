"""Accept-Encoding (RFC 9110 §12.5.3): which content codings an answer may carry."""

from __future__ import annotations

_KNOWN = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})


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
