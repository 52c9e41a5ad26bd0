"""The services that come with the program.

Owns: reading ``data/services.toml`` out of the installed package. Must not know own services or settings; what a table
means is ``settings.services_table``.
"""

from __future__ import annotations

import tomllib
from importlib import resources

from cacheserver.core.errors import ConfigError
from cacheserver.core.request.service import Service
from cacheserver.settings.services_table import services_from_tables

_FILE = "data/services.toml"


def load_shipped_services() -> tuple[Service, ...]:
    """The shipped services in the order of their file; reads it anew. Raises ConfigError for a damaged installation."""
    try:
        text = resources.files("cacheserver").joinpath(_FILE).read_text(encoding="utf-8")
        tables = tomllib.loads(text)["services"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"the shipped services cannot be read: {exc}", where=_FILE) from exc
    return services_from_tables(tables, own=False)
