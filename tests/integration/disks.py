"""File systems that are soon full."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A folder on a file system of its own, of `size` as mount takes it; the test skips without.

    It lies outside pytest's folders: a mount that a killed run left would make every later run fail
    to clean up.
    """
    folder = Path(tempfile.mkdtemp(prefix="rlaif-small-disk-"))
    if not mounted(folder, f"size={size}"):
        folder.rmdir()
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        # lazily: who holds the run folder's lock lets go of it when it is collected
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def mounted(folder: Path, options: str) -> bool:
    """Whether a file system in memory could be mounted there, or mounted anew."""
    mount = shutil.which("mount")
    if mount is None or sys.platform != "linux":
        return False
    words = [mount, "-t", "tmpfs", "-o", options, "none", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
