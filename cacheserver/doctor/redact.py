"""Settings without secrets: what the schema knows stays, everything else goes.

Owns: the walk through a settings tree beside its types. A key that no setting has may be a slip in the name of a
secret; a value of another type may be a slip in its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from cacheserver.core.request.service import ServiceTable
from cacheserver.core.shown import REMOVED
from cacheserver.core.units import Size
from cacheserver.doctor.redact_text import is_secret_key, redact_own, redact_text
from cacheserver.settings.file import parse_size_value
from cacheserver.settings.schema import Settings

__all__ = ("REMOVED", "redact_settings", "redact_text", "secrets_of")
_PUBLIC: Final = frozenset({"catalogue_keys", "pattern", "replacement", "edge_cdp_pattern"})
"""Keys and patterns that are made of more than words."""
_PLACE: Final = re.compile(r"[\w.*~:/\[\]-]*", re.ASCII)


def redact_settings(value: Any, secrets: Collection[str] = ()) -> Any:
    """The tree of a settings file (dicts, lists, plain values), whatever is in it, without secrets."""
    return _of_struct(value, Settings, secrets) if isinstance(value, dict) else _unknown(value)


def secrets_of(value: Any) -> set[str]:
    """The values in a settings tree that its keys call secrets."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, member in value.items():
            if isinstance(member, str) and is_secret_key(str(key)):
                found.add(member)
            else:
                found |= secrets_of(member)
    elif isinstance(value, list | tuple):
        for member in value:
            found |= secrets_of(member)
    return found


def _of_struct(table: dict[str, Any], kind: type[msgspec.Struct], secrets: Collection[str]) -> dict[str, Any]:
    types = get_type_hints(kind)
    defaults = {field.name: field.default for field in msgspec.structs.fields(kind)}
    return {
        _text(str(name), secrets): _member(str(name), member, types, defaults.get(str(name)), secrets)
        for name, member in table.items()
    }


def _member(name: str, value: Any, types: dict[str, Any], default: object, secrets: Collection[str]) -> Any:
    if name not in types or is_secret_key(name):
        return _unknown(value)
    if value == default:
        return value
    return _of(value, dict[str, ServiceTable] if name == "services" else types[name], name, secrets)


def _of(value: Any, kind: Any, name: str, secrets: Collection[str]) -> Any:
    """A value that must be of this type."""
    arguments = [part for part in get_args(kind) if part not in (Ellipsis, type(None))]
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _of_struct(value, kind, secrets)
    if isinstance(value, dict) and get_origin(kind) is dict:
        return {
            redact_text(str(key), secrets): _of(member, arguments[1], name, secrets) for key, member in value.items()
        }
    if isinstance(value, list | tuple) and get_origin(kind) is tuple:
        return [_of(member, arguments[0], name, secrets) for member in value]
    try:
        msgspec.convert(value, kind, dec_hook=parse_size_value)
    except (msgspec.ValidationError, TypeError, ValueError):
        return _unknown(value)
    if not isinstance(value, str) or kind is Size or str not in (kind, *arguments):
        return value
    if name in _PUBLIC and not re.search(r"\s", value):
        return redact_own(value, secrets)
    return _text(value, secrets)


def _text(value: str, secrets: Collection[str]) -> str:
    """A host, an address or a path as it is; of other text what may stay of any."""
    plain = "://" not in value and _PLACE.fullmatch(value) and redact_own(value, secrets) == value
    return value if plain else redact_text(value, secrets)


def _unknown(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) or value in ("", [], {}) else REMOVED
