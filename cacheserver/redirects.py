"""Where a redirect may lead: only to hosts of the allow-list, hop by hop (I9)."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from cacheserver.core.admission import parse_target
from cacheserver.core.allowlist import AllowList
from cacheserver.core.errors import RequestError
from cacheserver.core.upstream_request import UpstreamRequest
from cacheserver.upstream.client import redirected


def follow(request: UpstreamRequest, location: str, allowlist: AllowList) -> UpstreamRequest | None:
    """The request for the target of a redirect, or None when it leads off the allow-list or is malformed."""
    try:
        url = urljoin(request.url, location)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or (parts.fragment and not parts.netloc):
            return None
        target = parse_target(
            url.partition("#")[0],
            (parts.netloc.rpartition("@")[2],),
            tls=parts.scheme == "https",
            allowlist=allowlist,
        )
    except (RequestError, ValueError):
        return None
    return redirected(
        request, scheme=target.scheme, host=target.host, port=target.port, path_and_query=target.path_and_query
    )
