"""Who is at work, told by locks that the operating system drops when a process dies.

So there is nothing to expire and nothing stale: `kill -9` frees what was held, at once. Where a
file system or a platform has no such locks, only this process is kept from doing a thing twice.
"""

from __future__ import annotations

import os
import platform
import struct
import threading
import weakref
from pathlib import Path
from typing import Any

from rlaif.errors import ConfigError, StoreError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCKS = fcntl is not None
"""Whether this platform has locks that other processes respect."""
_LINUX = platform.system() == "Linux"
_FILES = 32
"""The system walks through all locks of a file at each call, so they are spread over some."""
_FLOCK = struct.Struct("hhqqi")
"""Linux's `struct flock`: type, whence, start, length, process."""


class Claims:
    """Keys that are being asked for: each is held by one owner on this machine.

    A claim is a lock on one byte of a file without contents, at a place that the key tells. To take
    and drop one costs 4 to 8 microseconds while up to ten thousand are held, as runs do; with a
    hundred thousand held, as by the largest batches, half a millisecond.

    Args:
        folder: Where the files are; made at the first claim.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[int | None] = [None] * _FILES
        self._held: set[bytes] = set()
        self._guard = threading.Lock()

    def take(self, key: bytes) -> bool:
        """Whether `key` is now held by this caller, and was held by nobody before.

        Raises:
            StoreError: the files cannot be made.
        """
        with self._guard:
            if key in self._held or not self._lock(key):
                return False
            self._held.add(key)
            return True

    def drop(self, key: bytes) -> None:
        """Let go of `key`; nothing where it is not held."""
        with self._guard:
            if key in self._held:
                self._held.discard(key)
                self._set(key, locked=False)

    def holds(self, key: bytes) -> bool:
        """Whether this owner holds `key`."""
        return key in self._held

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""
        with self._guard:
            self._held.clear()
            for place, file in enumerate(self._files):
                if file is not None:
                    os.close(file)
                    self._files[place] = None

    def _lock(self, key: bytes) -> bool:
        try:
            self._set(key, locked=True)
        except (BlockingIOError, PermissionError):  # held; POSIX allows either to say so
            return False
        except OSError:  # no locks here
            return True
        return True

    def _set(self, key: bytes, *, locked: bool) -> None:
        if not LOCKS:
            return
        file = self._files[key[0] % _FILES]
        if file is None:
            file = self._open(key[0] % _FILES)
        place = int.from_bytes(key[1:9], "big") >> 2
        if _LINUX:
            # of the open file, not of the process: two stores in one process see each other, and
            # closing one does not drop the claims of the other
            kind = fcntl.F_WRLCK if locked else fcntl.F_UNLCK
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, place, 1, 0))
        else:
            kind = fcntl.LOCK_EX | fcntl.LOCK_NB if locked else fcntl.LOCK_UN
            fcntl.lockf(file, kind, 1, place)

    def _open(self, number: int) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._folder / f"{number:02x}", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(f"cannot claim requests in {self._folder}: {reason}") from error
        self._files[number] = file
        return file


class FolderLock:
    """A folder that no other process writes to, as long as this object lives.

    Raises:
        ConfigError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        if not LOCKS:
            return
        try:
            file = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be opened: {error.strerror or error}") from error
        weakref.finalize(self, os.close, file)
        try:
            _try_lock(file)
        except BlockingIOError:
            message = f"another process is writing to {folder}: wait for it, or choose another -o"
            raise ConfigError(message) from None


def lock_file(path: Path) -> int:
    """The descriptor of an empty file that no other writer has open by this function.

    Raises:
        BlockingIOError: another writer has it open.
        OSError: it cannot be made.
    """
    while True:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            if LOCKS:
                _try_lock(file)
            # the writer before us may have given the file its final name: then it is not ours
            if _same(file, path):
                os.ftruncate(file, 0)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _try_lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, "another writer has it open") from None
    except OSError:  # some network file systems cannot lock
        return


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


_FOLDERS: weakref.WeakValueDictionary[Path, FolderLock] = weakref.WeakValueDictionary()
_FOLDERS_GUARD = threading.Lock()


def lock_folder(folder: Path) -> FolderLock:
    """The lock of `folder`; this process shares it with itself.

    Raises:
        ConfigError: another process holds it.
    """
    real = folder.resolve()
    with _FOLDERS_GUARD:
        lock = _FOLDERS.get(real)
        if lock is None:
            lock = _FOLDERS[real] = FolderLock(folder)
        return lock
