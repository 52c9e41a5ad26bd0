"""The operator's signed catalogues as an anchor.

Owns: reading the files, the moment at which a new set replaces the old one (all of it or nothing), and which
well-signed catalogues are refused: one older than what was taken from its file before, one that has expired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cacheserver.core.errors import CatalogueError, ConfigError
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.content_catalogue import (
    MAX_CATALOGUE_BYTES,
    CatalogueDocument,
    ContentCatalogue,
    parse_catalogue,
    refusal,
)
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.target import Target
from cacheserver.system.regular_file import read_regular
from cacheserver.trust.issued import Issued
from cacheserver.trust.signing import parse_public_key, verify

_KEY = "trust.catalogues"


@dataclass(frozen=True, slots=True)
class ReadCatalogue:
    """One catalogue file: what was read and, where that is not taken, why and what is used in its place."""

    path: str
    document: CatalogueDocument
    refused: str = ""
    in_use: CatalogueDocument | None = None


class CatalogueAnchor:
    """Says what the signed entries say. Raises ConfigError for a file that is missing, malformed or not trusted.

    ``issued``: the memory of what was taken before; None: none is kept. ``wall_s`` gives the time.
    """

    name = "catalogue"

    def __init__(
        self,
        *,
        files: Sequence[str],
        trusted_keys: Sequence[str],
        issued: Issued | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._issued = issued
        self._wall_s = wall_s
        self.files: tuple[ReadCatalogue, ...] = ()
        self._catalogue = ContentCatalogue()
        self.reload(files=files, trusted_keys=trusted_keys)

    def reload(self, *, files: Sequence[str], trusted_keys: Sequence[str]) -> None:
        """Read everything anew. Raises ConfigError, and then goes on with what it had."""
        before = {read.path: read.in_use for read in self.files}
        known = self._issued.load() if self._issued is not None else {}
        documents = _read(files, trusted_keys)
        now_s = self._wall_s()
        found = tuple(_judged(path, document, known, before, now_s) for path, document in documents.items())
        self._catalogue = _joined(found)
        self.files = found
        for read in found:
            if self._issued is not None and not read.refused:
                self._issued.note(read.path, read.document.issued)

    def expire(self) -> bool:
        """Give up catalogues whose time is over; True where one was in use."""
        now_s = self._wall_s()
        left = tuple(_expired(read, now_s) for read in self.files)
        if left == self.files:
            return False
        self._catalogue, self.files = _joined(left), left
        return True

    def __len__(self) -> int:
        return len(self._catalogue)

    async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
        """The entries for ``target``; see ``anchors.ClaimSource``."""
        return self._catalogue.claims(target)


def read_document(path: str) -> CatalogueDocument:
    """The well-formed document in the file at ``path``, its signature unchecked. Raises CatalogueError and OSError."""
    return parse_catalogue(read_regular(path, MAX_CATALOGUE_BYTES))


def _read(files: Sequence[str], trusted_keys: Sequence[str]) -> dict[str, CatalogueDocument]:
    """The documents by path, signed by trusted keys. Raises ConfigError."""
    try:
        keys = {parse_public_key(text) for text in trusted_keys}
    except CatalogueError as exc:
        raise ConfigError(str(exc), key="trust.catalogue_keys") from exc
    documents = {}
    for path in files:
        try:
            documents[path] = read_document(path)
            verify(documents[path], keys)
        except OSError as exc:
            raise ConfigError(f"cannot read the catalogue: {exc.strerror}", where=ascii(path)[1:-1], key=_KEY) from exc
        except CatalogueError as exc:
            raise ConfigError(str(exc), where=ascii(path)[1:-1], key=_KEY) from exc
    return documents


def _judged(
    path: str,
    document: CatalogueDocument,
    known: Mapping[str, str],
    before: Mapping[str, CatalogueDocument | None],
    now_s: float,
) -> ReadCatalogue:
    refused = refusal(document, taken=known.get(path), now_s=now_s)
    if not refused:
        return ReadCatalogue(path, document, in_use=document)
    kept = before.get(path)
    return ReadCatalogue(path, document, refused, None if kept is None or refusal(kept, now_s=now_s) else kept)


def _expired(read: ReadCatalogue, now_s: float) -> ReadCatalogue:
    reason = refusal(read.in_use, now_s=now_s) if read.in_use is not None else ""
    return ReadCatalogue(read.path, read.document, reason) if reason else read


def _joined(found: Sequence[ReadCatalogue]) -> ContentCatalogue:
    try:
        return ContentCatalogue(read.in_use for read in found if read.in_use is not None)
    except CatalogueError as exc:
        raise ConfigError(str(exc), key=_KEY) from exc
