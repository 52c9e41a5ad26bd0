"""Certificate and key files put in their place: whole or not at all, keys for their owner only.

Owns: modes and owners. A node that reads at any moment finds the old file or the new one. What a symbolic link names
is replaced, not the link, where ``system.place`` follows it. OSError goes up.
"""

from __future__ import annotations

import secrets
from typing import Final

from cacheserver.core.errors import ConfigError
from cacheserver.system.atomic_file import write_atomically
from cacheserver.system.place import reach

KEY_MODE: Final = 0o600
CERTIFICATE_MODE: Final = 0o644


def write_file(path: str, data: bytes, mode: int, *, replace: bool) -> None:
    """Put ``data`` at ``path`` atomically and durably, as its old file's owner, or as its folder's, where permitted.

    A missing folder is made. ConfigError where a file is there and ``replace`` is false; an
    OSError names ``path``.
    """
    suffix = f".{secrets.token_hex(4)}.new"
    try:
        make_folder(path)
        write_atomically(path, data, mode=mode, durable=True, replace=replace, suffix=suffix, follow=True, give=True)
    except FileExistsError as exc:
        raise already_there(path) from exc
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, path) from exc


def make_folder(path: str) -> None:
    """Make the folder of the file at ``path``, for its owner alone, where it is missing. OSError names ``path``."""
    with reach(path, make=True):
        pass


def already_there(path: str) -> ConfigError:
    """The refusal to overwrite ``path``."""
    return ConfigError("is there already; --force replaces it", where=ascii(path)[1:-1])
