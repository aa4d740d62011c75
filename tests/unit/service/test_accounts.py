"""Tokens, what they may spend, and how often they may ask."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaif.errors import BudgetError, ConfigError, StoreError
from rlaif.service.accounts import LOCAL, Caller, Rates, TokenBook, TokenBudget
from rlaif.service.database import Database, KeyTakenError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "service.sqlite")
    yield made
    made.close()


def test_a_token_is_known_by_its_text_alone_and_kept_only_as_a_hash(database: Database) -> None:
    book = TokenBook(database)
    assert not book
    text = book.add("trainer", ["judge"], budget_usd=2.0, per_minute=60)
    assert book
    caller = book.caller(text)
    assert caller == Caller(1, "trainer", frozenset({"judge"}), 2.0, 60)
    assert book.numbered(1) == caller
    assert caller is not None
    assert caller.may("judge")
    assert not caller.may("admin")
    assert text.rpartition("_")[2].encode() not in database.path.read_bytes()
    assert database.path.stat().st_mode & 0o077 == 0
    (row,) = book.listed()
    assert row["name"] == "trainer"
    assert text not in str(row)
    book.revoke("trainer")
    assert book.caller(text) is None
    assert book.numbered(1) is None
    assert not book


def test_an_admin_may_do_everything(database: Database) -> None:
    book = TokenBook(database)
    caller = book.caller(book.add("boss", ["admin"]))
    assert caller is not None
    assert caller.may("judge")


@pytest.mark.parametrize("name", ["", "two words", "-x", "a" * 65, "a\n"])
def test_names_that_cannot_be_one_are_refused(database: Database, name: str) -> None:
    with pytest.raises(ConfigError, match="a token's name"):
        TokenBook(database).add(name, ["judge"])


def test_wrong_tokens_are_not_made(database: Database) -> None:
    book = TokenBook(database)
    book.add("one", ["judge"])
    with pytest.raises(ConfigError, match="already"):
        book.add("one", ["judge"])
    with pytest.raises(ConfigError, match="scopes are"):
        book.add("two", ["everything"])
    with pytest.raises(ConfigError, match="not none"):
        book.add("two", [])
    with pytest.raises(ConfigError, match="no token called 'two'"):
        book.revoke("two")


def test_a_budget_outlives_the_process_and_counts_other_processes(database: Database) -> None:
    book = TokenBook(database)
    caller = book.caller(book.add("trainer", ["judge"], budget_usd=1.0))
    assert caller is not None
    here, there = TokenBudget(database, caller), TokenBudget(database, caller)

    async def spend(budget: TokenBudget, most: float, cost: float) -> None:
        budget.settle(await budget.reserve(most), cost)

    asyncio.run(spend(here, 0.5, 0.4))
    asyncio.run(spend(there, 0.5, 0.3))
    with pytest.raises(BudgetError):
        asyncio.run(spend(here, 0.5, 0.1))
    later = TokenBudget(database, caller)
    with pytest.raises(BudgetError):
        asyncio.run(spend(later, 0.5, 0.1))
    assert book.listed()[0]["spent_usd"] == pytest.approx(0.7)


def test_a_call_that_may_be_billed_counts(database: Database) -> None:
    book = TokenBook(database)
    caller = book.caller(book.add("trainer", ["judge"], budget_usd=1.0))
    assert caller is not None
    budget = TokenBudget(database, caller)
    budget.presume(asyncio.run(budget.reserve(0.25)))
    assert book.listed()[0]["spent_usd"] == pytest.approx(0.25)


def test_whoever_has_no_token_has_no_limit(database: Database) -> None:
    budget = TokenBudget(database, LOCAL)
    budget.settle(asyncio.run(budget.reserve(1000.0)), 900.0)
    assert budget.spent_usd == 900.0


def test_rates_refill_evenly() -> None:
    rates, caller = Rates(), Caller(1, "x", frozenset(), None, 60.0)
    assert [rates.wait_s(caller, 0.0) for _ in range(60)] == [0.0] * 60
    assert rates.wait_s(caller, 0.0) == pytest.approx(1.0)
    assert rates.wait_s(caller, 1.0) == 0.0
    assert rates.wait_s(caller, 1.5) == pytest.approx(0.5)
    assert rates.wait_s(LOCAL, 0.0) == 0.0


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StoreError, match="another program's"):
        Database(path)
    newer = tmp_path / "newer.sqlite"
    Database(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(StoreError, match="schema 9"):
        Database(newer)
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a readable service's database"):
        Database(broken)
    with pytest.raises(StoreError, match="cannot open"):
        Database(broken / "below" / "a.sqlite")


def test_a_database_that_was_closed_says_so(database: Database) -> None:
    database.close()
    with pytest.raises(StoreError, match="cannot use"):
        database.rows("SELECT 1")
    with pytest.raises(StoreError, match="cannot write"):
        database.change("DELETE FROM tokens")


def test_a_transaction_takes_effect_whole_or_not_at_all(database: Database) -> None:
    insert = (
        "INSERT INTO runs (id, token, created_s, state, title, work) VALUES (?, 0, 0, 'x', '', '')"
    )

    def fail() -> None:
        with database.transaction():
            database.change(insert, ("a",))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert database.rows("SELECT * FROM runs") == []
    with database.transaction():
        database.change(insert, ("a",))
    assert len(database.rows("SELECT * FROM runs")) == 1
    with pytest.raises(KeyTakenError):
        database.rows(insert + " RETURNING id", ("a",))
    with pytest.raises(KeyTakenError):
        database.change(insert, ("a",))
