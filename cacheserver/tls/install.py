"""Certificate and key files put in their place: whole or not at all, keys for their owner only.

Owns: writing. A file is written beside its old self and renamed over it, so that a node which reads at any moment
finds the old or the new one. What a symbolic link names is replaced, not the link. OSError goes up.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Final

from cacheserver.core.errors import ConfigError

KEY_MODE: Final = 0o600
CERTIFICATE_MODE: Final = 0o644


def write_file(path: str, data: bytes, mode: int, *, replace: bool) -> None:
    """Put ``data`` at ``path`` atomically and durably; an old file's owner is kept where that is permitted.

    ConfigError where a file is there and ``replace`` is false.
    """
    target = os.path.realpath(path)
    beside = f"{target}.{secrets.token_hex(4)}.new"
    try:
        _write(beside, data, mode)
        if replace:
            _keep_owner(target, beside)
            os.replace(beside, target)
        else:
            os.link(beside, target)  # unlike rename, fails where something is there
    except FileExistsError as exc:
        raise already_there(path) from exc
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)
    _sync_folder(os.path.dirname(target))


def already_there(path: str) -> ConfigError:
    """The refusal to overwrite ``path``."""
    return ConfigError("is there already; --force replaces it", where=ascii(path)[1:-1])


def _write(path: str, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _keep_owner(old: str, new: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(old)
        with contextlib.suppress(PermissionError):
            os.chown(new, found.st_uid, found.st_gid)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
