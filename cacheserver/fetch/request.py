"""What a fetch is asked to do, what comes of it, and how far the result may be believed.

Owns: the values between the command line and the work, and the rule that turns evidence into a level of trust. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cacheserver.core.cache.sources import Source
from cacheserver.core.integrity.manifest import Manifest, parse_manifest
from cacheserver.core.integrity.trust import Claim, Trust, judge_manifest

ASSERTED = "the operator"


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One fetch. ``manifest`` is a URL or a file name; None: from ``manifest_sources``, where there are some."""

    url: Source
    output: str
    sources: tuple[Source, ...]
    manifest: str | None = None
    manifest_sources: tuple[Source, ...] = ()
    hash_of_hashes: bytes | None = None
    sha256: bytes | None = None
    connections: int = 4
    connect_to: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    user_agent: str = "cacheserver-fetch"


class Reporter(Protocol):
    """Whom a fetch tells how it goes."""

    def notice(self, line: str) -> None:
        """Something happened that the user should know: a bad piece, a ban, a fall-back."""
        ...

    def begin(self, length_bytes: int | None, have_bytes: int) -> None:
        """The length is known, and that much was there already; again when the file begins anew."""
        ...

    def advance(self, size_bytes: int) -> None:
        """That many more bytes are written."""
        ...


@dataclass(frozen=True, slots=True)
class FetchResult:
    """A finished fetch; the file has its name."""

    trust: Trust
    mode: str
    """``pieces`` or ``simple``."""
    length_bytes: int
    resumed_bytes: int
    sha256: bytes
    hash_of_hashes: bytes


def checked_manifest(data: bytes, request: FetchRequest) -> Manifest:
    """A manifest that is right in itself and agrees with what the operator asserts. Raises ManifestError."""
    manifest = parse_manifest(data)
    claim = Claim(ASSERTED, authentic=True, hash_of_hashes=request.hash_of_hashes)
    judge_manifest(manifest, (claim,))
    return manifest


def trust_of(request: FetchRequest, *, by_manifest: bool) -> Trust:
    """Trust in a file whose every available check passed."""
    if request.hash_of_hashes is not None or request.sha256 is not None:
        return Trust.ANCHORED
    return Trust.SELF_CONSISTENT if by_manifest else Trust.SIMPLE


def contradiction(request: FetchRequest, *, sha256: bytes, hash_of_hashes: bytes) -> str | None:
    """What a finished file contradicts of the operator's assertions; None when it agrees with all of them."""
    if request.sha256 is not None and request.sha256 != sha256:
        return f"the whole file has SHA-256 {sha256.hex()}, not the one asked for"
    if request.hash_of_hashes is not None and request.hash_of_hashes != hash_of_hashes:
        return "the whole file does not have the hash of hashes asked for"
    return None
