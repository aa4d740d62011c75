"""Indexes of runs, made in processes of their own: pages stay quick meanwhile."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rlaif.service.index import is_indexed
from rlaif.service.working import folder_of


class Indexer:
    """Indexes runs that are done, each once, in processes of their own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()

    def ready(self, name: str) -> bool:
        """Whether a run is indexed; where it is not, that is begun."""
        if is_indexed(folder_of(self._root, name)):
            return True
        if name not in self._under_way:
            task = asyncio.create_task(self._index(name))
            self._under_way[name] = task
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        return False

    def busy(self, name: str) -> bool:
        """Whether the run is being indexed here, and its report written."""
        return name in self._under_way

    async def _index(self, name: str) -> None:
        async with self._one_at_a_time:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "rlaif.service.index", str(folder_of(self._root, name))),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                await process.wait()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise

    async def stop(self) -> None:
        """End what is under way; it is begun anew when somebody asks."""
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
