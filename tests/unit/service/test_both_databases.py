"""Tokens, runs and labels in a file and in PostgreSQL: one behaviour, whichever it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from rlaif.errors import BudgetError, ConfigError
from rlaif.service.accounts import Caller, TokenBook, TokenBudget
from rlaif.service.config import Limits
from rlaif.service.database import Database, KeyTakenError, Tables
from rlaif.service.errors import Problem
from rlaif.service.labels import LabelBook
from rlaif.service.postgres import PostgresDatabase
from rlaif.service.runs import RunBook
from rlaif.service.sessions import COOKIE, Sessions
from rlaif.store.postgres import Address, UnreachableError

Opener = Callable[[], Tables]
WORK = {"kind": "compare", "judge": "default", "rubric": "helpfulness", "data": {"path": "x"}}


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one database, as a server each time that it is called."""
    with ExitStack() as stack:

        def begin() -> Tables:
            made: Tables
            if request.param == "sqlite":
                made = Database(tmp_path / "service.sqlite")
            else:
                made = PostgresDatabase(Address.parse(request.getfixturevalue("postgres_url")))
            stack.callback(made.close)
            return made

        yield begin


@pytest.fixture
def book(opened: Opener, tmp_path: Path) -> Iterator[Callable[[], RunBook]]:
    """Makes the book of one more server."""
    with ExitStack() as stack:

        def begin() -> RunBook:
            tables = opened()
            held = tables.held(tmp_path)
            stack.callback(held.close)
            return RunBook(tables, held, Limits(queued_runs=6, queued_runs_a_token=4))

        yield begin


def token(number: int, *scopes: str) -> Caller:
    return Caller(number, f"t{number}", frozenset(scopes or ("judge",)))


def test_a_token_that_one_server_made_is_known_to_the_other(opened: Opener) -> None:
    one, other = TokenBook(opened()), TokenBook(opened())
    text = one.add("trainer", ["judge"], budget_usd=1.0, per_minute=60)
    caller = other.caller(text)
    assert caller is not None
    assert (caller.name, caller.budget_usd, caller.per_minute) == ("trainer", 1.0, 60.0)
    assert other.caller(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    with pytest.raises(ConfigError, match="already"):
        other.add("trainer", ["admin"])
    assert [row["name"] for row in other.listed()] == ["trainer"]
    other.revoke("trainer")
    assert other.caller(text) is None
    assert TokenBook(opened()).caller(text) is None
    assert one.numbered(caller.id) is None


def test_what_a_token_spends_counts_on_every_server(opened: Opener) -> None:
    tables = opened(), opened()
    book = TokenBook(tables[0])
    caller = book.caller(book.add("trainer", ["judge"], budget_usd=1.0))
    assert caller is not None
    budgets = [TokenBudget(one, caller) for one in tables]

    async def spend(budget: TokenBudget, cost: float) -> None:
        budget.settle(await budget.reserve(0.5), cost)

    asyncio.run(spend(budgets[0], 0.4))
    asyncio.run(spend(budgets[1], 0.3))
    with pytest.raises(BudgetError):
        asyncio.run(spend(budgets[0], 0.1))
    assert book.listed()[0]["spent_usd"] == pytest.approx(0.7)


def test_what_was_spent_while_the_database_was_away_is_noted_later(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = opened()
    book = TokenBook(tables)
    caller = book.caller(book.add("trainer", ["judge"], budget_usd=1.0))
    assert caller is not None
    budget, change = TokenBudget(tables, caller), tables.change

    async def spend(cost: float) -> None:
        budget.settle(await budget.reserve(0.3), cost)

    def away(*_: object) -> int:
        raise UnreachableError("away")

    monkeypatch.setattr(tables, "change", away)
    asyncio.run(spend(0.3))
    assert book.listed()[0]["spent_usd"] == 0.0
    monkeypatch.setattr(tables, "change", change)
    asyncio.run(spend(0.2))
    assert book.listed()[0]["spent_usd"] == pytest.approx(0.5)
    asyncio.run(spend(0.3))
    with pytest.raises(BudgetError):
        asyncio.run(spend(0.1))


def test_a_browser_that_signed_in_at_one_server_is_known_to_the_other(
    opened: Opener, tmp_path: Path
) -> None:
    one, other = opened(), opened()
    secret = one.secret(tmp_path)
    assert len(secret) == 32
    assert other.secret(tmp_path) == secret
    book = TokenBook(one)
    caller = book.caller(book.add("anna", ["annotate"]))
    assert caller is not None
    cookie = Sessions(secret, book).begin(caller)
    known = Sessions(secret, TokenBook(other)).caller(f"{COOKIE}={cookie}")
    assert known is not None
    assert known[0] == caller


def test_servers_of_one_database_share_one_folder(postgres_url: str, tmp_path: Path) -> None:
    for root, refused in (("a", False), ("b", True), ("a", False)):
        with closing(PostgresDatabase(Address.parse(postgres_url))) as tables:
            if refused:
                with pytest.raises(ConfigError, match="give all of them one --root"):
                    tables.secret(tmp_path / root)
            else:
                assert len(tables.secret(tmp_path / root)) == 32


def test_a_run_is_worked_on_by_one_server_until_that_dies(
    book: Callable[[], RunBook], opened: Opener
) -> None:
    one, other = book(), book()
    name = one.add(token(1), "a run", WORK).id
    taken = one.claim()
    assert taken is not None
    assert (taken.id, taken.state, dict(taken.work)) == (name, "running", WORK)
    assert other.claim() is None
    assert one.holds(name)
    assert not other.holds(name)
    assert not one.advance(name, 10, 4, 3, 0.5)
    seen = other.get(name, token(1))
    assert (seen.total, seen.done, seen.ok, seen.cost_usd) == (10, 4, 3, 0.5)
    other.cancel(seen)
    assert one.advance(name, None, 5, 4, 0.6)
    one._claims.close()
    again = other.claim()
    assert again is not None
    assert (again.id, again.total, again.done) == (name, 10, 5)
    other.end(name, "done", summary={"n": 10})
    assert other.counts()["done"] == 1
    assert book().claim() is None
    ended = other.get(name, token(1))
    assert (ended.summary, ended.state) == ({"n": 10}, "done")
    assert other.again(ended, 2.0).work["budget_usd"] == 2.0


def test_runs_are_taken_in_a_fair_order_and_bounded(book: Callable[[], RunBook]) -> None:
    one, other = book(), book()
    names = {
        number: [one.add(token(number), "x", WORK).id for _ in range(count)]
        for number, count in ((1, 4), (2, 1))
    }
    with pytest.raises(Problem, match="of this token"):
        one.add(token(1), "x", WORK)
    other.add(token(3), "x", WORK)
    with pytest.raises(Problem, match="too many runs wait"):
        one.add(token(4), "x", WORK)
    order = [run.token for server in (one, other, one) if (run := server.claim()) is not None]
    assert order == [1, 2, 3]
    waiting = one.get(names[1][1], token(1))
    assert one.cancel(waiting).state == "cancelled"
    with pytest.raises(Problem, match="the run is cancelled"):
        other.cancel(waiting)
    assert [run.id for run in other.listed(token(2), 10)] == names[2]
    assert len(other.listed(token(9, "admin"), 3)) == 3
    assert other.listed(token(9, "admin"), 3, before_s=1.0) == []
    with pytest.raises(Problem, match="no such run"):
        other.get("\0' OR 1 = 1 --%s?", token(9, "admin"))


def test_runs_for_people_are_those_that_are_done(book: Callable[[], RunBook]) -> None:
    one = book()
    kinds = ("compare", "rank", "score")
    made = [
        one.add(token(1), kind, {**WORK, "kind": kind, "x": '"kind": "rank"'}) for kind in kinds
    ]
    for run in made:
        one.end(run.id, "done")
    assert {run.title for run in one.for_people(10)} == {"compare", "score"}
    assert len(one.for_people(1)) == 1


def test_many_servers_at_once_take_every_run_once(book: Callable[[], RunBook]) -> None:
    servers = [book() for _ in range(3)]
    for number in range(6):
        servers[0].add(token(number + 1), "x", WORK)
    taken: list[str] = []

    def work(server: RunBook) -> None:
        while (run := server.claim()) is not None:
            taken.append(run.id)
            server.end(run.id, "done")

    threads = [threading.Thread(target=work, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == len(set(taken)) == 6


def test_a_label_takes_the_place_of_the_one_before_and_the_last_is_undone(opened: Opener) -> None:
    one, other = LabelBook(opened()), LabelBook(opened())
    one.put("r", 1, "anna", "tie", "NUL \0 and ? and %s")
    one.put("r", 2, "anna", "bad", "")
    one.put("r", 2, "ben", "skip", "")
    assert other.put("r", 1, "anna", "bad", "é").choice == "bad"
    found = [(label.n, label.name, label.choice, label.reason) for label in other.of("r")]
    assert found == [(1, "anna", "bad", "é"), (2, "anna", "bad", ""), (2, "ben", "skip", "")]
    assert [label.n for label in other.of("r", "ben")] == [2]
    assert other.undo("r", "anna") == 1
    assert other.undo("r", "anna") == 2
    assert other.undo("r", "anna") is None
    assert len(one.of("r")) == 1


def test_a_transaction_is_whole_or_nothing_and_a_taken_key_is_told(opened: Opener) -> None:
    tables = opened()
    insert = (
        "INSERT INTO runs (id, token, created_s, state, title, work) VALUES (?, 0, 0, 'x', '', '')"
    )

    def fail() -> None:
        with tables.transaction():
            tables.change(insert, ("a",))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert tables.rows("SELECT * FROM runs") == []
    with tables.transaction():
        assert tables.change(insert, ("a",)) == 1
    for give in (tables.change, tables.rows):
        with pytest.raises(KeyTakenError):
            give(insert, ("a",))
    assert tables.row("SELECT count(*) FROM runs") == (1,)
    assert tables.row("SELECT id FROM runs WHERE id = ?", ("b",)) is None


def test_what_another_server_does_to_tokens_counts_within_a_second(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("rlaif.service.accounts.time.monotonic", lambda: now_s[0])
    tables = opened()
    one, other = TokenBook(tables), TokenBook(opened())
    assert not one
    text = other.add("trainer", ["judge"])
    assert bool(one) == (tables.fresh_s == 0.0)
    now_s[0] += 1.0
    assert one
    assert one.caller(text) is not None
    other.revoke("trainer")
    assert (one.caller(text) is None) == (tables.fresh_s == 0.0)
    now_s[0] += 1.0
    assert one.caller(text) is None
