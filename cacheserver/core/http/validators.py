"""Validators of a representation (RFC 9110 §8.8): entity tag and modification date. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Validators:
    """Validators of a representation (RFC 9110 §8.8)."""

    etag: str | None = None
    """Entity tag as sent, quotes and ``W/`` included."""
    last_modified: str | None = None
    """HTTP-date as sent."""

    @property
    def strong_etag(self) -> str | None:
        """The entity tag when it is strong."""
        return self.etag if self.etag is not None and not self.etag.startswith("W/") else None
