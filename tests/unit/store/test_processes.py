"""The store between processes: killed ones, simultaneous ones, and disks that take no more."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlaif.store.replies import ReplyStore
from rlaif.types import Completion

REPOSITORY = Path(__file__).resolve().parents[3]

COMMON = """
import asyncio, hashlib, os, random, sys
from pathlib import Path
from rlaif.backends.cached import CachedBackend
from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import StoreError
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion, Message, Request

def key(name):
    return hashlib.sha256(str(name).encode()).hexdigest()

def say(line):
    os.write(1, (line + "\\n").encode())
"""


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMON + code, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )


def finish(process: subprocess.Popen[bytes]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    return out.decode().splitlines()


KEEPER = """
async def work(store, first):
    async def one(i):
        while True:
            await store.keep([(key(i), Completion(f"reply {i} " * random.randrange(1, 200)))])
            say(key(i))
            i += 16
    await asyncio.gather(*(one(first + i) for i in range(16)))

with ReplyStore(Path(sys.argv[1])) as store:
    asyncio.run(work(store, int(sys.argv[2])))
"""


def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    chance = random.Random(1)
    acknowledged: set[str] = set()
    for batch in range(5):  # 20 kills, four processes on the file at a time
        writers = [start(KEEPER, path, (4 * batch + i) * 1_000_000) for i in range(4)]
        heard = []
        for writer in writers:
            assert writer.stdout is not None
            heard.append(writer.stdout.readline())  # at work
        for writer in writers:
            time.sleep(chance.uniform(0, 0.05))
            writer.kill()
        for writer, first in zip(writers, heard, strict=True):
            out, _ = writer.communicate(timeout=20)
            *lines, torn = (first + out).decode().split("\n")
            assert writer.returncode == -signal.SIGKILL
            assert torn == ""
            acknowledged.update(lines)
        with ReplyStore(path) as store:
            assert store.kept(acknowledged) == acknowledged
    assert len(acknowledged) > 500
    with ReplyStore(path) as store:
        assert store.execute("PRAGMA integrity_check") == [("ok",)]


ASKER = """
path, asked, order, pause = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
log = os.open(asked, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def answer(request):
    os.write(log, (request.messages[0].content + "\\n").encode())
    await asyncio.sleep(random.uniform(0.2, 1) * pause)
    return "reply to " + request.messages[0].content

async def work(store):
    backend = CachedBackend(ScriptedBackend(answer), store)
    names = [str(i) for i in range(400)]
    random.Random(order).shuffle(names)
    slots = asyncio.Semaphore(32)
    async def one(name):
        async with slots:
            reply = await backend.complete(Request((Message("user", name),)))
            assert reply.text == "reply to " + name
            say(name)
    await asyncio.gather(*(one(name) for name in names))

with ReplyStore(path) as store:
    asyncio.run(work(store))
"""


def test_processes_at_work_on_the_same_ask_nothing_twice(tmp_path: Path) -> None:
    path, asked = tmp_path / "r.sqlite", tmp_path / "asked"
    workers = [start(ASKER, path, asked, order, 0.05) for order in range(3)]
    for worker in workers:
        assert len(finish(worker)) == 400
    times = Counter(asked.read_text().split())
    assert len(times) == 400
    assert set(times.values()) == {1}


def test_what_a_killed_process_was_asking_is_taken_over_at_once(tmp_path: Path) -> None:
    path, asked = tmp_path / "r.sqlite", tmp_path / "asked"
    stuck = start(ASKER, path, asked, 1, 3600)
    while not asked.exists() or len(asked.read_text().split()) < 32:
        assert stuck.poll() is None
        time.sleep(0.01)
    in_flight = set(asked.read_text().split())
    other = start(ASKER, path, asked, 1, 0.01)  # wants the very same first
    time.sleep(1.0)
    assert other.poll() is None
    assert Counter(asked.read_text().split()).most_common(1)[0][1] == 1
    stuck.kill()
    stuck.communicate(timeout=10)
    killed_s = time.monotonic()
    assert len(finish(other)) == 400
    assert time.monotonic() - killed_s < 10
    times = Counter(asked.read_text().split())
    assert len(times) == 400
    assert {name for name, n in times.items() if n > 1} == in_flight
    assert max(times.values()) == 2


FILLER = """
async def fill(store):
    for i in range(2000):
        await store.keep([(key(i), Completion(os.urandom(500).hex()))])
        say(key(i))

if limit := int(sys.argv[2]):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with ReplyStore(Path(sys.argv[1])) as store:
        asyncio.run(fill(store))
except StoreError as error:
    say(str(error))
"""


def _fills_and_goes_on(path: Path, limit: int) -> str:
    *acknowledged, said = finish(start(FILLER, path, limit))
    assert 20 < len(acknowledged) < 2000
    assert f"cannot write to the reply store {path}" in said
    with ReplyStore(path) as store:
        assert store.kept(acknowledged) == set(acknowledged)
        assert store.execute("PRAGMA integrity_check") == [("ok",)]
    return said


def test_a_limit_on_the_files_size_stops_clearly_and_a_rerun_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    assert "run the same again" in _fills_and_goes_on(path, 400_000)
    assert len(finish(start(FILLER, path, 0))) == 2000
    with ReplyStore(path) as store:
        assert len(store) == 2000


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_clearly_and_a_rerun_goes_on(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk", "2m") as disk:
        path = disk / "r.sqlite"
        assert "the disk is full" in _fills_and_goes_on(path, 0)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert len(finish(start(FILLER, path, 0))) == 2000


READER = """
for folder in Path(sys.argv[1]).parents:
    if folder.is_relative_to(sys.argv[2]):
        folder.chmod(folder.stat().st_mode | 0o055)
Path(sys.argv[1]).parent.chmod(0o555)
if os.getuid() == 0:
    os.setuid(65534)
try:
    ReplyStore(Path(sys.argv[1]))
except StoreError as error:
    say(str(error))
"""


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, made: bool
) -> None:
    path = tmp_path / "sub" / "r.sqlite"
    path.parent.mkdir()
    if made:
        with ReplyStore(path) as store:
            store.put_many([(key(1), Completion("x"))])
        path.chmod(0o444)
    top = tmp_path_factory.getbasetemp().parents[0]
    (said,) = finish(start(READER, path, top))
    path.parent.chmod(0o755)
    assert "cannot open the reply store" in said
    assert "must be writable" in said
