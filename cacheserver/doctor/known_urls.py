"""The URLs that every node must answer as the origin does; Microsoft's troubleshooter asks for the second one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownUrl:
    """A public content and what an answer with it must be."""

    name: str
    origin: str
    path: str
    length_bytes: int
    content_type: str
    """Empty: any."""
    whole: bool
    """Fetched whole; otherwise its first ten bytes by Range."""

    @property
    def cache_host_target(self) -> str:
        """Path and query as a client asks its cache host."""
        return f"{self.path}?cacheHostOrigin={self.origin}"


TEST_URLS: Final = (
    KnownUrl("wuidt.gif", "au.download.windowsupdate.com", "/mscomtest/wuidt.gif", 969_710, "image/gif", True),
    KnownUrl(
        "Microsoft.png",
        "dl.delivery.mp.microsoft.com",
        "/filestreamingservice/files/7bc846e0-af9c-49be-a03d-bb04428c9bb5/Microsoft.png",
        302_341,
        "application/octet-stream",
        True,
    ),
    KnownUrl(
        "range",
        "dl.delivery.mp.microsoft.com",
        "/filestreamingservice/files/52fa8751-747d-479d-8f22-e32730cc0eb1",
        25_006_511,
        "",
        False,
    ),
)
