"""Services from configuration: ``[services.<name>]`` tables and ``--allow`` values, strictly checked.

Owns: the table's shape and the meaning of each value. Must not read files or merge sources of settings. Every error is
a ConfigError whose key is ``services.<name>.<field>``; a table that passes cannot fail later at request time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, cast

import msgspec

from cacheserver.core.errors import ConfigError, MalformedRequest
from cacheserver.core.request.addresses import parse_network
from cacheserver.core.request.allowlist import canonical_pattern
from cacheserver.core.request.bounded_patterns import check_bounded
from cacheserver.core.request.hostname import MAX_NAME, literal_address, parse_authority
from cacheserver.core.request.service import HostRewrite, ManifestRule, SchemeRule, Service, ServiceTable
from cacheserver.core.shown import shown, without_value

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REPLACEMENT: Final = re.compile(r"(?:[A-Za-z0-9.-]|\\[1-9]|\\g<[A-Za-z0-9_]+>)+")
_TEMPLATE: Final = re.compile(
    r"(?:\{base\}|https?://(?:\{key_host\}|[A-Za-z0-9.:\[\]-]+)(?:\{path\}|/))(?:\{path\}|[!$-;=?-z|~])*"
)
_SOURCE: Final = re.compile(r"(?:cachehost\+)?https?://([^/?#]+)(?:/[!$-;=@-Z\[\]_a-z~]*)?")
_ENTRY: Final = re.compile(r"(?:(https?)://)?(.*)")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`|required field `([^`]*)`")
_PLACE: Final = re.compile(r" - at `\$\.?([^`]*)`$")

# Fields that the node writes itself or that end at each hop (RFC 9110 §7.6.1): naming them could only do harm.
_NEVER_FORWARDED: Final = frozenset(
    {
        "connection", "content-length", "expect", "host", "if-range", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade", "via",
    }
)  # fmt: skip


class _Entry(NamedTuple):
    pattern: str
    scheme: SchemeRule | None
    port: int | None


def services_from_tables(tables: Mapping[str, object], *, own: bool) -> tuple[Service, ...]:
    """Services from the parsed ``[services.*]`` tables, in their order; ``own``: the operator's, not shipped ones.

    An IP literal among the hosts of an own service permits that very address. Raises ConfigError.
    """
    return tuple(_service(name, table, own=own) for name, table in tables.items())


def service_from_allow(value: str) -> Service:
    """The service of one ``--allow`` value: ``HOST``, ``HOST:PORT``, ``http://HOST[:PORT]``, ``https://HOST[:PORT]``.

    HOST is a name, ``*.zone`` or an IP literal; a literal permits that very address. The service follows RFC 9111 and
    forwards every end-to-end field. Raises ConfigError with key ``allow``, also for ``*``.
    """
    entry = _entry(value, "allow")
    return Service(
        name=entry.pattern,
        hosts=(entry.pattern,),
        scheme=entry.scheme or "as-requested",
        port=entry.port,
        forward_fields=("*",),
        allow_addresses=_literal_blocks((entry.pattern,)),
        own=True,
    )


def _service(name: str, raw: object, *, own: bool) -> Service:
    prefix = f"services.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError("a service name is 1 to 64 letters, digits, dots, hyphens or underscores", key=prefix)
    table = _converted(raw, prefix)
    hosts, scheme, port = _hosts(table, prefix)
    if (table.query == "drop-listed") != bool(table.query_drop):
        raise ConfigError('query_drop and query = "drop-listed" need one another', key=f"{prefix}.query_drop")
    for rewrite in table.rewrites:
        _check_rewrite(rewrite, f"{prefix}.rewrites")
    for rule in table.manifests:
        _check_manifest(rule, f"{prefix}.manifests")
    for url in table.sources:
        _check_source(url, f"{prefix}.sources")
    translated = {
        "hosts": hosts,
        "canonical_host": _canonical_host(table.canonical_host, f"{prefix}.canonical_host"),
        "scheme": scheme,
        "port": port,
        "forward_fields": tuple(_field_name(each, f"{prefix}.forward_fields") for each in table.forward_fields),
        "allow_addresses": _blocks(table.allow_addresses, f"{prefix}.allow_addresses")
        + (_literal_blocks(hosts) if own else ()),
    }
    return Service(**msgspec.structs.asdict(table) | translated, name=name, own=own)


def _converted(raw: object, prefix: str) -> ServiceTable:
    if not isinstance(raw, Mapping):
        raise ConfigError("a service is a table", key=prefix)
    try:
        return msgspec.convert(raw, ServiceTable)
    except msgspec.ValidationError as exc:
        message = str(exc)
        place = _PLACE.search(message)
        named = _UNKNOWN.search(message)
        parts = [prefix, place[1] if place else "", (named[1] or named[2]) if named else ""]
        raise ConfigError(without_value(_PLACE.sub("", message)), key=".".join(part for part in parts if part)) from exc


def _entry(text: str, key: str) -> _Entry:
    found = _ENTRY.fullmatch(text)
    scheme, rest = (found[1], found[2]) if found else (None, text)
    wildcard = rest.startswith("*.")
    try:
        authority = parse_authority(rest[2:] if wildcard else rest)
    except MalformedRequest as exc:
        raise ConfigError(
            f"{shown(text)!r} is not HOST, HOST:PORT, http://HOST:PORT or *.zone: {exc}", key=key
        ) from exc
    pattern = canonical_pattern(f"*.{authority.host}" if wildcard else authority.host, key=key)
    return _Entry(pattern, cast("SchemeRule | None", scheme), authority.port)


def _hosts(table: ServiceTable, prefix: str) -> tuple[tuple[str, ...], SchemeRule, int | None]:
    entries = [_entry(text, f"{prefix}.hosts") for text in table.hosts]
    first = entries[0]
    if any((each.scheme, each.port) != (first.scheme, first.port) for each in entries):
        raise ConfigError("all hosts of a service must name the same scheme and port, or none", key=f"{prefix}.hosts")
    if len({each.pattern for each in entries}) < len(entries):
        raise ConfigError("a host is listed twice", key=f"{prefix}.hosts")
    if None not in (first.scheme, table.scheme) and first.scheme != table.scheme:
        raise ConfigError("the hosts name another scheme", key=f"{prefix}.scheme")
    if None not in (first.port, table.port) and first.port != table.port:
        raise ConfigError("the hosts name another port", key=f"{prefix}.port")
    scheme = table.scheme or first.scheme or "as-requested"
    return tuple(each.pattern for each in entries), scheme, table.port or first.port


def _canonical_host(text: str | None, key: str) -> str | None:
    if text is None:
        return None
    if text.startswith("*"):
        raise ConfigError("the canonical host is one name", key=key)
    return canonical_pattern(text, key=key)


def _check_rewrite(table: HostRewrite, key: str) -> None:
    if not _REPLACEMENT.fullmatch(table.replacement):
        raise ConfigError(f"{shown(table.replacement)!r} is no host name with group references", key=key)
    try:
        check_bounded(table.pattern, MAX_NAME)
        re.compile(table.pattern).sub(table.replacement, "")
    except (re.error, IndexError, ValueError) as exc:
        raise ConfigError(f"the pattern of {table.replacement!r}: {exc}", key=key) from exc


def _field_name(name: str, key: str) -> str:
    if name != "*" and (not _FIELD_NAME.fullmatch(name) or name.lower().replace("_", "-") in _NEVER_FORWARDED):
        raise ConfigError(f"{shown(name)!r} is not a request field that can be forwarded", key=key)
    return name.lower()


def _check_manifest(table: ManifestRule, key: str) -> None:
    if not _TEMPLATE.fullmatch(table.url):
        raise ConfigError(f"{shown(table.url)!r} is no URL made of {{base}}, {{path}}, {{key_host}}", key=key)


def _check_source(url: str, key: str) -> None:
    found = _SOURCE.fullmatch(url)
    try:
        if found is None:
            raise ConfigError(f"{shown(url)!r} is not http://, https:// or cachehost+http:// with a host", key=key)
        parse_authority(found[1])
    except MalformedRequest as exc:
        raise ConfigError(f"{shown(url)!r}: {exc}", key=key) from exc


def _blocks(texts: Iterable[str], key: str) -> tuple[str, ...]:
    try:
        return tuple(str(parse_network(text)) for text in texts)
    except ValueError as exc:
        raise ConfigError(f"not a CIDR block: {exc}", key=key) from exc


def _literal_blocks(hosts: Iterable[str]) -> tuple[str, ...]:
    addresses = (literal_address(host) for host in hosts)
    return tuple(str(parse_network(str(address))) for address in addresses if address is not None)
