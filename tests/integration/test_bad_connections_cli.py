"""What stands between the command and a provider, and is wrong: one clear line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif.backends import circuit
from rlaif.backends.retrying import RetryingBackend
from rlaif.store.runs import read_verdicts
from tests.integration.command import Result, rlaif
from tests.integration.conftest import GOOD
from tests.wire import WireServer, html
from tests.wire_net import Proxy, make_certificate

KEY = "sk-test-0123456789abcdefghij"
PROVIDERS = {
    "openai/judge": "OPENAI_API_KEY",
    "anthropic/judge": "ANTHROPIC_API_KEY",
    "server/judge": "RLAIF_SERVER_API_KEY",
}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
every_provider = pytest.mark.parametrize("address", PROVIDERS)


@pytest.fixture(autouse=True)
def _keys_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for variable in PROVIDERS.values():
        monkeypatch.setenv(variable, KEY)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that failed are tried again at once, and not for long."""
    monkeypatch.setattr(circuit, "PATIENCE_WHEN_ABSENT_S", 0.05)
    monkeypatch.setattr(circuit, "FEWEST_TRIES", 3)
    waits = RetryingBackend.__init__.__kwdefaults__
    monkeypatch.setitem(waits, "first_wait_s", 0.001)


def _reads(messages: list[dict[str, str]]) -> str:
    first_is_good = f"response_a>\n{GOOD}" in messages[-1]["content"]
    return f"[[{'A' if first_is_good else 'B'}]]"


def _compare(pairs: Path, address: str, url: str, *more: object) -> Result:
    return rlaif(*("judge", "compare", pairs, "-m", address, "--base-url", url, "-o", "run", *more))


def _one_line(done: Result) -> str:
    assert done.code != 0
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.err
    assert KEY not in done.err
    return errors[0]


@every_provider
@pytest.mark.parametrize("around", ["{}\n", " {}\r\n", "\t{} "])
def test_a_key_with_a_line_end_works(
    address: str, around: str, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROVIDERS[address], around.format(KEY))
    with WireServer(_reads, key=KEY) as server:
        assert _compare(pairs, address, server.url, "--limit", 1).code == 0


@every_provider
@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_a_base_url_with_or_without_its_version_works(address: str, path: str, pairs: Path) -> None:
    with WireServer(_reads) as server:
        done = _compare(pairs, address, server.origin + path, "--limit", 1)
    assert done.code == 0


@every_provider
def test_a_base_url_where_nothing_is_is_asked_about_once(address: str, pairs: Path) -> None:
    with WireServer(_reads) as server:
        line = _one_line(_compare(pairs, address, f"{server.origin}/wrong/v3"))
    assert "is the base URL right? most servers' ends in /v1" in line
    assert "/wrong/v3" in line


@every_provider
@pytest.mark.usefixtures("impatient")
def test_a_server_that_answers_html_is_named(address: str, pairs: Path) -> None:
    with WireServer(_reads, faults=lambda _: html()) as server:
        line = _one_line(_compare(pairs, address, server.url))
        assert server.calls < 72  # 12 calls with six tries each
    assert "answered HTML (<!DOCTYPE html>" in line
    assert f"is the base URL right? {server.origin}" in line


@every_provider
def test_a_certificate_that_nobody_vouches_for_stops_at_once(
    address: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    with WireServer(_reads, certificate=certificate) as server:
        line = _one_line(_compare(pairs, address, server.url))
        assert "is not trusted (self-signed certificate)" in line
        assert "SSL_CERT_FILE" in line
        assert server.calls == 0
        if not address.startswith("server/"):  # whose library reads the variable only once
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
            assert _compare(pairs, address, server.url).code == 0


@every_provider
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_proxy_of_the_environment_is_used(
    address: str, variable: str, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy() as proxy, WireServer(_reads) as server:
        monkeypatch.setenv(variable, proxy.url)
        assert _compare(pairs, address, server.url, "--limit", 1).code == 0
        assert proxy.seen
        seen = len(proxy.seen)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert _compare(pairs, address, server.url, "--limit", 2, "-o", "direct").code == 0
        assert len(proxy.seen) == seen


@every_provider
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://me:s3cret@127.0.0.1:9", 1, "through the proxy 127.0.0.1:9"),
        ("socks5://me:s3cret@127.0.0.1:9", 2, "the proxy is not like http://localhost:8080"),
    ],
)
def test_a_proxy_that_is_none_is_named_without_its_password(
    address: str, url: str, code: int, said: str, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    with WireServer(_reads) as server:
        done = _compare(pairs, address, server.url)
        assert server.calls == 0
    assert done.code == code
    assert said in _one_line(done)
    written = "".join(path.read_text() for path in Path().rglob("*.json*"))
    assert "s3cret" not in done.err + done.out + written


@every_provider
def test_a_model_that_does_not_exist_gets_the_providers_own_list(address: str, pairs: Path) -> None:
    with WireServer(_reads, models=["judge-large", "writer"]) as server:
        line = _one_line(_compare(pairs, address, server.url))
        assert "has no model 'judge'; did you mean 'judge-large'?" in line
        assert server.calls == 1
    with WireServer(_reads, models=["alpha", "omega"]) as server:
        line = _one_line(_compare(pairs, address, server.url, "-o", "other"))
    assert "has no model 'judge'; known: alpha, omega" in line


def test_azure_is_found_in_the_environment(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    with WireServer(_reads, key=KEY) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.origin)
        done = rlaif("judge", "compare", pairs, "-m", "openai/mine", "-o", "run", "--limit", 1)
        assert done.code == 0
        assert {r.path for r in server.requests} == {"/openai/deployments/mine/chat/completions"}
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    done = rlaif("judge", "compare", pairs, "-m", "openai/mine", "-o", "other")
    assert (done.code, _one_line(done)) == (
        2,
        "error: openai/ needs a key: set AZURE_OPENAI_API_KEY",
    )


@pytest.fixture
def classifier(tmp_path: Path) -> Callable[..., str]:
    pytest.importorskip("torch")
    from tests.tiny import build_tiny_classifier

    return lambda **how: f"reward/{build_tiny_classifier(tmp_path / 'rm', **how)}"


def test_a_classifier_judges_by_its_rewards(pairs: Path, classifier: Callable[..., str]) -> None:
    address = classifier()
    done = rlaif("judge", "compare", pairs, "-m", address, "-o", "run", "--json")
    assert (done.code, done.json["coverage"]) == (0, 1.0)
    assert "judges by reward, which has no rubric" in done.err
    verdicts = list(read_verdicts(Path("run")))
    assert {v.judge.method for v in verdicts} == {"reward (temperature 1 nats)"}
    p_a = [v.preference.p_a for v in verdicts if v.preference]
    winners = [v.preference.winner for v in verdicts if v.preference]
    assert [p > 0.5 for p in p_a] == [winner == "A" for winner in winners]
    rewards = json.loads(verdicts[0].calls[0].reply)
    assert rewards["logits"] == [rewards["reward"]]
    again = rlaif("judge", "compare", pairs, "-m", address, "-o", "again", "--json")
    assert again.json["calls_cached"] == again.json["calls"] == 12


def test_a_classifier_scores_and_takes_no_option_of_asking(
    classifier: Callable[..., str], pairs: Path
) -> None:
    address = classifier()
    data = Path("one.jsonl")
    data.write_text('{"prompt": "Why?", "response": "So."}\n')
    done = rlaif("judge", "score", data, "-m", address, "-o", "run", "--json")
    assert done.code == 0
    (verdict,) = read_verdicts(Path("run"))
    assert verdict.score is not None
    assert 0 < verdict.score.value < 1
    done = rlaif("judge", "score", data, "-m", address, "-o", "other", "--draws", 3)
    assert (done.code, _one_line(done)) == (
        2,
        "error: the method reward (chosen by auto) takes no --draws",
    )
    done = rlaif("judge", "compare", pairs, "-m", address, "-o", "c", "--method", "verdict")
    assert done.code == 2
    assert "gives rewards and no replies: it takes no 'verdict'" in done.err


def test_a_classifier_with_labels_that_say_nothing_asks_which(
    classifier: Callable[..., str], pairs: Path
) -> None:
    address = classifier(labels=("cat", "dog"))
    done = rlaif("judge", "compare", pairs, "-m", address, "-o", "run")
    assert done.code == 2
    assert "has the labels cat, dog; say which one is the reward: reward/PATH#dog" in _one_line(
        done
    )
    done = rlaif("judge", "compare", pairs, "-m", f"{address}#cat", "-o", "run")
    assert done.code == 0
