"""The operator's signed catalogues as an anchor.

Owns: reading the files and the moment at which a new set replaces the old one: all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from cacheserver.core.errors import CatalogueError, ConfigError
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.content_catalogue import (
    MAX_CATALOGUE_BYTES,
    CatalogueDocument,
    ContentCatalogue,
    parse_catalogue,
)
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.target import Target
from cacheserver.trust.signing import parse_public_key, verify

_KEY = "trust.catalogues"


class CatalogueAnchor:
    """Says what the signed entries say. Raises ConfigError for a file that is missing, malformed or not trusted."""

    name = "catalogue"

    def __init__(self, *, files: Sequence[str], trusted_keys: Sequence[str]) -> None:
        self._catalogue = _load(files, trusted_keys)

    def reload(self, *, files: Sequence[str], trusted_keys: Sequence[str]) -> None:
        """Read everything anew. Raises ConfigError, and then goes on with what it had."""
        self._catalogue = _load(files, trusted_keys)

    def __len__(self) -> int:
        return len(self._catalogue)

    async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
        """The entries for ``target``; see ``anchors.ClaimSource``."""
        return self._catalogue.claims(target)


def read_document(path: str) -> CatalogueDocument:
    """The well-formed document in the file at ``path``, its signature unchecked. Raises CatalogueError and OSError."""
    with open(path, "rb") as file:
        return parse_catalogue(file.read(MAX_CATALOGUE_BYTES + 1))


def _load(files: Sequence[str], trusted_keys: Sequence[str]) -> ContentCatalogue:
    try:
        keys = {parse_public_key(text) for text in trusted_keys}
    except CatalogueError as exc:
        raise ConfigError(str(exc), key="trust.catalogue_keys") from exc
    documents = []
    for path in files:
        try:
            document = read_document(path)
            verify(document, keys)
        except OSError as exc:
            raise ConfigError(f"cannot read the catalogue: {exc.strerror}", where=ascii(path)[1:-1], key=_KEY) from exc
        except CatalogueError as exc:
            raise ConfigError(str(exc), where=ascii(path)[1:-1], key=_KEY) from exc
        documents.append(document)
    try:
        return ContentCatalogue(documents)
    except CatalogueError as exc:
        raise ConfigError(str(exc), key=_KEY) from exc
