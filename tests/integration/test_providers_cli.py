"""The same command with every provider that answers over HTTP, against one server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaif.store.runs import read_verdicts
from tests.integration.command import Result, rlaif, rows, write_rows
from tests.integration.conftest import GOOD
from tests.wire import Fault, Recorded, WireReply, WireServer, api_error

PROVIDERS = {
    "openai/judge": "OPENAI_API_KEY",
    "anthropic/judge": "ANTHROPIC_API_KEY",
    "server/judge": "RLAIF_SERVER_API_KEY",
}
KEY = "sk-test-0123456789abcdefghij"


def _reads(messages: list[dict[str, str]]) -> WireReply:
    """Prefers GOOD wherever it stands; the label is a token of its own."""
    first_is_good = f"response_a>\n{GOOD}" in messages[-1]["content"]
    return WireReply(f"It is careful.\n[[ {'A' if first_is_good else 'B'} ]]", thinking="Hm.")


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(_reads, key=KEY, logprob=lambda _: -0.2, alternatives=[("tie", -4.0)]) as made:
        yield made


@pytest.fixture
def with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in PROVIDERS.values():
        monkeypatch.setenv(variable, KEY)


def _compare(pairs: Path, address: str, url: str, *more: object) -> Result:
    name = address.partition("/")[0]
    return rlaif(
        *("judge", "compare", pairs, "-m", address, "--base-url", url, "-o", f"run-{name}", *more)
    )


@pytest.mark.usefixtures("with_keys")
def test_every_provider_gives_the_same_winners(pairs: Path, server: WireServer) -> None:
    found, p_a, usage = {}, {}, {}
    for address in PROVIDERS:
        done = _compare(pairs, address, server.url, "--json")
        assert (done.code, done.err) == (0, "")
        assert done.json["coverage"] == 1.0
        verdicts = list(read_verdicts(Path(done.json["run"])))
        found[address] = [v.preference.winner for v in verdicts if v.preference]
        p_a[address] = [v.preference.p_a for v in verdicts if v.preference]
        usage[address] = done.json["tokens"]
        assert {v.judge.model for v in verdicts} == {address}
        assert {v.rationale for v in verdicts} == {"It is careful."}
    assert list(found.values()) == [list("ABABAB")] * 3
    assert p_a["anthropic/judge"] == [1.0, 0.0] * 3  # the format has no log-probabilities
    for address in ("openai/judge", "server/judge"):
        assert p_a[address] == pytest.approx([0.989, 0.011] * 3, abs=0.001)
    assert usage["openai/judge"] == usage["server/judge"]
    assert {call.path for call in server.requests} == {"/v1/chat/completions", "/v1/messages"}
    assert server.calls == 3 * 12


@pytest.mark.usefixtures("with_keys")
@pytest.mark.parametrize("address", PROVIDERS)
def test_a_rerun_asks_no_provider_again(address: str, pairs: Path, server: WireServer) -> None:
    assert _compare(pairs, address, server.url).code == 0
    assert _compare(pairs, address, server.url).code == 0
    assert server.calls == 12


@pytest.mark.usefixtures("with_keys")
def test_the_provider_address_can_come_from_the_providers_own_variable(
    pairs: Path, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.origin)
    for address in ("openai/judge", "anthropic/judge"):
        name = address.partition("/")[0]
        assert rlaif("judge", "compare", pairs, "-m", address, "-o", name).code == 0
    assert server.calls == 24


@pytest.mark.parametrize(("address", "variable"), PROVIDERS.items())
def test_a_rejected_key_costs_at_most_the_calls_in_flight_and_is_never_shown(
    address: str,
    variable: str,
    pairs: Path,
    server: WireServer,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = "sk-wrong-9876543210zyxwvuts"
    monkeypatch.setenv(variable, wrong)
    write_rows(pairs, *({**row, "id": f"{n}{row['id']}"} for n in range(10) for row in rows(pairs)))
    done = _compare(pairs, address, server.url, "--concurrency", 3)
    assert done.code == 1
    assert f"rejected the key in {variable}" in done.error
    assert 1 <= server.calls <= 3
    written = [p for folder in (home, Path()) for p in folder.rglob("*") if p.is_file()]
    assert written
    for part in (wrong, wrong[:12], wrong[-8:]):
        assert part not in done.err
        assert not any(part.encode() in path.read_bytes() for path in written)
    monkeypatch.setenv(variable, KEY)  # the same command goes on once the key is right
    assert _compare(pairs, address, server.url).code == 0


@pytest.mark.parametrize(("address", "variable"), list(PROVIDERS.items())[:2])
def test_a_missing_key_names_its_variable(address: str, variable: str, pairs: Path) -> None:
    done = _compare(pairs, address, "http://127.0.0.1:9/v1")
    assert (done.code, done.error) == (
        2,
        f"{address.partition('/')[0]}/ needs a key: set {variable}",
    )
    assert not list(Path().glob("run-*"))


def test_a_server_that_wants_a_key_names_its_variable(pairs: Path, server: WireServer) -> None:
    done = _compare(pairs, "server/judge", server.url)
    assert done.code == 1
    assert "wants a key: set RLAIF_SERVER_API_KEY" in done.error


@pytest.mark.usefixtures("with_keys")
def test_an_unknown_model_names_the_ones_there_are(pairs: Path) -> None:
    with WireServer(_reads, models=["judge-large"]) as server:
        done = _compare(pairs, "server/judge", server.url)
    assert done.code == 1
    assert "did you mean 'judge-large'?" in done.error


@pytest.mark.usefixtures("with_keys")
@pytest.mark.parametrize("address", PROVIDERS)
def test_trouble_that_passes_is_waited_out(address: str, pairs: Path) -> None:
    limited = api_error(429, "slow down", {"Retry-After": "0.01"})
    faults = [limited, None, limited, Fault(drop=True), None, Fault(cut=True)]
    with WireServer(_reads, faults=faults) as server:
        done = _compare(pairs, address, server.url, "--json", "--concurrency", 2)
    assert (done.code, done.json["coverage"]) == (0, 1.0)
    assert server.calls == 12 + 4


@pytest.mark.usefixtures("with_keys")
@pytest.mark.parametrize("address", PROVIDERS)
def test_a_failure_of_one_item_stops_nothing(address: str, pairs: Path) -> None:
    failing = True

    def too_long(call: Recorded) -> Fault | None:
        fails = failing and "Question 3?" in str(call.body)
        return api_error(400, "context too long") if fails else None

    with WireServer(_reads, faults=too_long) as server:
        done = _compare(pairs, address, server.url, "--json")
        assert (done.code, done.json["ok"], done.json["causes"]) == (1, 5, {"provider_error": 1})
        bad = rows(Path(done.json["run"], "verdicts.jsonl"))[3]
        assert "context too long" in bad["rationale"]
        failing = False
        again = _compare(pairs, address, server.url, "--json")
    # a failure is never kept: the item is asked again, and only it
    assert (again.code, again.json["calls"], again.json["calls_cached"]) == (0, 12, 10)


@pytest.mark.usefixtures("with_keys")
def test_likelihood_over_http_needs_a_server_that_scores_text(pairs: Path) -> None:
    words = ("--method", "likelihood", "--json")
    with WireServer(_reads) as server:
        done = _compare(pairs, "server/judge", server.url, *words)
        assert done.code == 0
        assert all(
            0 < row["preference"]["p_a"] < 1 for row in rows(Path("run-server/verdicts.jsonl"))
        )
        done = _compare(pairs, "openai/judge", server.url, *words)
        assert done.code == 2
        assert "cannot score given text" in done.err
    with WireServer(_reads, scores_text=False) as plain:
        shutil.rmtree("run-server")
        done = _compare(pairs, "server/judge", plain.url, *words)
    assert done.code == 1
    assert "returned no prompt_logprobs" in done.err


def test_draws_of_a_prompt_are_asked_one_by_one(server: WireServer, with_keys: None) -> None:
    prompts = write_rows(Path("p.jsonl"), {"prompt": "Say something."})
    done = rlaif(
        *("generate", prompts, "-m", "openai/writer", "-m", "anthropic/writer", "-n", 3),
        *("--base-url", server.url, "-o", "run", "--seed", 5, "--json"),
    )
    assert (done.code, done.json["n"], server.calls) == (0, 6, 6)
    seeds = sorted(c.body["seed"] for c in server.requests if c.path.endswith("completions"))
    assert seeds == [5, 6, 7]
