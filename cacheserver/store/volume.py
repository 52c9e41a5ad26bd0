"""One drive: a directory with object files, a catalogue, a space ledger, an eviction policy and an error counter.

Owns: paths, whether the drive may be written or read right now, recency across restarts. Must not open object files;
``store`` does. An fsync error or a full drive is a state here, never an exception that leaks to a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import re
import stat
from typing import Any

import aiofiles

from cacheserver.core.disk_faults import Blame, blame_of
from cacheserver.core.errors import ConfigError, DiskError, StoreError, VolumeOffline
from cacheserver.core.eviction.s3fifo import S3Fifo
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.ledger import Ledger
from cacheserver.store.leftovers import Leftovers
from cacheserver.store.object.file import disk_errors
from cacheserver.store.object.quarantine import Quarantine
from cacheserver.system.atomic_file import write_atomically

_log = get_logger(__name__)
_OF_ITS_LENGTH = (errno.EFBIG, errno.EINVAL, errno.EOVERFLOW)
_SHOWN_S = 600.0
"""Seconds after its last sign for which a fault counts as one that lasts: an idle node may not meet it again."""
_RECENCY = "recency"
_CLEAN = "clean"
_MOST_OF_CLEAN = 1 << 20
_OBJECT_ID = re.compile(r"[0-9a-f]{32}")
_COUNT = re.compile(r"[0-9]{1,19}")
_LEFT = re.compile(rf"{_OBJECT_ID.pattern}:[0-9]{{1,18}}")


class Volume:
    """State of one drive; all methods run in the event loop unless they say otherwise."""

    def __init__(
        self,
        *,
        path: str,
        capacity_bytes: int,
        low_water_percent: int,
        errors_until_offline: int,
        retry_s: float,
        clock: Clock,
    ) -> None:
        self.path = os.path.abspath(path)
        self.ledger = Ledger(capacity_bytes=capacity_bytes)
        self.policy = S3Fifo(capacity_bytes=capacity_bytes)
        self.object_count = 0
        self.loaded = asyncio.Event()
        """Set once the policy knows every stored object; eviction waits for it."""
        self.batch_bytes = capacity_bytes * (100 - low_water_percent) // 100
        """What eviction frees beyond the need, so that it runs in batches."""
        self.reconciled = False
        """Whether every object file is known to the catalogue."""
        self.error_count = 0
        self.eviction_age_s = 0.0
        """Age of what was last evicted for space; 0: nothing yet."""
        self.leftovers = Leftovers(self.ledger, clock=clock, retry_s=retry_s)
        self.quarantine = Quarantine(os.path.join(self.path, "quarantine"))
        self._errors_until_offline = errors_until_offline
        self._errors_in_a_row = self._refused_in_a_row = 0
        self._times_offline = 0
        self._full, self._well_from = False, 0.0
        self._retry_s = retry_s
        self._clock = clock
        self._offline_until = self._full_until = 0.0
        self._worth_more_bytes = 0
        """So much must be stored when the drive is full again for eviction to have been of use."""
        self._lock_fd = -1
        self._device: int | None = None
        """File system of the first ``open``: nothing is made anew on another one, as below a mount that is gone."""
        self._catalogue: Catalogue | None = None
        self.lives = 0
        """How often it was lost: what a call finds that began before is of no use."""

    @property
    def catalogue(self) -> Catalogue:
        """The durable map of this volume; VolumeOffline before ``open`` and after a loss."""
        if self._catalogue is None:
            raise VolumeOffline(f"volume {self.path} is not open")
        return self._catalogue

    @property
    def opened(self) -> bool:
        """Whether ``open`` has succeeded."""
        return self._catalogue is not None

    @property
    def online(self) -> bool:
        """Whether reads may be tried; an offline volume is tried again after ``retry_offline_s``."""
        return self._catalogue is not None and self._clock.monotonic_s() >= self._offline_until

    @property
    def writable(self) -> bool:
        """Whether writes may be tried."""
        return self.online and self._clock.monotonic_s() >= self._full_until

    @property
    def well(self) -> bool:
        """``online`` as operators see it: a fault that lasts is no other one at each new try."""
        untold = self._clock.monotonic_s() >= self._offline_until + _SHOWN_S
        return self._catalogue is not None and (not self._times_offline or untold)

    @property
    def takes_content(self) -> bool:
        """``writable`` as operators see it."""
        return self.well and (not self._full or self._clock.monotonic_s() >= self._well_from + _SHOWN_S)

    @property
    def ailing(self) -> bool:
        """Whether it went offline, and again when it was tried: no call has worked since the first time."""
        return self._times_offline > 1

    def open(self) -> None:
        """Make or check the directories, open the catalogue, count what is stored. Blocking.

        Raises ConfigError when the directory cannot be used, with the reason, and VolumeOffline when the drive is
        full or fails, which may pass: ``open`` may be tried again, then in a thread, as a failing drive may hang.
        """
        catalogue: Catalogue | None = None
        try:
            self._prepare_directory()
            self._check_device()
            self._take_lock()
            counted = self._take_clean_mark()
            catalogue = Catalogue(os.path.join(self.path, "catalogue"), thorough=counted is None)
            stored_bytes = catalogue.stored_bytes_total()
            self.object_count = len(catalogue)
        except (StoreError, OSError) as exc:
            if catalogue is not None:
                catalogue.close()
            self._release_lock()
            if isinstance(exc, VolumeOffline):
                raise
            number = getattr(exc, "errno", None)
            reason = os.strerror(number) if isinstance(exc, OSError) and number else str(exc)
            if number is not None and blame_of(number) is not Blame.OBJECT:
                raise VolumeOffline(f"volume {self.path} cannot be opened now: {reason}") from exc
            raise ConfigError(f"cache directory {self.path} cannot be used: {reason}", key="store.volumes") from exc
        self.quarantine.refresh()
        self.reconciled = counted == stored_bytes and not catalogue.rebuilt
        self.ledger.set_stored(stored_bytes)
        self._catalogue = catalogue  # last: from here on the volume is used, while this may be another thread

    def _take_clean_mark(self) -> int | None:
        """Stored bytes that a clean stop left; None after an unclean one. Removes the mark: it counts once.

        The files that its disk did not remove are leftovers again.
        """
        try:
            with open(self._file(_CLEAN), encoding="ascii", errors="replace") as mark:
                counted, *left = mark.read(_MOST_OF_CLEAN).split() or [""]
            os.unlink(self._file(_CLEAN))
        except FileNotFoundError:
            return None
        if not _COUNT.fullmatch(counted):
            return None
        for each in filter(_LEFT.fullmatch, left):
            object_id, _, held_bytes = each.partition(":")
            self.leftovers.known(object_id, int(held_bytes))
        return int(counted)

    def _prepare_directory(self) -> None:
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        status = self._own(self.path)
        mode = stat.S_IMODE(status.st_mode)
        if _writable_by_others(status) and os.listdir(self.path):
            raise ConfigError(
                f"cache directory {self.path} could be written by other users (mode {mode:o}), so that nothing in it "
                "can be trusted: empty it, or chmod 700 it where it was only ever yours",
                key="store.volumes",
            )
        if mode & 0o777 != 0o700:
            os.chmod(self.path, 0o700)
        root = os.path.join(self.path, "objects")
        for directory in (root, *(os.path.join(root, f"{fan:02x}") for fan in range(256))):
            try:
                status = self._own(directory)
            except FileNotFoundError:
                os.mkdir(directory, 0o700)
                status = self._own(directory)
            if stat.S_ISLNK(status.st_mode):
                raise ConfigError(f"{directory} is a link; object directories must be real", key="store.volumes")
            if _writable_by_others(status):
                raise ConfigError(f"{directory} can be written by other users; chmod 700", key="store.volumes")
            if not stat.S_ISDIR(status.st_mode):
                raise ConfigError(f"{directory} is not a directory", key="store.volumes")
            if status.st_mode & 0o020 or status.st_mode & 0o700 != 0o700:
                os.chmod(directory, 0o700)

    def _check_device(self) -> None:
        device = os.stat(self.path).st_dev
        if self._device not in (None, device):
            raise VolumeOffline(f"volume {self.path} lies on another file system than before: restart to use that")
        self._device = device

    def inspect(self) -> str | None:
        """Why this is not the directory that was opened any more; None where it is. Makes missing directories anew.

        Blocking. DiskError where the drive cannot tell.
        """
        with disk_errors("inspect"):
            try:
                mark = os.stat(self._file("lock"), follow_symlinks=False)
                if not os.path.samestat(mark, os.fstat(self._lock_fd)) or not self.catalogue.stands():
                    return "its files were replaced"
                self._prepare_directory()
            except (FileNotFoundError, NotADirectoryError):
                return "its files were removed"
            except ConfigError as exc:
                return str(exc)
            except OSError as exc:
                if blame_of(exc.errno) is not Blame.OBJECT:
                    raise
                return f"its files cannot be reached: {exc.strerror}"
        return None

    def lost(self) -> Catalogue:
        """Begin anew, as before ``open``: what was here is gone, and so is what the books say of it.

        The catalogue is the caller's to close.
        """
        catalogue, self._catalogue = self.catalogue, None
        self.lives += 1
        self._release_lock()
        self.ledger = Ledger(capacity_bytes=self.ledger.capacity_bytes)
        self.policy = S3Fifo(capacity_bytes=self.ledger.capacity_bytes)
        self.object_count = 0
        self.loaded = asyncio.Event()
        self.reconciled = False
        self._refused_in_a_row = 0
        self.leftovers = Leftovers(self.ledger, clock=self._clock, retry_s=self._retry_s)
        return catalogue

    def _own(self, directory: str) -> os.stat_result:
        """Status of a directory (the volume's own may be a link); ConfigError when it is another user's."""
        status = os.stat(directory, follow_symlinks=directory == self.path)
        if status.st_uid != os.geteuid():
            raise ConfigError(f"cache directory {directory} belongs to another user", key="store.volumes")
        return status

    def _take_lock(self) -> None:
        fd = os.open(self._file("lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock_fd = fd
        except BlockingIOError as exc:
            os.close(fd)
            raise ConfigError(f"cache directory {self.path} is in use by another node", key="store.volumes") from exc

    def _release_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def path_of(self, object_id: str) -> str:
        """File of an object; ValueError for an id that is not made of 32 hex digits, as it would name another place."""
        if not _OBJECT_ID.fullmatch(object_id):
            raise ValueError("not an object id")
        return os.path.join(self.path, "objects", object_id[:2], object_id)

    def failed(self, error: DiskError) -> Blame:
        """Note a failed disk call, and whose it is: only what is the drive's own takes it out of service."""
        blame = blame_of(error.errno)
        if blame in (Blame.OBJECT, Blame.PROCESS):
            return blame
        self.error_count += 1
        now = self._clock.monotonic_s()
        if blame is not Blame.DRIVE:
            self._take_nothing(error, "make room, or lower max_size of this volume")
            return blame
        self._errors_in_a_row += 1
        if self._errors_in_a_row >= self._errors_until_offline:
            if not self._times_offline:
                self._tell("volume_offline", str(error), "look at the drive and at the kernel log")
            self._times_offline += now >= self._offline_until
            self._offline_until = now + self._retry_s
            self._errors_in_a_row = self._errors_until_offline - 1
        return blame

    def refused(self, error: DiskError) -> None:
        """Note that a file could not be made, or removed for room: of many in a row the directories are the reason."""
        if blame_of(error.errno) is Blame.OBJECT and error.errno not in _OF_ITS_LENGTH:
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= self._errors_until_offline:
                self._take_nothing(error, "look at owner, permissions and attributes of this directory")

    def obeyed(self) -> None:
        """Note that a file could be made or removed."""
        self._refused_in_a_row = 0

    def _take_nothing(self, error: DiskError, remedy: str) -> None:
        """Write nothing for a while; what is here is served."""
        self._full_until = self._well_from = self._clock.monotonic_s() + self._retry_s
        if not self._full:
            self._full = True
            self._tell("volume_full", os.strerror(error.errno or 0), remedy)

    def _tell(self, name: str, reason: str, remedy: str) -> None:
        remedy += f"; clients are served past the cache, and the volume is tried again every {self._retry_s:g} s"
        event(_log, name, severity=logging.ERROR, volume=self.path, reason=reason, remedy=remedy)

    def wrote(self) -> None:
        """Note a piece that was written: a full drive is well once none was refused for as long as it is left alone."""
        if self._full and self._clock.monotonic_s() >= self._well_from:
            self._full = False
            event(_log, "volume_writable", volume=self.path)

    def evicted_from(self, since_s: float) -> None:
        """Note that something was evicted for space that had been there since this Unix time."""
        self.eviction_age_s = max(0.0, self._clock.wall_s() - since_s)

    def room_was_made(self, before_bytes: int) -> None:
        """Something was evicted from a full drive that had stored ``before_bytes``: try to write again at once.

        Not where others have filled the room that was made last: they would take this too.
        """
        if before_bytes >= self._worth_more_bytes:
            self._full_until = self._clock.monotonic_s()
        self._worth_more_bytes = self.ledger.stored_bytes + (before_bytes - self.ledger.stored_bytes) // 4

    def succeeded(self) -> None:
        """Note a disk call that worked."""
        if self._times_offline:
            event(_log, "volume_online", volume=self.path)
        self._errors_in_a_row = self._times_offline = 0

    async def save_recency(self, executor: Any) -> None:
        """Write the order of eviction, so that a restart forgets nothing; a failure costs only the order."""
        path, data = self._file(_RECENCY), self.policy.snapshot()
        try:
            await asyncio.get_running_loop().run_in_executor(executor, write_atomically, path, data)
        except OSError as exc:
            self.failed(DiskError("recency could not be saved", errno=exc.errno))

    async def load_recency(self, executor: Any) -> None:
        """Take up the order that an earlier run left, keeping what was admitted since; a damaged one is dropped."""
        policy = S3Fifo(capacity_bytes=self.ledger.capacity_bytes)
        try:
            async with aiofiles.open(self._file(_RECENCY), "rb", executor=executor) as file:
                data = await file.read()
            await asyncio.get_running_loop().run_in_executor(executor, policy.restore, data)
        except (OSError, ValueError):
            return
        for whole in self.policy.pinned():
            policy.pin(whole)
        for unit, size_bytes in self.policy.units():
            policy.admit_unless_known(unit, size_bytes)
        policy.ghost_hits, policy.ghost_hit_bytes = self.policy.ghost_hits, self.policy.ghost_hit_bytes
        self.policy = policy

    def close(self, *, clean: bool) -> None:
        """Flush the catalogue, mark the stop as clean where nothing is in doubt, give the lock back. Blocking."""
        if not self.opened:
            return
        self.catalogue.close()
        left = (f"{object_id}:{held_bytes}" for object_id, held_bytes in self.leftovers)
        mark = " ".join([str(self.ledger.stored_bytes), *left]).encode()
        if clean and self.reconciled and not self.catalogue.write_errors and len(mark) < _MOST_OF_CLEAN:
            with contextlib.suppress(OSError):
                write_atomically(self._file(_CLEAN), mark)
        self._release_lock()

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)


def _writable_by_others(status: os.stat_result) -> bool:
    """Whether a directory may be written by users who are neither its owner nor in a group of this process.

    Kubernetes gives a volume to a group of the pod (``fsGroup``) and lets that group write.
    """
    ours = status.st_gid in (os.getegid(), *os.getgroups())
    return bool(status.st_mode & (0o002 if ours else 0o022))
