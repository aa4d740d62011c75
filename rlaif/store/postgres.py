"""PostgreSQL by URL: one connection that heals, and errors that never show the password.

    link = Link(Address.parse("postgresql://rlaif@db.example/rlaif"))
    with link.using() as db:
        db.execute("SELECT 1")

The password is better left to `PGPASSWORD` or `~/.pgpass`, which the client library reads by
itself: everybody on a machine sees its command lines. Claims hold a session's locks, so a pooler
between must keep sessions, as PgBouncer does with `pool_mode = session`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlaif.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

SCHEMES = ("postgresql://", "postgres://")

_PATIENCE: Mapping[str, str] = {
    "connect_timeout": "3",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""What the address does not say itself: how soon a dead network is noticed, seconds and ms."""
_SERVER_KEEPALIVES = (
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)
"""The same at the other end: a machine that lost its power holds no locks for hours."""
_AWAY = ("08", "57P")
"""SQLSTATEs of a server that cannot be reached, or is going down or coming up."""
_AWAY_S = 1.0
"""How long a server that could not be reached is left alone: each try may take seconds."""
_PORTS = re.compile(r"(\d+(,\d*)*)?")


class UnreachableError(StoreError):
    """The server does not answer, or has just ended the connection: it may be back soon."""


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Where a PostgreSQL database is, and as whom it is used. Shows itself without a password."""

    conninfo: str
    shown: str
    """The address as it may be told."""
    password: str | None

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address in a URL, `postgresql://USER@HOST:PORT/DATABASE?OPTIONS`.

        Raises:
            ConfigError: it is malformed, or the client library is not installed. The message
                quotes nothing of it, since any part may be a password that was not encoded.
        """
        try:
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict, make_conninfo
        except ImportError as error:
            message = (
                "PostgreSQL needs psycopg, which is not installed: pip install 'rlaif[postgres]'"
            )
            raise ConfigError(message) from error
        malformed = ConfigError(
            "the address of the store is no PostgreSQL URL such as "
            "postgresql://USER@HOST:5432/DATABASE; special characters in it are written as %40 "
            "for @, %2F for /, %3A for :"
        )
        if not url.startswith(SCHEMES) or url.partition("?")[0].count("@") > 1:
            raise malformed
        try:
            parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        except (ProgrammingError, ValueError, UnicodeError):
            raise malformed from None
        authority, _, path = url.partition("://")[2].partition("?")[0].partition("/")
        if "@" in path or not _PORTS.fullmatch(parts.get("port", "")) or authority.count(":") > 20:
            raise malformed
        host = parts.get("host", "localhost")
        user = f"{parts['user']}@" if "user" in parts else ""
        port = f":{parts['port']}" if "port" in parts else ""
        shown = f"postgresql://{user}{host}{port}/{parts.get('dbname', '')}"
        conninfo = make_conninfo(**{**_PATIENCE, "application_name": "rlaif", **parts})
        return cls(conninfo, shown, parts.get("password"))

    def __repr__(self) -> str:
        return self.shown

    def told(self, error: Exception) -> str:
        """The first line of what went wrong, without the password."""
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        return text.replace(self.password, "…") if self.password else text


class Link:
    """One connection, made when it is first needed and anew when the server ended it.

    Any thread may use it, one at a time.

    Args:
        address: Where the database is.
        begin: Told each new connection before anybody else uses it.
    """

    def __init__(
        self, address: Address, begin: Callable[[Connection], None] = lambda _: None
    ) -> None:
        self.address = address
        self._begin = begin
        self._lock = threading.RLock()
        self._db: Connection | None = None
        self._closed = False
        self._inside = 0
        self._away: tuple[float, UnreachableError] | None = None
        """Until when nothing is tried, and why."""

    @contextmanager
    def using(self) -> Iterator[Connection]:
        """The connection, where every statement is a transaction by itself.

        Raises:
            UnreachableError: the server cannot be reached, or went away meanwhile.
            StoreError: it refused. An error about a key that is there already is passed on.
        """
        from psycopg import Error, IntegrityError

        with self._lock:
            self._inside += 1
            try:
                yield self._alive()
            except IntegrityError:
                raise
            except Error as error:
                raise self._failure(error) from None
            finally:
                self._inside -= 1

    def _alive(self) -> Connection:
        import psycopg

        if self._closed:
            raise StoreError(f"the store {self.address.shown} is closed")
        if self._db is not None and self._inside > 1:
            return self._db  # a transaction does not go on over another connection
        if self._db is not None:
            with suppress(psycopg.Error):
                # notices that the server hung up while nobody asked it anything: first there is
                # what it said, then the end
                self._db.pgconn.consume_input()
                self._db.pgconn.consume_input()
            if self._db.closed:
                self._db = None
        if self._db is None:
            self._db = self._connected()
        return self._db

    def _connected(self) -> Connection:
        import psycopg

        if self._away is not None and time.monotonic() < self._away[0]:
            raise self._away[1]
        try:
            db = psycopg.connect(self.address.conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            why = self._failure(error)
            if isinstance(why, UnreachableError):
                self._away = (time.monotonic() + _AWAY_S, why)
            raise why from None
        try:
            if db.info.parameter_status("server_encoding") != "UTF8":
                raise StoreError(f"the database {self.address.shown} is not encoded in UTF8")
            db.execute(_SERVER_KEEPALIVES)
            self._begin(db)
        except BaseException:
            db.close()
            raise
        return db

    def _failure(self, error: psycopg.Error) -> StoreError:
        import psycopg

        state = error.sqlstate
        gone = self._db is None or self._db.closed
        if isinstance(error, psycopg.OperationalError) and (
            (gone and state is None) or (state or "").startswith(_AWAY)
        ):
            told = f"cannot reach the store {self.address.shown}: {self.address.told(error)}"
            return UnreachableError(told)
        return StoreError(f"cannot use the store {self.address.shown}: {self.address.told(error)}")

    def close(self) -> None:
        """Give the connection back. Safe to call twice."""
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()
                self._db = None
