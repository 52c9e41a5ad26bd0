"""Who may read a file with a secret: its owner, and the group of the node's user. Nobody else.

Owns: this one rule and the command that restores it, for the start, the doctor, ``check-config`` and TLS keys;
``install.sh`` writes the settings file by it. Must not change a file.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from typing import Final

SERVICE_USER: Final = "cacheserver"
"""The user that ``install.sh`` makes; a command that root runs means its group."""


def service_gid(user: str = "") -> int:
    """The group of ``user`` or of the node's user: the present one, and for root the installed one if it exists."""
    name = user or (SERVICE_USER if os.geteuid() == 0 else "")
    try:
        return pwd.getpwnam(name).pw_gid if name else os.getegid()
    except KeyError:
        return os.getegid()


def exposure(path: str, gid: int | None = None) -> str:
    """What is wrong with the mode of the secret file at ``path`` and the command against it; empty: nothing.

    ``gid`` is the group of the node's user where it is known. Raises OSError.
    """
    status = os.stat(path)
    allowed = {gid} if gid is not None else {service_gid(), os.getegid(), *os.getgroups()}
    readers = 0o004 if status.st_gid in allowed else 0o044
    if not stat.S_IMODE(status.st_mode) & readers:
        return ""
    return f"other users can read it; {restoring(path, gid)}"


def restoring(path: str, gid: int | None = None) -> str:
    """The command after which owner and group of the node's user may read the file at ``path``, and nobody else."""
    number = service_gid() if gid is None else gid
    try:
        group = grp.getgrgid(number).gr_name
    except KeyError:
        group = str(number)
    name = shlex.quote(path)
    return f"chgrp {group} {name} && chmod 640 {name}"
