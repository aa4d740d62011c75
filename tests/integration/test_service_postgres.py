"""Two servers, each with a home of its own, that are one service on one PostgreSQL database."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.integration.command import rlaif, serving
from tests.integration.test_service import ROWS, Asked, until, upload_and_run
from tests.wire import WireServer

SECRET = "hunter2hunter2"


@pytest.mark.slow
def test_a_run_goes_on_at_the_other_server_and_nothing_answered_is_asked_again(
    tmp_path: Path, postgres_url: str
) -> None:
    asked = Asked()
    with WireServer(asked, delay_s=0.05) as model:
        config = tmp_path / "service.yaml"
        config.write_text(
            "judges:\n  default: {model: server/judge, concurrency: 2, base_url: '"
            + model.url
            + "'}\n"
        )
        words = ("-c", config, "--store", postgres_url, "--root", tmp_path / "shared")
        both = serving(*words, home=tmp_path / "a"), serving(*words, home=tmp_path / "b")
        with both[0] as (first, url), both[1] as (second, other):
            second.send_signal(signal.SIGSTOP)  # so that the first takes the run
            name = upload_and_run(url, ROWS)
            until(url, name, lambda run: run["done"] >= 20)
            second.send_signal(signal.SIGCONT)
            assert httpx.get(f"{other}/v1/runs/{name}").json()["state"] == "running"
            first.kill()
            first.wait(20)
            answered = len(asked.counts)
            run = until(other, name, lambda run: run["state"] == "done")
            assert run["summary"]["n"] == len(ROWS)
            assert run["summary"]["calls_cached"] >= 20
            lines = httpx.get(f"{other}/v1/runs/{name}/verdicts").text.splitlines()
            assert len(lines) == len(ROWS)
    assert 20 <= answered < len(ROWS)
    # each home has its own codes in the tags around judged text, so the texts differ
    questions = Counter[str]()
    for text, count in asked.counts.items():
        questions[text[text.index("What is") : text.index("?")]] += count
    assert len(questions) == len(ROWS)
    # what was in flight when it died was asked again, nothing else
    assert sum(questions.values()) <= len(ROWS) + 2
    assert not (tmp_path / "a" / "replies.sqlite").exists()


def test_tokens_are_made_in_the_database_and_its_password_is_shown_to_nobody(
    postgres_url: str,
) -> None:
    url = postgres_url.replace("rlaif@", f"rlaif:{SECRET}@")
    results = [rlaif("serve", "--store", url, "--add-token", "anna")]
    results.append(rlaif("serve", "--store", url, "--tokens", "--json"))
    assert [token["name"] for token in results[-1].json["tokens"]] == ["anna"]
    away = f"postgresql://anna:{SECRET}@/x?host=/nowhere"
    results.append(rlaif("serve", "--store", away, "--tokens"))
    assert results[-1].code == 1
    assert "cannot reach the store postgresql://anna@/nowhere/x" in results[-1].error
    results.append(rlaif("serve", "--store", f"mysql://anna:{SECRET}@host/x", "--tokens"))
    assert results[-1].code == 2
    assert "no PostgreSQL URL" in results[-1].error
    for one in results:
        assert SECRET not in one.out + one.err
