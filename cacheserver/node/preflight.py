"""What must hold of the libraries and files of this machine before a node takes a byte from anyone.

Owns: the refusals at the start that no setting can describe. Must not change anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from cacheserver.core.errors import ConfigError
from cacheserver.core.request.allowlist import AllowList
from cacheserver.logs.events import configure, event, get_logger, printable
from cacheserver.outgoing.session import client_context
from cacheserver.settings.schema import Settings
from cacheserver.system import descriptors
from cacheserver.system.secret_file import exposure
from cacheserver.tls.pair import read_pair
from cacheserver.trust.catalogue_anchor import CatalogueAnchor

AIOHTTP_FLOOR: Final = (3, 14, 5)
"""The oldest release whose request parser and client were checked; ``docs/security.md`` names what was before."""
_C_PARSER: Final = "aiohttp._http_parser"
_log = get_logger(__name__)


def check_libraries() -> None:
    """ConfigError for an aiohttp that is too old, lacks a part, or parses requests and answers in Python."""
    import aiohttp  # here, so that commands which run no node do not wait for it
    from aiohttp import http_parser
    from aiohttp.web_protocol import RequestHandler

    from cacheserver.outgoing import aiohttp_parts
    from cacheserver.web import aiohttp_adapter

    found = re.match(r"(\d+)\.(\d+)\.(\d+)", aiohttp.__version__)
    if found is None or tuple(map(int, found.groups())) < AIOHTTP_FLOOR:
        floor = ".".join(map(str, AIOHTTP_FLOOR))
        raise ConfigError(f"aiohttp {aiohttp.__version__} is older than {floor}, whose parser this node relies on")
    parsers = (http_parser.HttpRequestParser, http_parser.HttpResponseParser)
    if any(parser.__module__ != _C_PARSER for parser in parsers):
        raise ConfigError(
            "aiohttp runs without its C parser, and the one in Python reads malformed requests differently: "
            "unset AIOHTTP_NO_EXTENSIONS, or install a build of aiohttp with extensions"
        )
    parts = [(RequestHandler, name) for name in aiohttp_adapter.RELIED_ON]
    for kind, name in (*parts, *aiohttp_parts.RELIED_ON):
        assigned = (*getattr(kind, "ATTRS", ()), *vars(kind)["__init__"].__code__.co_names)
        if not hasattr(kind, name) and name not in assigned:
            raise ConfigError(
                f"aiohttp {aiohttp.__version__} has no {kind.__name__}.{name}, which this node relies on: "
                f"install aiohttp {aiohttp_adapter.TESTED_VERSIONS[-1]}"
            )


def start_problems(settings: Settings) -> Iterator[ConfigError]:
    """What would keep a node of this user with these settings from starting. Blocking; changes nothing.
    Root may do everything: who is not the node's user learns nothing of what that user may read and write.
    """
    checks: list[Callable[[], object]] = [
        lambda: AllowList(settings.all_services()),
        lambda: client_context(settings.upstream.ca_file, key="upstream.ca_file"),
        lambda: client_context(settings.trust.ca_file, key="trust.ca_file"),
        lambda: CatalogueAnchor(files=settings.trust.catalogues, trusted_keys=settings.trust.catalogue_keys),
        lambda: _writable("log.access_file", settings.log.access_file),
        *(partial(_writable, "store.volumes", volume.path) for volume in settings.store.volumes),
    ]
    if settings.server.listen_tls:
        checks.append(lambda: read_pair(settings.tls))
    for check in checks:
        try:
            check()
        except ConfigError as exc:
            yield exc


def start_warnings(settings: Settings) -> Iterator[str]:
    """What a node with these settings would start with, and should not."""
    yield from (f"{key} is ignored: {reason}" for key, reason in settings.ignored())
    wanted = settings.store.open_objects, settings.server.max_connections
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # the start raises the limit to this
    if limit >= 0 and (found := descriptors.shares(limit, *wanted)).short:
        yield (
            f"the descriptor limit of {limit} leaves {found.open_objects} open objects and {found.connections} "
            "connections; raise it (LimitNOFILE= in the unit, ulimit -n), or lower store.open_objects"
        )


def _writable(key: str, path: str) -> None:
    """ConfigError where this user may not write to the file or directory; one that is missing is made at the start."""
    if not path or not os.path.exists(path):
        return
    if os.path.isdir(path) and os.geteuid() and os.stat(path).st_uid != os.geteuid():
        raise ConfigError(f"{printable(path, 200)} belongs to another user", key=key)
    if not os.access(path, os.W_OK | (os.X_OK if os.path.isdir(path) else 0)):
        raise ConfigError(f"{printable(path, 200)} cannot be written by this user", key=key)


def warn_of_libraries() -> None:
    """Log a warning for a version of aiohttp that the node was not tested with."""
    from cacheserver.web.aiohttp_adapter import TESTED_VERSIONS, untested_version

    found = untested_version()
    if found is not None:
        event(
            _log, "library_untested", severity=logging.WARNING, library="aiohttp", found=found, tested=TESTED_VERSIONS
        )


def warn_of_settings(path: str | None, settings: Settings) -> None:
    """Log a warning for each setting that is ignored, and for an admin token in a file that other users can read."""
    if not logging.getLogger().handlers:
        configure(settings.log)  # the first load comes before anything else is logged
    for key, reason in settings.ignored():
        event(_log, "setting_ignored", severity=logging.WARNING, setting=key, reason=reason)
    _warn_of_exposed_token(path, settings)


def _warn_of_exposed_token(path: str | None, settings: Settings) -> None:
    if path is None or not settings.admin.token:
        return
    with contextlib.suppress(OSError):
        if reason := exposure(path):
            event(_log, "token_readable", severity=logging.WARNING, file=path, reason=reason)
