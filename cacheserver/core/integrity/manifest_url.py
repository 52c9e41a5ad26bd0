"""From the URL of a piece-hash file back to the URL of its content: the rules of ``core.request.keys.manifest_url``,
reversed.

Owns: reading a rule's template backwards. What comes out are candidates: a rule's glob is not looked at, so whoever
uses one holds ``manifest_url`` of it against the URL that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Target

MOST_CANDIDATES: Final = 16
_PLACEHOLDER: Final = re.compile(r"\{(base|path|key_host)\}")
_SCHEME: Final = re.compile(r"\Ahttps?://")
_FORMS: Final = {"base": r"https?://[^/]+/.*", "path": r"/.*", "key_host": r"[^/:]+"}


def content_urls(manifest: Target, services: Iterable[Service]) -> tuple[str, ...]:
    """URLs of contents whose piece-hash file may lie at ``manifest``, without query, the likeliest first, at most 16.

    A rule's scheme is not compared: clients ask over http for what a rule fetches over https. Where a rule names one
    fixed host for the files of many, the service's hosts without a wildcard are candidates.
    """
    asked = manifest.origin + manifest.path_and_query.partition("?")[0]
    found: dict[str, None] = {}
    for service in services:
        for rule in service.manifests:
            match = _reversed(rule.url).fullmatch(asked)
            if match is not None:
                found.update(dict.fromkeys(_candidates(match, manifest, service)))
    return tuple(found)[:MOST_CANDIDATES]


def _candidates(match: re.Match[str], manifest: Target, service: Service) -> Iterator[str]:
    parts = match.groupdict()
    if "base" in parts:
        yield parts["base"]
    elif "path" in parts:
        hosts = (parts["key_host"],) if "key_host" in parts else _named_hosts(service)
        schemes = (manifest.scheme, "http" if manifest.scheme == "https" else "https")
        yield from (f"{scheme}://{host}{parts['path']}" for host in hosts for scheme in schemes)


def _named_hosts(service: Service) -> tuple[str, ...]:
    """Hosts that may stand in keys of the service."""
    if service.canonical_host is not None:
        return (service.canonical_host,)
    return tuple(host for host in service.hosts if not host.startswith("*."))


@lru_cache(maxsize=256)
def _reversed(template: str) -> re.Pattern[str]:
    """The URLs that a template makes, with a group for each placeholder; one that stands twice must agree."""
    pattern, seen, end = "", set[str](), 0
    text = _SCHEME.sub("", template)
    for found in _PLACEHOLDER.finditer(text):
        name = found[1]
        pattern += re.escape(text[end : found.start()])
        pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{_FORMS[name]})"
        seen.add(name)
        end = found.end()
    return re.compile(("https?://" if text != template else "") + pattern + re.escape(text[end:]))
