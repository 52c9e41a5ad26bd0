"""The support bundle: one archive with settings, logs, metrics, status and check results.

Owns: which files are read, how much of each, and that all text goes through ``redact``. Never opens a key file.
Blocking.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
import tomllib
import zlib
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, Final

import msgspec

import cacheserver
from cacheserver.core.errors import ConfigError
from cacheserver.core.plain_text import plain_text
from cacheserver.doctor.redact import redact_settings, secrets_of
from cacheserver.doctor.redact_text import redact_json, redact_own, redact_text
from cacheserver.doctor.run import Diagnosis
from cacheserver.logs.events import printable
from cacheserver.settings.schema import Settings
from cacheserver.system.place import remove
from cacheserver.system.regular_file import open_regular, read_regular

_TAIL_BYTES: Final = 1 << 20
_JOURNAL_S: Final = 5.0
_UNIT: Final = "cacheserver"
_PACKAGES: Final = ("aiohttp", "aiofiles", "diskcache", "prometheus-client", "cryptography", "msgspec", "uvloop")


def write_bundle(
    path: str, diagnosis: Diagnosis, *, settings: Settings | None, config_file: str | None, logs: Sequence[str]
) -> list[str]:
    """Write the archive to ``path`` (mode 0600); the names in it. Raises OSError; ConfigError where a file is there.

    ``settings`` None: they are wrong. ``logs``: further log files.
    """
    trees = {"config.json": _raw_config(config_file)}
    if settings is not None:
        trees["settings.json"] = msgspec.to_builtins(settings, enc_hook=str)
        logs = [*filter(None, [settings.log.access_file]), *logs]
    try:
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
    except FileExistsError as exc:
        raise ConfigError("is there already", where=printable(path, 300)) from exc
    names = []
    try:
        with open(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in _members(diagnosis, trees, logs):
                data = text.encode("utf-8", "replace")
                entry = tarfile.TarInfo(f"cacheserver-doctor/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(data))
                names.append(name)
    except BaseException:
        remove(path)  # half a bundle would be in the way of the next one
        raise
    return names


def _members(diagnosis: Diagnosis, trees: dict[str, dict[str, Any]], logs: Sequence[str]) -> Iterator[tuple[str, str]]:
    secrets = secrets_of(trees)
    checks = json.dumps([check.as_json() for check in diagnosis.checks])
    yield "checks.json", redact_json(checks, secrets)
    yield "checks.txt", redact_own("".join(f"{check.line()}\n" for check in diagnosis.checks), secrets)
    yield "system.json", json.dumps(_system(), indent=2)
    for name, tree in trees.items():
        if tree:
            yield name, json.dumps(redact_settings(tree, secrets), indent=2)
    if diagnosis.status:
        yield "status.json", redact_json(diagnosis.status.decode("utf-8", "replace"), secrets)
    if diagnosis.metrics:
        yield "metrics.txt", redact_own(diagnosis.metrics.decode("utf-8", "replace"), secrets)
    for number, name in enumerate(logs):
        yield f"logs/{number}-{printable(os.path.basename(name), 100)}.txt", redact_text(_tail(name), secrets)
    if journal := _journal():
        yield "logs/journal.txt", redact_text(journal, secrets)


def _raw_config(path: str | None) -> dict[str, Any]:
    """The file's own keys, without comments; empty where it is no TOML."""
    if path is None:
        return {}
    try:
        return tomllib.loads(plain_text(read_regular(path, 4 << 20)).decode())
    except (OSError, ValueError, RecursionError):
        return {}


def _tail(path: str) -> str:
    """The last MiB of a log, whole lines only; of a compressed one its first."""
    try:
        with open(open_regular(path), "rb") as file:
            if file.peek(2)[:2] == b"\x1f\x8b":
                with gzip.open(file, "rb") as unpacked:
                    return unpacked.read(_TAIL_BYTES).decode("utf-8", "replace")
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read(_TAIL_BYTES)
    except (OSError, EOFError, zlib.error) as exc:
        return f"cannot be read: {getattr(exc, 'strerror', None) or exc}\n"
    text = data.decode("utf-8", "replace")
    return text.partition("\n")[2] if size > _TAIL_BYTES else text


def _journal() -> str:
    """The unit's last lines, where there is a journal."""
    command = ["journalctl", "--unit", _UNIT, "--lines", "2000", "--no-pager", "--output", "cat", "--quiet"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_JOURNAL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")[-_TAIL_BYTES:]


def _system() -> dict[str, Any]:
    packages = dict.fromkeys(_PACKAGES, "?")
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    return {
        "cacheserver": cacheserver.__version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "user": os.geteuid(),
        "packages": packages,
    }
