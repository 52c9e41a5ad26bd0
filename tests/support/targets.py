"""Admitted targets for tests, by URL.

Owns nothing but the short way: shipped services, and own ones given as tables, through the node's own admission.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.target import Target
from cacheserver.settings.services_table import services_from_tables
from cacheserver.settings.shipped import load_shipped_services


def admitted(url: str, **own: dict[str, Any]) -> Target:
    """The target that a client in Host form makes of ``url``; ``own``: tables of own services by name."""
    parts = urlsplit(url)
    allowlist = AllowList((*services_from_tables(own, own=True), *load_shipped_services()))
    path_and_query = url.split(parts.netloc, 1)[1]
    return parse_target(path_and_query, (parts.netloc,), tls=parts.scheme == "https", allowlist=allowlist)
