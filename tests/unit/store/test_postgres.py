"""A PostgreSQL server that is away, comes back, is wrong; and addresses that hold a password."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from rlaif.errors import ConfigError, StoreError
from rlaif.store import postgres_claims, postgres_writer
from rlaif.store.postgres import Address, Link, UnreachableError
from rlaif.store.postgres_claims import PostgresClaims
from rlaif.store.postgres_replies import PostgresReplies
from rlaif.store.postgres_schema import prepare
from tests.postgres import Server
from tests.unit.store.test_both_stores import completion, key

SECRET = "hunter2hunter2"
DIGEST = bytes(32)


@pytest.fixture
def address(postgres_url: str) -> Address:
    return Address.parse(postgres_url)


def end_sessions(address: Address) -> None:
    """End every session but the one that asks, as a restart would."""
    once(
        address,
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )


def run(link: Link, statement: str) -> None:
    with link.using() as db:
        db.execute(statement)


def once(address: Address, statement: str) -> None:
    with closing(Link(address)) as link:
        run(link, statement)


def test_an_address_shows_itself_without_its_password() -> None:
    pytest.importorskip("psycopg")
    address = Address.parse(f"postgresql://anna:{SECRET}@db.example:5433/labels?sslmode=require")
    shown = "postgresql://anna@db.example:5433/labels"
    assert (repr(address), str(address), address.shown) == (shown, shown, shown)
    assert SECRET in address.conninfo
    assert address.told(ValueError(f"no {SECRET} here\nmore")) == "no … here"
    assert Address.parse("postgres:///x").shown == "postgresql://localhost/x"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://anna:{SECRET}@host/db",
        f"postgresql://anna:{SECRET}@evil@host/db",
        f"postgresql://anna:{SECRET}/x@host/db",
        f"postgresql://anna:12/{SECRET}@host/db",
        f"postgresql://host:{SECRET}/db",
        f"postgresql://host/db?unknown={SECRET}",
        f"postgresql://host/db?password=%{SECRET}",
        f"postgresql://[host/{SECRET}",
        "replies.sqlite",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_quoted(url: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match="no PostgreSQL URL") as caught:
        Address.parse(url)
    assert "hunter2" not in str(caught.value)


def test_without_its_client_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"rlaif\[postgres\]"):
        Address.parse("postgresql://host/db")


def test_a_server_that_refuses_or_is_not_there_is_said_without_the_password(
    postgres: Server, address: Address
) -> None:
    stranger = Address.parse(postgres.url(user=f"stranger:{SECRET}"))
    nowhere = Address.parse(f"postgresql://anna:{SECRET}@/db?host=/nowhere")
    for one, kind in ((stranger, StoreError), (nowhere, UnreachableError)):
        with pytest.raises(kind) as caught:
            once(one, "SELECT 1")
        assert SECRET not in f"{caught.value!r} {caught.value}"
        assert one.shown in str(caught.value)
    with pytest.raises(StoreError, match=r"cannot use the store .* syntax error"):
        once(address, "SELEKT 1")


def test_a_server_that_is_away_is_left_alone_for_a_moment(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    tried = []

    def refused(*_: object, **__: object) -> None:
        tried.append(1)
        raise psycopg.OperationalError("nobody there")

    with closing(Link(address)) as link:
        with monkeypatch.context() as patched:
            patched.setattr(psycopg, "connect", refused)
            for _ in range(3):
                with pytest.raises(UnreachableError, match="nobody there"):
                    run(link, "SELECT 1")
            assert len(tried) == 1
        monkeypatch.setattr(link, "_away", (time.monotonic(), UnreachableError("then")))
        run(link, "SELECT 1")


def test_a_connection_that_was_ended_is_made_anew_but_not_amid_a_transaction(
    address: Address,
) -> None:
    link = Link(address)
    with link.using() as db:
        first = db.info.backend_pid
    end_sessions(address)
    with link.using() as db:
        assert db.info.backend_pid != first
        end_sessions(address)
        with pytest.raises(UnreachableError):
            run(link, "SELECT 1")
    run(link, "SELECT 1")
    link.close()
    with pytest.raises(StoreError, match="is closed"):
        run(link, "SELECT 1")


def test_another_encoding_is_refused(postgres: Server, address: Address) -> None:
    once(address, "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'")
    other = Address.parse(postgres.url().replace("/postgres?", "/ascii?"))
    with pytest.raises(StoreError, match="not encoded in UTF8"):
        once(other, "SELECT 1")


def test_tables_of_a_newer_version_are_left_untouched(address: Address) -> None:
    link = Link(address)
    prepare(link, "x", {1: ["CREATE TABLE x (a INTEGER)"]})
    prepare(link, "x", {1: ["CREATE TABLE x (a INTEGER)"], 2: ["ALTER TABLE x ADD b INTEGER"]})
    with link.using() as db:
        assert db.execute("SELECT a, b FROM x").fetchall() == []
    with pytest.raises(StoreError, match="has schema 2 of x, this version reads 1"):
        prepare(link, "x", {1: []})
    link.close()


@contextmanager
def claiming(address: Address) -> Iterator[Callable[[], PostgresClaims]]:
    made: list[PostgresClaims] = []
    PostgresReplies(address).close()  # makes the tables
    try:
        yield lambda: made.append(PostgresClaims(address)) or made[-1]  # type: ignore[func-returns-value]
    finally:
        for one in made:
            one.close()


def test_a_claim_is_one_server_s_until_it_drops_it_or_ends(address: Address) -> None:
    with claiming(address) as begin:
        one, other = begin(), begin()
        assert one.take(DIGEST)
        assert not one.take(DIGEST)
        assert not other.take(DIGEST)
        other.drop(DIGEST)
        assert (one.holds(DIGEST), other.holds(DIGEST)) == (True, False)
        one.drop(DIGEST)
        assert other.take(DIGEST)
        other.close()
        other.close()
        assert one.take(DIGEST)


def test_a_claim_outlives_a_broken_connection_that_is_mended(address: Address) -> None:
    with claiming(address) as begin:
        one, other = begin(), begin()
        assert one.take(DIGEST)
        end_sessions(address)
        # the other is back first, and gives the owner time
        assert not other.take(DIGEST)
        assert one.holds(DIGEST)
        assert not other.take(DIGEST)


def test_a_claim_that_was_lost_meanwhile_is_known_to_be(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_claims, "_GRACE_S", 0.0)
    with claiming(address) as begin:
        one, other = begin(), begin()
        assert one.take(DIGEST)
        end_sessions(address)
        assert other.take(DIGEST)
        assert not one.holds(DIGEST)
        one.drop(DIGEST)
        assert other.holds(DIGEST)


def test_a_claim_outlives_a_mending_that_fails_halfway(address: Address) -> None:
    with claiming(address) as begin:
        one, other = begin(), begin()
        assert one.take(DIGEST)
        end_sessions(address)
        once(address, "ALTER TABLE claims RENAME TO aside")
        with pytest.raises(StoreError):
            one.holds(DIGEST)
        once(address, "ALTER TABLE aside RENAME TO claims")
        assert one.holds(DIGEST)
        assert not other.take(DIGEST)


def test_a_claim_of_a_dead_server_is_free_at_once(address: Address) -> None:
    with claiming(address) as begin:
        dead, other = begin(), begin()
        assert dead.take(DIGEST)
        # what the system does with the sockets of a process that was killed
        dead._link.close()
        until_s = time.monotonic() + 20
        while not other.take(DIGEST):
            assert time.monotonic() < until_s
            time.sleep(0.01)


def test_a_reply_that_was_paid_is_kept_when_the_server_is_back(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writer, "_PAUSE_S", 0.01)
    with PostgresReplies(address) as one, PostgresReplies(address) as other:

        async def scene() -> None:
            assert await one.claim(key(1)) is None
            end_sessions(address)
            await one.keep([(key(1), completion())])
            hit = await other.claim(key(1))
            assert hit is not None

        asyncio.run(scene())
        end_sessions(address)
        assert other.kept([key(1)]) == {key(1)}


def test_patience_with_a_server_that_stays_away_has_an_end(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writer, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(postgres_writer, "_PAUSE_S", 0.01)
    with PostgresReplies(address) as store:
        nowhere = Address.parse("postgresql://anna@/db?host=/nowhere")
        store._writer._link = Link(nowhere, store._writer._owner.begin)

        async def scene() -> None:
            with pytest.raises(UnreachableError, match="cannot reach"):
                await store.claim(key(1))
            with pytest.raises(UnreachableError, match="cannot reach"):
                await store.keep([(key(1), completion())])

        asyncio.run(scene())


def test_a_damaged_reply_is_named(address: Address) -> None:
    with PostgresReplies(address) as store:
        store.put_many([(key(1), completion())])
        once(address, "UPDATE replies SET finish = 77")
        with pytest.raises(StoreError, match=f"the reply {key(1)} in .* is damaged"):
            store.get(key(1))
        with pytest.raises(StoreError, match="is damaged"):
            asyncio.run(store.claim(key(1)))


def test_a_long_wait_for_another_server_is_said_once(
    address: Address, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgres_writer, "_TELL_AFTER_S", 0.0)
    with PostgresReplies(address) as one, PostgresReplies(address) as other:

        async def scene() -> None:
            assert await one.claim(key(1)) is None
            waiting = asyncio.create_task(other.claim(key(1)))
            async with asyncio.timeout(60):
                while not caplog.records:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            one.release(key(1))
            assert await waiting is None

        asyncio.run(scene())
    assert sum("waiting for it" in line.message for line in caplog.records) == 1
