"""All settings of a node: the options classes of the packages, put together from a TOML file and the command line.

Owns: what wins over what, and naming the place of every fault in one ConfigError line. Reading the file is
``cacheserver.settings.file``, the rules that a type cannot say are ``cacheserver.settings.rules``. Must not build
anything: that is ``node``'s work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from cacheserver.core.errors import ConfigError
from cacheserver.core.request.service import Service
from cacheserver.core.shown import shown
from cacheserver.core.units import Size
from cacheserver.logs.events import printable
from cacheserver.settings.file import Problem, parse_size_value, read_toml, schema_problem
from cacheserver.settings.rules import problems
from cacheserver.settings.schema import Settings
from cacheserver.settings.services_table import service_from_allow, services_from_tables
from cacheserver.settings.toml_lines import Path, dotted, line_of
from cacheserver.store.options import StoreOptions, VolumeOptions
from cacheserver.upstream.options import UpstreamOptions


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says; it wins over the file. Empty and None: not given."""

    listen: tuple[str, ...] = ()
    listen_tls: tuple[str, ...] = ()
    admin_listen: str | None = None
    workers: int | None = None
    cache_dir: str | None = None
    max_size: str | None = None
    allow: tuple[str, ...] = ()
    connect_to: tuple[str, ...] = ()
    log_level: str | None = None


_FLAG_KEYS: Final = {
    "listen": ("server", "listen"),
    "listen_tls": ("server", "listen_tls"),
    "admin_listen": ("admin", "listen"),
    "workers": ("server", "workers"),
    "log_level": ("log", "level"),
}
"""Flags that set one key as it is."""


@dataclass(slots=True)
class _Source:
    """Where each setting came from, to name it in errors."""

    path: str = ""
    lines: dict[Path, int] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    """Dotted key → flag that set it."""

    def where(self, path: Path) -> str:
        flag = self.flags.get(dotted(path)) or self.flags.get(dotted(path[:2]))
        if flag is not None:
            return flag
        line = line_of(self.lines, path)
        name = printable(self.path, 300)
        return f"{name}:{line}" if line is not None else name


def load_settings(path: str | None, flags: Flags) -> Settings:
    """Settings of the file at ``path`` (None: all defaults) with ``flags`` over them, all rules checked.

    The result has at least one volume. Relative paths of volumes, catalogues and certificates in the file are taken
    from the file's directory, those of a flag from the working directory. Raises ConfigError with ``where`` and
    ``key``.
    """
    settings, faults = examine_settings(path, flags)
    if faults:
        raise faults[0]
    return settings


def examine_settings(path: str | None, flags: Flags) -> tuple[Settings, list[ConfigError]]:
    """As ``load_settings``, with every fault that one reading finds; the settings count only where there is none.

    Raises ConfigError for a file that is no TOML, and for a flag that cannot be read at all.
    """
    source = _Source(path=path or "")
    settings, found = (Settings(), []) if path is None else _from_file(path, source)
    settings = _with_flags(settings, flags, source)
    misread = {problem.path[:1] for problem in found}  # what follows from a default in its place is no fault
    ruled = (*problems(settings), *_service_problems(settings))
    found += [problem for problem in ruled if problem.path[:1] not in misread]
    first = {problem.path: problem for problem in reversed(found)}  # a fault of a key may break another rule too
    return settings, [_error(source, problem) for problem in found if problem is first[problem.path]]


def _from_file(path: str, source: _Source) -> tuple[Settings, list[Problem]]:
    data, source.lines = read_toml(path)
    settings, found = _converted(data)
    base = os.path.dirname(os.path.abspath(path))
    replace = msgspec.structs.replace

    def placed(name: str) -> str:
        return os.path.join(base, expanded(name)) if name else ""

    volumes = tuple(replace(volume, path=placed(volume.path)) for volume in settings.store.volumes)
    catalogues = tuple(placed(name) for name in settings.trust.catalogues)
    certificate, key = placed(settings.tls.certificate), placed(settings.tls.key)
    placed_settings = replace(
        settings,
        store=replace(settings.store, volumes=volumes),
        trust=replace(settings.trust, catalogues=catalogues),
        tls=replace(settings.tls, certificate=certificate, key=key),
    )
    return placed_settings, found


def _converted(data: dict[str, Any]) -> tuple[Settings, list[Problem]]:
    """The settings without each key that does not fit its type, and these keys."""
    found: list[Problem] = []
    while True:
        try:
            return msgspec.convert(data, Settings, dec_hook=parse_size_value), found
        except msgspec.ValidationError as exc:
            problem = schema_problem(str(exc), data, Settings)
            found.append(problem)
            if not _removed(data, problem.path):
                return Settings(), found


def _removed(data: Any, path: Path) -> bool:
    """Take out the value at ``path``, or the nearest above it that is a key of a table; False where there is none."""
    inside: list[tuple[dict[str, Any], str]] = []
    for part in path:
        if not isinstance(data, dict) or part not in data:
            break
        inside.append((data, str(part)))
        data = data[part]
    for table, key in inside[-1:]:
        del table[key]
    return bool(inside)


# -- the command line -------------------------------------------------------------------------------------------


def _with_flags(settings: Settings, flags: Flags, source: _Source) -> Settings:
    replace = msgspec.structs.replace
    if flags.log_level not in (None, "debug", "info", "warning", "error"):
        raise ConfigError("must be debug, info, warning or error", where="--log-level", key="log.level")
    for flag, (section, key) in _FLAG_KEYS.items():
        if (value := getattr(flags, flag)) not in (None, ()):
            settings = replace(settings, **{section: replace(getattr(settings, section), **{key: value})})
            source.flags[f"{section}.{key}"] = f"--{flag.replace('_', '-')}"
    for position in range(len(flags.allow)):
        source.flags[f"allow[{len(settings.allow) + position}]"] = "--allow"
    return replace(
        settings,
        allow=settings.allow + flags.allow,
        store=_store_with_flags(settings.store, flags, source),
        upstream=_upstream_with_flags(settings.upstream, flags, source),
    )


def _store_with_flags(store: StoreOptions, flags: Flags, source: _Source) -> StoreOptions:
    volumes = store.volumes
    if flags.max_size is not None and flags.cache_dir is None and len(volumes) > 1:
        raise ConfigError("the file has several volumes; set each one's max_size there", where="--max-size")
    if flags.cache_dir is not None:
        path = os.path.abspath(expanded(flags.cache_dir))
        known = volumes[0] if len(volumes) == 1 else VolumeOptions(path=path)
        volumes = (msgspec.structs.replace(known, path=path),)
        source.flags["store.volumes[0].path"] = "--cache-dir"
        if not flags.cache_dir:
            raise ConfigError("is empty", where="--cache-dir", key="store.volumes[0].path")
    if not volumes:
        volumes = (VolumeOptions(path=default_cache_dir()),)
    if flags.max_size is not None:
        source.flags["store.volumes[0].max_size"] = "--max-size"
        try:
            volumes = (msgspec.structs.replace(volumes[0], max_size=Size(flags.max_size)),)
        except ValueError as exc:
            raise _error(source, Problem(("store", "volumes", 0, "max_size"), str(exc))) from exc
    return msgspec.structs.replace(store, volumes=volumes)


def expanded(path: str) -> str:
    """A path with ``~`` replaced. ConfigError for a user without a home: it would name a directory called ``~``."""
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ConfigError(f"{printable(path, 80)}: this user has no home directory; name the cache directory in full")
    return found


def default_cache_dir() -> str:
    """``$XDG_CACHE_HOME/cacheserver``, or ``~/.cache/cacheserver``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: relative values are to be ignored
        base = os.path.join(expanded("~"), ".cache")
    return os.path.join(base, "cacheserver")


def _upstream_with_flags(upstream: UpstreamOptions, flags: Flags, source: _Source) -> UpstreamOptions:
    connect_to = dict(upstream.connect_to)
    for value in flags.connect_to:
        host, equals, address = value.partition("=")
        if not equals or not host or not address:
            raise ConfigError(f"{shown(value)} is not HOST=ADDR:PORT", where="--connect-to")
        connect_to[host] = address
        source.flags[dotted(("upstream", "connect_to", host))] = "--connect-to"
    return msgspec.structs.replace(upstream, connect_to=connect_to)


# -- services ---------------------------------------------------------------------------------------------------


def _service_problems(settings: Settings) -> Iterator[Problem]:
    seen: dict[str, Service] = {}
    for position, host in enumerate(settings.allow):
        try:
            service = service_from_allow(host)
        except ConfigError as exc:
            yield Problem(("allow", position), exc.message)
            continue
        if seen.setdefault(service.name, service) != service:
            yield Problem(("allow", position), f"{service.name} is allowed twice with different rules")
    for name, table in settings.services.items():
        try:
            services_from_tables({name: table}, own=True)
        except ConfigError as exc:
            yield Problem(_service_path(exc.key, settings.services), exc.message)


def _service_path(key: str, services: dict[str, dict[str, Any]]) -> Path:
    """``services.<name>.<field>`` as a path; names may hold dots."""
    rest = key.removeprefix("services.")
    for name in sorted(services, key=len, reverse=True):
        if rest == name or rest.startswith((f"{name}.", f"{name}[")):
            tail: list[str | int] = [
                int(part[1:-1]) if part.startswith("[") else part
                for part in re.findall(r"[^.\[\]]+|\[\d+\]", rest[len(name) :])
            ]
            return ("services", name, *tail)
    return ("services", rest) if rest else ("services",)


def _error(source: _Source, problem: Problem) -> ConfigError:
    message = printable(problem.message, 300)
    return ConfigError(message, where=source.where(problem.path), key=dotted(problem.path))
