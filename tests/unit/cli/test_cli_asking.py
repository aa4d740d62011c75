"""Options that all asking commands share: declared once, with defaults by command."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from rlaif.backends.limited import LimitedBackend
from rlaif.backends.scripted import ScriptedBackend
from rlaif.cli.asking import Asking, Session, asks
from rlaif.errors import BackendError, ConfigError, SpecError
from rlaif.types import Message, Request

given: list[tuple[str, int, Asking]] = []
app = typer.Typer()


@app.command()
@asks(output=Path("runs/here"), max_failures=0.5)
def judge(
    data: Annotated[str, typer.Argument(help="What to judge.")],
    draws: Annotated[int, typer.Option("-n", help="Draws.")] = 3,
    *,
    asking: Asking,
) -> None:
    """Say what a judge says."""
    given.append((data, draws, asking))


@pytest.fixture(autouse=True)
def _nothing_given() -> None:
    given.clear()


def call(*words: str) -> tuple[str, int, Asking]:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return given.pop()


def test_a_command_gets_its_own_options_and_the_shared_ones() -> None:
    data, draws, asking = call("d.jsonl", "-m", "a/b", "-m", "c/d", "-n", "5", "--limit", "7")
    assert (data, draws) == ("d.jsonl", 5)
    assert (asking.model, asking.limit) == (["a/b", "c/d"], 7)


def test_defaults_are_the_commands_own_where_it_has_some() -> None:
    _, draws, asking = call("d.jsonl", "-m", "a/b")
    assert (draws, asking.output, asking.max_failures) == (3, Path("runs/here"), 0.5)
    plain = Asking(model=["a/b"], output=Path("runs/here"), max_failures=0.5)
    assert asking == plain


def test_every_field_is_an_option() -> None:
    words = {
        "model": ("-m", "a/b"),
        "output": ("-o", "x"),
        "limit": ("--limit", "1"),
        "concurrency": ("--concurrency", "2"),
        "requests_per_minute": ("--requests-per-minute", "3"),
        "tokens_per_minute": ("--tokens-per-minute", "4"),
        "budget_usd": ("--budget-usd", "5.5"),
        "prices": ("--prices", "p.yaml"),
        "base_url": ("--base-url", "http://x"),
        "timeout": ("--timeout", "6"),
        "batch": ("--batch",),
        "batch_poll": ("--batch-poll", "0.5"),
        "stragglers": ("--stragglers", "live"),
        "max_failures": ("--max-failures", "0.7"),
        "dry_run": ("--dry-run",),
        "as_json": ("--json",),
    }
    assert [f.name for f in fields(Asking)] == list(words)
    _, _, asking = call("d", *(word for pair in words.values() for word in pair))
    assert asking == Asking(
        model=["a/b"],
        output=Path("x"),
        limit=1,
        concurrency=2,
        requests_per_minute=3.0,
        tokens_per_minute=4.0,
        budget_usd=5.5,
        prices=Path("p.yaml"),
        base_url="http://x",
        timeout=6.0,
        batch=True,
        batch_poll=0.5,
        stragglers="live",
        max_failures=0.7,
        dry_run=True,
        as_json=True,
    )


def test_help_shows_arguments_own_options_and_shared_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = CliRunner().invoke(app, ["--help"]).output
    assert "Say what a judge says." in shown
    places = [
        shown.index(word) for word in ("What to judge", "--model", "Draws", "Asking", "--bud")
    ]
    assert places == sorted(places)
    assert "runs/here" in shown


def test_bad_values_are_bad_usage() -> None:
    for words in (["--budget-usd", "-1"], ["--concurrency", "0"], ["--requests-per-minute", "0"]):
        done = CliRunner().invoke(app, ["d", "-m", "a/b", *words])
        assert done.exit_code == 2
        assert words[0] in done.output


def test_a_default_is_for_a_field() -> None:
    with pytest.raises(TypeError, match="Asking has no outptu"):
        asks(outptu=Path("x"))(judge)


def test_a_command_may_do_without_an_option_or_declare_it_itself() -> None:
    other = typer.Typer()

    @other.command()
    @asks(without=("limit", "max_failures"))
    def run(max_failures: int = 7, *, asking: Asking) -> None:
        given.append(("", max_failures, asking))

    done = CliRunner().invoke(other, ["-m", "a/b", "--max-failures", "9"], catch_exceptions=False)
    assert done.exit_code == 0
    _, failures, asking = given.pop()
    assert (failures, asking.max_failures, asking.limit) == (9, 0.05, None)
    assert CliRunner().invoke(other, ["-m", "a/b", "--limit", "9"]).exit_code == 2
    with pytest.raises(TypeError, match="Asking has no limits"):
        asks(without=("limits",))(run)


def test_a_command_cannot_have_a_shared_option_of_its_own() -> None:
    def twice(limit: int = 3, *, asking: Asking) -> None: ...

    with pytest.raises(TypeError, match="twice: limit is an option of Asking"):
        asks()(twice)


def test_one_model_is_one() -> None:
    assert Asking(model=["a/b"]).one_model() == "a/b"
    with pytest.raises(ConfigError, match="give one judge with -m, not 2"):
        Asking(model=["a/b", "c/d"]).one_model()


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "s.jsonl"
    path.write_text('{"match": "", "reply": "x"}\n')
    return f"scripted/{path}"


def _limited(session: Session, address: str, base_url: str | None = None) -> LimitedBackend:
    layer = session.backend(address, base_url).inner.inner.inner  # type: ignore[attr-defined]
    assert isinstance(layer, LimitedBackend)
    return layer


def test_backends_of_one_endpoint_share_its_pace_and_all_share_the_budget(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    asking = Asking(model=[script], concurrency=7, base_url="http://a.example/v1", budget_usd=None)
    with asking.session() as session:
        one, other = (_limited(session, f"server/{name}") for name in ("x", "y"))
        elsewhere = _limited(session, "server/x", "http://b.example/v1")
        assert one.pace is other.pace
        assert one.pace is not elsewhere.pace
        assert one.pace.concurrency == 7
        assert len(session.backends) == 3
        budgets = {id(b.inner.budget) for b in session.backends}  # type: ignore[attr-defined]
        assert budgets == {id(session.terms.budget)}

        async def close() -> None:
            for backend in session.backends:
                await backend.aclose()

        asyncio.run(close())


def test_as_many_items_are_worked_on_as_keep_the_endpoint_busy(script: str) -> None:
    with Asking(model=[script]).session() as session:
        assert session.width() == 16  # no endpoint yet
        pace = _limited(session, script).pace
        assert session.width() == 2 * pace.allowed
        pace.window.allowed = 100
        assert session.width() == 2 * pace.allowed == 200
    with Asking(model=[script], concurrency=5).session() as session:
        _limited(session, script)
        assert session.width() == 5


def test_the_account_tells_retries_by_reason_and_the_budget(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "p.yaml"
    prices.write_text("models: {'*/*': {per_call_usd: 0.25}}")
    with Asking(model=[script], budget_usd=2.0, prices=prices).session() as session:
        backend = session.backend(script)
        provider = backend.inner.inner.inner.inner  # type: ignore[attr-defined]
        assert isinstance(provider, ScriptedBackend)
        busy = BackendError("busy", retryable=True, retry_after=0.0, kind="rate_limit")
        lost = BackendError("lost", kind="connection")
        replies = iter([busy, "x", lost])
        monkeypatch.setattr(provider, "_script", lambda _: next(replies))

        async def ask() -> None:
            await backend.complete(Request((Message("user", "a"),)))
            with pytest.raises(BackendError, match="lost"):
                await backend.complete(Request((Message("user", "b"),)))
            await backend.aclose()

        asyncio.run(ask())
        assert session.account() == {
            "retries": {"rate_limit": 1},
            "budget_usd": 2.0,
            "cost_presumed_usd": 0.25,
        }


def test_a_missing_file_of_prices(script: str, tmp_path: Path) -> None:
    asking = Asking(model=[script], prices=tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="no such file"), asking.session():
        pass
