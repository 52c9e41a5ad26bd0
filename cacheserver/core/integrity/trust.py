"""How far the bytes of an object may be believed, and who says so.

Owns: the two levels of trust and the rule that joins a manifest with the claims of anchors. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from cacheserver.core.errors import ManifestError
from cacheserver.core.http.codings import content_codings
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.manifest import Manifest


class Trust(IntEnum):
    """Levels, kept apart in metrics, logs, Cache-Status and the API."""

    SIMPLE = 0
    """No metadata: the bytes are what the source sent, checked at rest against their own digest."""
    SELF_CONSISTENT = 1
    """A manifest over an unauthenticated way: catches corruption, not an attacker."""
    ANCHORED = 2
    """Bound to something authentic: TLS metadata, a signed catalogue, a digest out of update metadata."""

    @property
    def word(self) -> str:
        """The label in metrics and Cache-Status."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Claim:
    """What one anchor says of one content. Raw digests; None where it says nothing.

    ``authentic``: the claim came over a verified way (TLS, signature, update metadata), so that agreement anchors.
    """

    anchor: str
    """Short stable word: ``content_policy``, ``edge_cdp``, ``catalogue``, ``name``, ``digest_field``."""
    authentic: bool
    length_bytes: int | None = None
    hash_of_hashes: bytes | None = None
    manifest_digest: bytes | None = None
    """SHA-256 of the exact piece-hash file (PiecesHashDigest)."""
    sha256: bytes | None = None
    sha1: bytes | None = None
    md5: bytes | None = None
    sha512: bytes | None = None
    """Whole-content digests, checked once the object is complete."""

    @property
    def whole_digests(self) -> dict[str, bytes]:
        """Algorithm (hashlib name) → digest over the whole content."""
        named = {"sha256": self.sha256, "sha512": self.sha512, "sha1": self.sha1, "md5": self.md5}
        return {name: digest for name, digest in named.items() if digest is not None}

    @property
    def facts_of_whole(self) -> frozenset[tuple[str, bytes | None]]:
        """All that it says of the whole content, comparable with what another claim says."""
        pieces = (("hash of hashes", self.hash_of_hashes), ("manifest", self.manifest_digest))
        return frozenset((*self.whole_digests.items(), *(fact for fact in pieces if fact[1] is not None)))

    @property
    def states_pieces(self) -> bool:
        """Whether it determines the digests of all pieces."""
        return self.hash_of_hashes is not None or self.manifest_digest is not None

    @property
    def speaks_of_coded(self) -> bool:
        """Whether it is of the bytes in their content coding (RFC 9530, RFC 1864), not of the content without it.

        Names, catalogues, services of metadata and manifests describe the content without a coding.
        """
        return self.anchor == "digest_field"

    def agrees_with(self, manifest: Manifest) -> bool:
        """Whether a manifest is the one that it determines."""
        return self.hash_of_hashes in (None, manifest.hash_of_hashes) and self.manifest_digest in (
            None,
            manifest.digest if self.manifest_digest is not None else None,
        )


class Statements(tuple[Claim, ...]):
    """What all anchors say of one content: the claims, and the anchors that could not say whether they have one."""

    unknown: tuple[str, ...] = ()
    """Names of anchors that could not be asked, or gave no usable answer: not the same as no claim."""

    @classmethod
    def of(cls, claims: Iterable[Claim], unknown: Iterable[str] = ()) -> Statements:
        """Each claim once, in their order."""
        made = cls(dict.fromkeys(claims))
        made.unknown = tuple(unknown)
        return made

    def about(self, response: Fields) -> Statements:
        """Those about the bytes of an answer with these fields: of coded bytes, only what is meant for them."""
        if not is_coded(response):
            return self
        return Statements.of((claim for claim in self if claim.speaks_of_coded), self.unknown)


def is_coded(response: Fields) -> bool:
    """Whether an answer's body has a content coding: digests of the content without one say nothing of it."""
    return bool(content_codings(response))


def judge_manifest(manifest: Manifest, claims: tuple[Claim, ...]) -> Trust:
    """Trust in a self-consistent manifest; ManifestError when an authentic claim contradicts it."""
    trust = Trust.SELF_CONSISTENT
    for claim in claims:
        if not claim.authentic:
            continue
        facts = (
            (claim.length_bytes, manifest.length_bytes, "length"),
            (claim.hash_of_hashes, manifest.hash_of_hashes, "hash of hashes"),
            (claim.manifest_digest, manifest.digest if claim.manifest_digest is not None else None, "digest"),
        )
        for claimed, found, what in facts:
            if claimed is not None and claimed != found:
                raise ManifestError(f"manifest's {what} is not what {claim.anchor} says")
        if claim.hash_of_hashes is not None or claim.manifest_digest is not None:
            trust = Trust.ANCHORED
    return trust
