"""Indexes of runs, made in processes of their own: pages stay quick meanwhile."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

from rlaif.service.errors import Problem
from rlaif.service.index import is_indexed
from rlaif.service.working import folder_of

_AGAIN_S = 60.0
"""Seconds for which a run that could not be indexed is not tried anew."""

_log = logging.getLogger("rlaif.service")


class Indexer:
    """Indexes runs that are done, each once, in processes of their own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._failed_s: dict[str, float] = {}
        self._one_at_a_time = asyncio.Lock()

    def ready(self, name: str) -> bool:
        """Whether a run is indexed; where it is not, that is begun.

        Raises:
            Problem: it was tried in the last minute, and failed.
        """
        if is_indexed(folder_of(self._root, name)):
            return True
        left_s = self._failed_s.get(name, -_AGAIN_S) + _AGAIN_S - time.monotonic()
        if left_s > 0:
            message = "the verdicts of this run could not be indexed; see the service's log"
            raise Problem(500, message, retry_after_s=left_s)
        self._begin(name)
        return False

    def renew(self, name: str) -> None:
        """Index a run that has just been done, whatever became of it earlier."""
        self._failed_s.pop(name, None)
        self._begin(name)

    def busy(self, name: str) -> bool:
        """Whether the run is being indexed here, and its report written."""
        return name in self._under_way

    def _begin(self, name: str) -> None:
        if name not in self._under_way:
            task = asyncio.create_task(self._index(name))
            self._under_way[name] = task
            task.add_done_callback(lambda _: self._under_way.pop(name, None))

    async def _index(self, name: str) -> None:
        folder = folder_of(self._root, name)
        async with self._one_at_a_time:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "rlaif.service.index", str(folder)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                process.terminate()
                await process.wait()
                raise
        if status:
            # its own words may hold what somebody wrote
            tell = f"python -m rlaif.service.index {folder}"
            _log.error("the run %s cannot be indexed (status %d); %s says why", name, status, tell)
            self._failed_s[name] = time.monotonic()

    async def stop(self) -> None:
        """End what is under way; it is begun anew when somebody asks."""
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
