"""Prices, budgets and dry runs, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.command import rlaif, rows, write_rows
from tests.wire import WireServer, api_error

A_MILL = "models: {server/*: {per_call_usd: 0.001}}\n"


@pytest.fixture
def answers() -> Path:
    return _answers(8)


def _answers(n: int) -> Path:
    return write_rows(
        Path(f"answers{n}.jsonl"),
        *({"id": f"q{i}", "prompt": f"Question {i}?", "response": f"Yes {i}."} for i in range(n)),
    )


def _score(server: WireServer, data: Path, *more: object) -> tuple[object, ...]:
    return (
        *("judge", "score", data, "-m", "server/judge", "--base-url", server.url),
        *("-o", "run", "--json", *more),
    )


def _graded(_: object) -> str:
    return "It is short.\nhelpfulness: [[4]]"


def test_a_dollar_buys_a_thousand_calls_at_a_mill_and_a_larger_budget_the_rest() -> None:
    data = _answers(1100)
    Path("prices.yaml").write_text(A_MILL)
    with WireServer(_graded) as server:
        words = _score(server, data, "--concurrency", 256, "--prices", "prices.yaml")
        done = rlaif(*words, "--budget-usd", "1.00")
        assert done.code == 3
        assert done.err.strip() == (
            "error: the budget of $1 is spent, 100 of the items have no verdict; "
            "a larger --budget-usd goes on"
        )
        assert server.calls == 1000
        summary = done.json
        assert summary["cost_usd"] == 1.0
        assert (summary["ok"], summary["causes"]) == (1000, {"budget": 100})
        spent = [c.get("cost_usd", 0) for r in rows(Path("run/verdicts.jsonl")) for c in r["calls"]]
        assert round(sum(spent), 9) == 1.0

        done = rlaif(*words, "--budget-usd", "0.05")
        assert (done.code, server.calls) == (3, 1050)
        assert done.json["cost_usd"] == 0.05
        assert done.json["cost_saved_usd"] == 1.0

        done = rlaif(*words, "--budget-usd", "2")
        assert (done.code, server.calls) == (0, 1100)
        assert (done.json["ok"], done.json["cost_usd"]) == (1100, 0.05)
        assert done.json["cost_saved_usd"] == 1.05


def test_what_is_in_flight_never_reserves_more_than_the_budget(answers: Path) -> None:
    """By tokens: a reply may cost ten times what it does, so few calls fit at a time."""
    prices = (
        "models: {server/judge: {input: 0, output: 10}}"  # a reply of 1,024 tokens: 1.024 cents
    )
    Path("prices.yaml").write_text(prices)
    with WireServer(_graded, delay_s=0.05) as server:
        words = _score(server, answers, "--prices", "prices.yaml")
        done = rlaif(*words, "--budget-usd", "0.025")
        assert (done.code, done.json["ok"], server.calls) == (0, 8, 8)
        assert server.peak_in_flight == 2
        assert done.json["cost_usd"] == 8 * 5 * 10 / 1e6  # five words in a reply


@pytest.mark.parametrize("command", ["compare", "generate", "audit", "judge-bench"])
def test_other_commands_keep_a_budget_too(command: str) -> None:
    Path("prices.yaml").write_text(A_MILL)
    pair = {"response_a": "So.", "response_b": "Thus.", "label": "A"}
    data = write_rows(Path("d.jsonl"), *(pair | {"prompt": f"Why {i}?"} for i in range(3)))
    words = {
        "compare": ("judge", "compare", data),
        "generate": ("generate", data, "-n", 2),
        "audit": ("audit", "--data", data, "--method", "verdict"),
        "judge-bench": ("eval", "judge-bench", data, "--format", "pairs"),
    }
    with WireServer(lambda _: "[[A]]") as server:
        done = rlaif(
            *words[command],
            *("-m", "server/judge", "--base-url", server.url, "--prices", "prices.yaml"),
            *("-o", "run", "--json", "--budget-usd", "0.003"),
        )
        assert (done.code, server.calls) == (3, 3)
    assert "the budget of $0.003 is spent" in done.err
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["causes"]["budget"] > 0
    assert summary["cost_usd"] == 0.003


def test_a_budget_needs_a_price_and_asks_nothing_without_one(answers: Path) -> None:
    with WireServer(_graded) as server:
        done = rlaif(*_score(server, answers, "--budget-usd", "1"))
        assert (done.code, server.calls) == (2, 0)
    assert done.error == (
        "the price of server/judge is not known, so no budget can be kept: give it in a file with "
        "--prices FILE"
    )
    assert not Path("run").exists()


def test_a_budget_of_nothing_buys_what_is_free(answers: Path) -> None:
    write_rows(Path("judge.jsonl"), {"match": "", "reply": "helpfulness: [[4]]"})
    words = ("judge", "score", answers, "-m", "scripted/judge.jsonl", "-o", "run", "--json")
    done = rlaif(*words, "--budget-usd", 0)
    assert (done.code, done.json["ok"], done.json["cost_usd"]) == (0, 8, 0.0)
    assert done.json["calls_unpriced"] == 0


def test_prices_lie_in_the_home_folder_and_an_option_comes_before_them(
    answers: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "prices.yaml").write_text(A_MILL)
    with WireServer(_graded) as server:
        assert rlaif(*_score(server, answers, "--limit", 2)).json["cost_usd"] == 0.002
        Path("mine.yaml").write_text(A_MILL.replace("0.001", "1"))
        words = _score(server, answers, "-o", "other", "--prices", "mine.yaml")
        assert rlaif(*words).json["cost_usd"] == 6.0
        assert rlaif(*words).json["cost_saved_usd"] == 6.002


def test_a_wrong_file_of_prices_names_its_line(answers: Path) -> None:
    Path("mine.yaml").write_text("models:\n  server/judge: {inptu: 1}\n")
    with WireServer(_graded) as server:
        done = rlaif(*_score(server, answers, "--prices", "mine.yaml"))
    assert done.code == 2
    assert done.error == (
        "mine.yaml:2: field 'models.server/judge.inptu': is not a known field; "
        "did you mean 'input'?"
    )


def test_without_a_price_the_summary_says_so(answers: Path) -> None:
    with WireServer(_graded) as server:
        words = [w for w in _score(server, answers) if w != "--json"]
        done = rlaif(*words)
    assert "8 calls at a price that is not known" in " ".join(done.out.split())
    assert json.loads(Path("run/summary.json").read_text())["calls_unpriced"] == 8


def test_retries_are_counted_by_reason(answers: Path) -> None:
    busy = api_error(429, "slow down", {"Retry-After": "0"})
    faults = [None, busy, None, api_error(500, "broken"), busy]
    Path("prices.yaml").write_text(A_MILL)
    with WireServer(_graded, faults=faults) as server:
        done = rlaif(*_score(server, answers, "--concurrency", 1, "--prices", "prices.yaml"))
        assert (done.code, server.calls) == (0, 11)
        assert done.json["retries"] == {"rate_limit": 2, "server": 1}
        assert done.json["cost_usd"] == 0.008
        words = [w for w in _score(server, _answers(9)) if w not in {"--json", "run"}]
        assert "asked again" not in rlaif(*words[:-1], "-o", "quiet").out


def test_a_dry_run_prices_what_is_not_kept(answers: Path) -> None:
    Path("prices.yaml").write_text("models: {server/judge: {input: 1000, output: 1000}}")
    with WireServer(_graded) as server:
        words = _score(server, answers, "--prices", "prices.yaml")
        [row] = rlaif(*words, "--dry-run").json["rows"]
        assert server.calls == 0
        assert row["tokens_from"] == "estimate"
        least = row["input_tokens_estimate"] / 1000
        assert row["cost_usd_at_least"] == pytest.approx(least)
        assert row["cost_usd_at_most"] == pytest.approx(least + 8 * 1.024)
        assert rlaif(*words, "--limit", 4, "-o", "part").code == 0
        [half] = rlaif(*words, "--dry-run").json["rows"]
        assert (half["kept"], half["to_ask"]) == (4, 4)
        assert half["cost_usd_at_most"] == pytest.approx(row["cost_usd_at_most"] / 2, rel=0.01)
        table = rlaif(*(w for w in words if w != "--json"), "--dry-run").out
        assert "4 (50%)" in table
        assert "estimated from characters" in " ".join(table.split())
        unknown = rlaif(*_score(server, answers), "--dry-run")
        assert unknown.json["rows"][0]["cost_usd_at_most"] is None
        assert server.calls == 4


def test_a_dry_run_of_a_local_model_counts_with_its_tokenizer(
    answers: Path, tiny_model: Path
) -> None:
    words = ("generate", answers, "-m", f"local/{tiny_model}", "-n", 2, "--dry-run")
    [row] = rlaif(*words, "--json").json["rows"]
    assert (row["requests"], row["tokens_from"], row["cost_usd_at_most"]) == (16, "tokenizer", 0)
    assert "free" in rlaif(*words).out
