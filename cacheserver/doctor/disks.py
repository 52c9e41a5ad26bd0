"""Checks of the volumes: directory, owner, mode, space, a sample of speed, what the node and the kernel counted."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pwd
import stat
import tempfile
import time
from typing import Any, Final

from cacheserver.concurrency.daemon_thread import in_thread
from cacheserver.core.units import format_size
from cacheserver.doctor.check import Check
from cacheserver.doctor.context import Context
from cacheserver.doctor.processes import user_name
from cacheserver.store.options import VolumeOptions

_SAMPLE_BYTES: Final = 8 << 20
_BLOCK_BYTES: Final = 1 << 20
_ROOM_FOR_SAMPLE_BYTES: Final = 4 * _SAMPLE_BYTES
_VOLUME_S: Final = 10.0
_SLOW_BPS: Final = 10 << 20


async def disk_checks(context: Context) -> list[Check]:
    """Every volume, all at once: one that hangs is a line of its own."""
    known, uid = await _known_volumes(context), await _node_uid(context)
    volumes = context.settings.store.volumes
    parts = await asyncio.gather(*(_volume(volume, uid, known.get(volume.path)) for volume in volumes))
    return [check for part in parts for check in part]


async def _volume(volume: VolumeOptions, uid: int | None, known: dict[str, Any] | None) -> list[Check]:
    try:
        async with asyncio.timeout(_VOLUME_S):
            return await in_thread(volume_checks, volume, uid, known)
    except TimeoutError:
        found = f"hangs: no result within {_VOLUME_S:g} s"
        return [Check("disk", "fail", f"volume {volume.path}", found, "look at the drive, or at the network it is on")]
    except OSError as exc:
        found = f"cannot be looked at: {exc.strerror}"
        return [Check("disk", "fail", f"volume {volume.path}", found, "run the doctor as the node's user or as root")]


async def _known_volumes(context: Context) -> dict[str, dict[str, Any]]:
    """The running node's own status of its volumes, by path."""
    if not context.settings.admin.listen:
        return {}
    reply = await context.admin("/api/v1/status")
    try:
        return {str(volume["path"]): volume for volume in json.loads(reply.body)["volumes"]}
    except (ValueError, KeyError, TypeError):
        return {}


async def _node_uid(context: Context) -> int | None:
    """The node's user; None where it is not known."""
    if user := context.options.user:
        try:
            return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        except KeyError:
            return None
    process = await context.node_process()
    return os.geteuid() or None if process is None else process.uid


def volume_checks(volume: VolumeOptions, uid: int | None, known: dict[str, Any] | None) -> list[Check]:
    """All that can be said of one volume. ``uid`` is the node's user, ``known`` its own status of the volume."""
    what = f"volume {volume.path}"
    try:
        status = os.stat(volume.path)
    except FileNotFoundError:
        return [_missing(volume.path)]
    except OSError as exc:
        return [
            Check("disk", "fail", what, f"cannot be looked at: {exc.strerror}", "run the doctor as the node's user")
        ]
    if not stat.S_ISDIR(status.st_mode):
        return [Check("disk", "fail", what, "is no directory", "name a directory in store.volumes")]
    checks = [_owner(what, status, uid), *_space(what, volume, known)]
    if not any(check.name == "disk-space" and check.level == "fail" for check in checks):
        checks.append(_sample(what, volume.path))
    checks.append(_errors(what, status.st_dev, known))
    return checks


def _missing(path: str) -> Check:
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return Check("disk", "warn", f"volume {path}", f"does not exist; the node makes it in {parent}", "start the node")


def _owner(what: str, status: os.stat_result, uid: int | None) -> Check:
    owner, mode = user_name(status.st_uid), stat.S_IMODE(status.st_mode)
    path = what.removeprefix("volume ")
    if uid is None and status.st_uid != 0:
        advice = f"run the node as {owner}; name its user with --user to have this checked"
        return Check("disk-owner", "warn", what, f"belongs to {owner}; the node's user is not known", advice)
    if uid is not None and uid != status.st_uid:
        found = f"belongs to another user: {owner}, and the node runs as {user_name(uid)}"
        return Check("disk-owner", "fail", what, found, f"chown -R {user_name(uid)} {path}, or run it as {owner}")
    if mode & 0o700 != 0o700:
        return Check("disk-owner", "fail", what, f"mode {mode:04o} keeps its owner out", f"chmod 700 {path}")
    if mode & 0o077:
        advice = f"chmod 700 {path}; the node does so when it starts"
        return Check("disk-owner", "warn", what, f"mode {mode:04o} lets other users in", advice)
    return Check("disk-owner", "ok", what, f"belongs to {owner}, mode {mode:04o}")


def _space(what: str, volume: VolumeOptions, known: dict[str, Any] | None) -> list[Check]:
    system = os.statvfs(volume.path)
    free_bytes, total_bytes = system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize
    stored_bytes = int(known.get("stored_bytes", 0)) if known is not None else 0
    capacity_bytes = volume.max_size.bytes
    found = f"{format_size(free_bytes)} free of {format_size(total_bytes)}, {format_size(stored_bytes)} stored"
    if system.f_flag & os.ST_RDONLY:
        advice = "mount it writable; look for disk errors in the kernel log"
        return [Check("disk-space", "fail", what, "the file system is read-only", advice)]
    if free_bytes < min(_ROOM_FOR_SAMPLE_BYTES, capacity_bytes // 10) and stored_bytes < capacity_bytes // 2:
        return [Check("disk-space", "fail", what, f"the disk is full: {found}", "make room, or name another volume")]
    if system.f_files and not system.f_favail:
        return [Check("disk-space", "fail", what, f"no file can be made any more: {found}", "free inodes")]
    room_bytes = free_bytes + stored_bytes if known is not None else total_bytes
    if room_bytes < capacity_bytes:
        advice = f"lower max_size ({volume.max_size}) below {format_size(room_bytes)}, or make room"
        return [Check("disk-space", "warn", what, f"{found}: less than max_size", advice)]
    return [Check("disk-space", "ok", what, found)]


def _sample(what: str, path: str) -> Check:
    system = os.statvfs(path)
    if system.f_bavail * system.f_frsize < _ROOM_FOR_SAMPLE_BYTES:
        return Check("disk-speed", "ok", what, "not measured: too little is free for a sample")
    try:
        write_bps, read_bps = _speed(path)
    except PermissionError:
        return Check("disk-speed", "ok", what, "not measured: this user may not write there", "run as the node's user")
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "make room, or name another volume" if full else "look at the kernel log; replace the drive"
        return Check("disk-speed", "fail", what, f"a sample cannot be written: {exc.strerror}", advice)
    found = f"{format_size(int(write_bps))}/s written, {format_size(int(read_bps))}/s read in a sample"
    if write_bps < _SLOW_BPS:
        return Check("disk-speed", "warn", what, found, "slow for a cache: use an SSD, or look at what else writes")
    return Check("disk-speed", "ok", what, found)


def _speed(path: str) -> tuple[float, float]:
    """Bytes a second written (synced) and read, through a file without a name."""
    block = os.urandom(_BLOCK_BYTES)
    with tempfile.TemporaryFile(dir=path, buffering=0) as file:
        fd, began = file.fileno(), time.perf_counter()
        for _ in range(_SAMPLE_BYTES // _BLOCK_BYTES):
            os.write(fd, block)
        os.fdatasync(fd)
        written = time.perf_counter()
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for number in range(_SAMPLE_BYTES // _BLOCK_BYTES):
            if os.pread(fd, _BLOCK_BYTES, number * _BLOCK_BYTES) != block:
                raise OSError(errno.EIO, "what was read is not what was written")
        read = time.perf_counter()
    return _SAMPLE_BYTES / max(written - began, 1e-6), _SAMPLE_BYTES / max(read - written, 1e-6)


def _errors(what: str, device: int, known: dict[str, Any] | None) -> Check:
    if known is not None and not known.get("online", True):
        return Check(
            "disk-errors", "fail", what, "the node took it offline", "look at the kernel log and the node's log"
        )
    counted = int(known.get("errors", 0)) if known is not None else 0
    kernel = _ext4_errors(device)
    if counted or kernel:
        found = f"{counted} I/O errors counted by the node, {kernel} by the file system"
        return Check("disk-errors", "warn", what, found, "look at the kernel log; check the drive (smartctl)")
    return Check("disk-errors", "ok", what, "none counted")


def _ext4_errors(device: int) -> int:
    """What ext4 counted since its last check; 0 for other file systems."""
    try:
        link = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        with open(f"/sys/fs/ext4/{os.path.basename(link)}/errors_count", encoding="ascii") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return 0
