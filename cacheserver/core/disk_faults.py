"""Whose a failed disk call is: the object's, the process's or the drive's.

Owns: the table. Only what is the drive's own may take a drive out of service; what is one object's costs that object,
and what the process lacks is said once and leaves the drive alone. Pure.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import Enum
from typing import Final


class Blame(Enum):
    """Whose a failed call is, and what it leads to."""

    OBJECT = "this one file cannot be used, or cannot be made: the object is not kept"
    PROCESS = "the node lacks descriptors or memory: nothing is said of any file or drive"
    FULL = "no room, although the ledger has some: nothing is written for a while, and other programs' room is made up"
    READ_ONLY = "the file system takes nothing for a while; what it holds is served"
    DRIVE = "the drive fails: after some calls in a row nothing is tried on it for a while"


BLAME: Final[Mapping[int, Blame]] = {
    **dict.fromkeys(
        (
            errno.EACCES,
            errno.EBADF,
            errno.EEXIST,
            errno.EFBIG,
            errno.EINVAL,
            errno.EISDIR,
            errno.ELOOP,
            errno.ENAMETOOLONG,
            errno.ENOENT,
            errno.ENOTDIR,
            errno.ENOTSUP,
            errno.EOVERFLOW,
            errno.EPERM,
            errno.ESTALE,
            errno.ETXTBSY,
        ),
        Blame.OBJECT,
    ),
    **dict.fromkeys((errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM), Blame.PROCESS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), Blame.FULL),
    errno.EROFS: Blame.READ_ONLY,
}
"""Every other number, and a read that ends early, is the drive's. See errno(3) and the pages of the calls."""


def blame_of(number: int | None) -> Blame:
    """Whose a call is that failed with this errno; None where it ended without one, as a read that is cut does."""
    return Blame.DRIVE if number is None else BLAME.get(number, Blame.DRIVE)
