"""The commands as a user runs them one after another, and what they leave on the disk."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlaif.specs.rubric import load_rubric
from rlaif.store.replies import ReplyStore
from rlaif.store.runs import read_verdicts
from tests.integration.command import rlaif, rows, running, start, write_rows
from tests.integration.conftest import BAD, GOOD
from tests.tiny import build_tiny
from tests.wire import WireServer


@pytest.fixture
def prompts() -> Path:
    return write_rows(
        Path("prompts.jsonl"),
        {"id": "p1", "prompt": "What is the capital of France?", "category": "geography"},
        {"id": "p2", "prompt": [{"role": "user", "content": "And of Spain?"}], "reference": "M."},
        {"prompt": "Say hello."},
    )


@pytest.fixture
def writer() -> str:
    """A scripted model whose answers differ from prompt to prompt."""
    lines = [{"match": name, "reply": f"About {name}: {GOOD}"} for name in ("France", "Spain")]
    return f"scripted/{write_rows(Path('writer.jsonl'), *lines, {'match': '', 'reply': BAD})}"


def _scripted(name: str, reply: str) -> str:
    return f"scripted/{write_rows(Path(name), {'match': '', 'reply': reply})}"


# generate


def test_generate_writes_candidates_a_configuration_and_a_summary(
    prompts: Path, writer: str
) -> None:
    other = _scripted("other.jsonl", "Hm.")
    done = rlaif("generate", prompts, "-m", writer, "-m", other, "-n", 2, "-o", "run", "--json")
    assert done.code == 0
    summary = done.json
    assert (summary["n"], summary["coverage"], summary["run"]) == (12, 1.0, "run")
    made = rows(Path("run/candidates.jsonl"))
    assert [row["id"] for row in made[:2]] == ["p1", "p2"]
    assert made[0]["prompt"] == [{"role": "user", "content": "What is the capital of France?"}]
    assert made[0]["meta"] == {"category": "geography"}
    assert made[1]["reference"] == "M."
    assert [c["id"] for c in made[0]["candidates"]] == [
        f"{m}#{n}" for m in (writer, other) for n in (0, 1)
    ]
    assert made[0]["candidates"][0] == {
        "id": f"{writer}#0",
        "model": writer,
        "response": [{"role": "assistant", "content": f"About France: {GOOD}"}],
    }
    draw = made[0]["draws"][0]
    assert (draw["candidate"], draw["finish_reason"]) == (f"{writer}#0", "stop")
    assert set(draw["call"]) == {"digest", "usage", "latency_s", "cached", "cost_usd"}
    config = json.loads(Path("run/config.json").read_text())
    assert (config["command"], config["n"], config["limit"]) == ("generate", 2, None)
    assert set(config["models"]) == {writer, other}
    on_disk = json.loads(Path("run/summary.json").read_text())
    assert on_disk | {"run": "run"} == summary
    assert sorted(p.name for p in Path("run").iterdir()) == [
        "candidates.jsonl",
        "config.json",
        "summary.json",
    ]


def test_a_draw_that_fails_is_counted_and_over_the_limit_the_exit_code_is_1(prompts: Path) -> None:
    write_rows(
        Path("weak.jsonl"),
        {"match": "France", "error": {"message": "overloaded"}},
        {"match": "Spain", "reply": "I would rather not.", "finish_reason": "refusal"},
        {"match": "", "reply": "Hello"},
    )
    words = ("generate", prompts, "-m", "scripted/weak.jsonl", "-n", 1, "-o", "run", "--json")
    done = rlaif(*words)
    assert done.code == 1
    assert done.json["causes"] == {"provider_error": 1, "refused": 1}
    assert "66.7% of the draws failed" in done.err
    assert [len(row["candidates"]) for row in rows(Path("run/candidates.jsonl"))] == [0, 0, 1]
    assert rlaif(*words, "--max-failures", 0.7).code == 0


# judge


def test_compare_writes_the_verdict_record(judge: str, pairs: Path) -> None:
    done = rlaif("judge", "compare", pairs, "-m", judge, "-r", "helpfulness", "-o", "run", "--json")
    assert done.code == 0
    assert (done.json["n"], done.json["ok"], done.json["calls"]) == (6, 6, 12)
    first = rows(Path("run/verdicts.jsonl"))[0]
    assert set(first) == {
        *("schema", "id", "kind", "item", "candidates", "judge", "status", "preference"),
        *("rationale", "calls", "flags"),
    }
    assert set(first["flags"]) == {"A"}  # the rows repeat one response word for word
    assert (first["schema"], first["kind"], first["status"]) == (1, "comparison", "ok")
    assert first["item"] == {
        "id": "q0",
        "prompt": [{"role": "user", "content": "Question 0?"}],
        "meta": {"category": "math"},
    }
    assert first["candidates"][0] == {
        "id": "A",
        "model": "m-one",
        "response": [{"role": "assistant", "content": GOOD}],
    }
    rubric = load_rubric("helpfulness")
    assert first["judge"] == {
        "model": judge,
        "method": "verdict",
        "rubric": {"name": rubric.name, "version": rubric.version, "digest": rubric.digest},
        "sampling": {"temperature": 0.0, "top_p": 1.0, "max_tokens": 1024},
    }
    assert first["preference"] == {
        "winner": "A",
        "p_a": 1.0,
        "consistent": True,
        "orders": [
            {"shown": "AB", "winner": "A", "p_a": 1.0, "source": "verdict"},
            {"shown": "BA", "winner": "A", "p_a": 1.0, "source": "verdict"},
        ],
    }
    assert first["rationale"] == "The first is careful."
    call = first["calls"][0]
    assert set(call) == {*("digest", "shown", "reply", "usage", "latency_s", "cached", "cost_usd")}
    assert set(call["usage"]) == {"input", "cached_input", "output"}
    assert [v.preference.winner for v in read_verdicts(Path("run")) if v.preference] == list(
        "ABABAB"
    )


def test_score_writes_the_grade_of_each_criterion(judge: str, pairs: Path) -> None:
    scored = [
        {"id": r["id"], "prompt": r["prompt"], "response": r["response_a"]} for r in rows(pairs)
    ]
    data = write_rows(Path("scored.jsonl"), *scored)
    done = rlaif("judge", "score", data, "-m", judge, "-o", "run", "--json")
    assert (done.code, done.json["n"]) == (0, 6)
    made = rows(Path("run/verdicts.jsonl"))
    assert [row["score"]["value"] for row in made] == [5.0, 1.0] * 3
    assert made[0]["kind"] == "score"
    assert made[0]["score"] == {
        "value": 5.0,
        "min": 1.0,
        "max": 5.0,
        "criteria": {"helpfulness": {"value": 5.0, "min": 1, "max": 5, "weight": 1.0}},
    }
    assert [c["id"] for c in made[0]["candidates"]] == ["1"]


def test_a_reply_that_cannot_be_read_is_no_verdict_and_over_the_limit_the_exit_code_is_1(
    pairs: Path,
) -> None:
    write_rows(
        Path("vague.jsonl"),
        {"match": "Question 0?", "reply": "Both are nice."},
        {"match": "Question 1?", "reply": "I am sorry, I will not."},
        {"match": "Question 2?", "reply": "A is", "finish_reason": "length"},
        {"match": "Question 3?", "error": {"message": "down"}},
        {"match": "", "reply": "[[A]]"},
    )
    words = ("judge", "compare", pairs, "-m", "scripted/vague.jsonl", "-o", "run")
    done = rlaif(*words, "--json")
    assert done.code == 1
    assert done.json["causes"] == {
        "provider_error": 1,
        "refused": 1,
        "truncated": 1,
        "unreadable": 1,
    }
    assert done.json["coverage"] == pytest.approx(2 / 6)
    assert "66.7% of the items have no verdict" in done.err
    made = rows(Path("run/verdicts.jsonl"))
    assert [row.get("cause") for row in made[:4]] == [
        *("unreadable", "refused", "truncated", "provider_error"),
    ]
    assert not any("preference" in row for row in made[:4])
    assert all(row["preference"]["winner"] == "tie" for row in made[4:])  # A in either order
    assert not any(row["preference"]["consistent"] for row in made[4:])
    assert rlaif(*words, "--max-failures", 0.7).code == 0


def test_a_rerun_asks_nothing_and_says_the_same(judge: str, pairs: Path) -> None:
    words = ("judge", "compare", pairs, "-m", judge, "-o", "run", "--json")
    first = rlaif(*words).json
    before = _essence(Path("run/verdicts.jsonl"))
    again = rlaif(*words).json
    assert (first["calls_cached"], again["calls_cached"], again["calls"]) == (0, 12, 12)
    assert again["tokens"] == first["tokens"]
    assert _essence(Path("run/verdicts.jsonl")) == before
    fresh = rlaif(*words[:-3], "-o", "elsewhere", "--json").json
    assert fresh["calls_cached"] == 12  # one store for all runs


def test_another_configuration_in_the_same_folder_is_refused_by_what_differs(
    judge: str, pairs: Path
) -> None:
    words = ("judge", "compare", pairs, "-m", judge, "-o", "run")
    assert rlaif(*words).code == 0
    before = Path("run/verdicts.jsonl").read_bytes()
    done = rlaif(*words, "--limit", 3, "-r", "honesty")
    assert done.code == 2
    assert "run holds another run" in done.error
    assert "limit was null, is 3" in done.error
    assert 'judge.rubric.name was "helpfulness", is "honesty"' in done.error
    assert Path("run/verdicts.jsonl").read_bytes() == before


def test_a_run_with_a_limit_grows_into_the_whole_and_pays_nothing_twice(
    judge: str, pairs: Path
) -> None:
    words = ("judge", "compare", pairs, "-m", judge, "-o", "run", "--json")
    first = rlaif(*words, "--limit", 2).json
    whole = rlaif(*words).json
    assert whole["n"] > first["n"] == 2
    assert (first["calls_cached"], whole["calls_cached"]) == (0, first["calls"])
    assert "limit was null, is 2" in rlaif(*words, "--limit", 2).error


def test_a_dry_run_asks_nothing_and_says_how_much_is_kept(judge: str, pairs: Path) -> None:
    words = ("judge", "compare", pairs, "-m", judge, "-o", "run")
    done = rlaif(*words, "--dry-run", "--json")
    assert done.code == 0
    [row] = done.json["rows"]
    assert (row["model"], row["requests"], row["kept"], row["to_ask"]) == (judge, 12, 0, 12)
    assert row["output_tokens_at_most"] == 12 * 1024
    assert row["input_tokens_estimate"] > 12 * 100
    assert not Path("run").exists()
    assert rlaif(*words, "--limit", 2, "-o", "part").code == 0
    [row] = rlaif(*words, "--dry-run", "--json").json["rows"]
    assert (row["requests"], row["kept"], row["to_ask"]) == (12, 4, 8)
    assert rlaif(*words).code == 0
    [row] = rlaif(*words, "--dry-run", "--json").json["rows"]
    assert (row["kept"], row["to_ask"], row["input_tokens_estimate"]) == (12, 0, 0)
    assert "kept" in rlaif(*words, "--dry-run").out


def test_dry_runs_of_generate_and_score(judge: str, pairs: Path, prompts: Path) -> None:
    done = rlaif("generate", prompts, "-m", judge, "-n", 3, "--dry-run", "--json")
    assert [r["to_ask"] for r in done.json["rows"]] == [9]
    assert rlaif("generate", prompts, "-m", judge, "-n", 3, "-o", "run").code == 0
    done = rlaif("judge", "score", "run", "-m", judge, "--dry-run", "--json")
    assert done.json["rows"][0]["to_ask"] == 3  # equal draws are asked about once
    assert sorted(p.name for p in Path().iterdir() if p.is_dir()) == ["run"]


@pytest.mark.parametrize("command", ["compare", "score"])
def test_a_run_of_generate_is_judged(command: str, judge: str, prompts: Path, writer: str) -> None:
    other = _scripted("other.jsonl", BAD)
    rlaif("generate", prompts, "-m", writer, "-m", other, "-n", 2, "-o", "made")
    done = rlaif("judge", command, "made", "-m", judge, "-o", "run", "--json", "--max-failures", 1)
    assert done.code == 0
    assert done.json["n"] == {"compare": 3 * 6, "score": 3 * 4}[command]
    made = rows(Path("run/verdicts.jsonl"))
    assert {c["model"] for row in made for c in row["candidates"]} == {writer, other}
    by_name = rlaif(
        *("judge", command, "made/candidates.jsonl", "-m", judge, "-o", "run", "--json"),
        *("--max-failures", 1),
    )
    assert by_name.json["calls_cached"] == by_name.json["calls"]


@pytest.mark.parametrize(
    ("choice", "per_prompt"), [("all", 6), ("adjacent", 3), ("2", 2), ("9", 6)]
)
def test_pairs_of_a_prompts_candidates(
    choice: str, per_prompt: int, judge: str, prompts: Path
) -> None:
    rlaif("generate", prompts, "-m", judge, "-n", 4, "-o", "made")
    words = ("judge", "compare", "made", "-m", judge, "--pairs", choice, "-o", "run", "--json")
    done = rlaif(*words)
    assert done.json["n"] == 3 * per_prompt
    made = rows(Path("run/verdicts.jsonl"))
    if choice == "adjacent":
        ends = [tuple(c["id"].rpartition("#")[2] for c in row["candidates"]) for row in made[:3]]
        assert ends == [("0", "1"), ("1", "2"), ("2", "3")]
    if choice == "2":
        rlaif(*words[:-2], "again", "--json")
        assert _essence(Path("again/verdicts.jsonl")) == _essence(Path("run/verdicts.jsonl"))


def test_identical_responses_are_a_tie_without_a_call(judge: str, prompts: Path) -> None:
    rlaif("generate", prompts, "-m", judge, "-n", 2, "-o", "made")
    done = rlaif("judge", "compare", "made", "-m", judge, "-o", "run", "--json")
    assert (done.json["n"], done.json["calls"]) == (3, 0)


def test_limit_takes_prompts_and_rows(judge: str, pairs: Path, prompts: Path) -> None:
    rlaif("generate", prompts, "-m", judge, "-n", 3, "--limit", 2, "-o", "made")
    assert [row["id"] for row in rows(Path("made/candidates.jsonl"))] == ["p1", "p2"]
    done = rlaif("judge", "compare", "made", "-m", judge, "--limit", 1, "-o", "one", "--json")
    assert done.json["n"] == 3
    done = rlaif("judge", "compare", pairs, "-m", judge, "--limit", 4, "-o", "rows", "--json")
    assert done.json["n"] == 4
    assert rlaif("judge", "compare", pairs, "-m", judge, "--limit", 0).code == 2


@pytest.mark.parametrize("form", ["stdin", "csv", "json", "jsonl.gz"])
def test_data_in_other_forms_gives_the_same_verdicts(form: str, judge: str, pairs: Path) -> None:
    rlaif("judge", "compare", pairs, "-m", judge, "-o", "run")
    given = rows(pairs)
    source: Path | str = Path(f"data.{form}")
    if form == "stdin":
        source = "-"
    elif form == "csv":
        with Path(source).open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(given[0]))
            table.writeheader()
            table.writerows(given)
    elif form == "json":
        Path(source).write_text(json.dumps(given, indent=2))
    else:
        import gzip

        Path(source).write_bytes(gzip.compress(pairs.read_bytes()))
    done = rlaif(
        *("judge", "compare", source, "-m", judge, "-o", "other", "--json"),
        stdin=pairs.read_bytes() if form == "stdin" else b"",
    )
    assert done.code == 0
    assert done.json["calls_cached"] == 12
    assert _essence(Path("other/verdicts.jsonl")) == _essence(Path("run/verdicts.jsonl"))


def test_standard_input_resumes_by_its_contents(judge: str, pairs: Path) -> None:
    words = ("judge", "compare", "-", "-m", judge, "-o", "run")
    assert rlaif(*words, stdin=pairs.read_bytes()).code == 0
    assert rlaif(*words, stdin=pairs.read_bytes()).code == 0
    other = pairs.read_bytes().replace(b"Question 5?", b"Question 6?")
    assert "data_sha256 was" in rlaif(*words, stdin=other).error


def test_without_json_a_table_says_what_was_done_and_where_it_lies(judge: str, pairs: Path) -> None:
    done = rlaif("judge", "compare", pairs, "-m", judge, "-o", "run")
    assert re.search(r"coverage\s+100\.0%", done.out)
    assert re.search(r"calls\s+12 \(0 from the store\)", done.out)
    assert re.search(r"wrote\s+run/verdicts\.jsonl", done.out)
    assert done.err == ""


# prefer


def test_prefer_makes_a_data_set_of_the_verdicts(judge: str, pairs: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rlaif("judge", "compare", pairs, "-m", judge, "-o", "run")
    done = rlaif("prefer", "run", "-o", "set", "--test-share", 0.4, "--json")
    assert done.code == 0
    assert sum(done.json["rows"].values()) == 6
    assert (done.json["held_back"], done.json["dataset"]) == ({}, "set")
    loaded = datasets.load_from_disk("set")
    assert {name: len(part) for name, part in loaded.items()} == done.json["rows"]
    made = [row for part in loaded.values() for row in part]
    assert set(made[0]) == {
        *("prompt", "chosen", "rejected", "p_chosen", "margin", "consistent", "verdict_id"),
        *("chosen_model", "rejected_model", "judge", "rubric"),
    }
    assert {row["chosen"][0]["content"] for row in made} == {GOOD}
    assert {(row["p_chosen"], row["margin"], row["consistent"]) for row in made} == {
        (1.0, 1.0, True)
    }
    verdicts = {row["id"]: row for row in rows(Path("run/verdicts.jsonl"))}
    for row in made:
        assert verdicts[row["verdict_id"]]["item"]["prompt"] == row["prompt"]
    assert {row["judge"] for row in made} == {judge}
    assert {row["rubric"] for row in made} == {"helpfulness@1.0.0"}


def test_prefer_says_what_it_holds_back(judge: str, pairs: Path) -> None:
    pytest.importorskip("datasets")
    more = {"prompt": "Which?", "response_a": "this one", "response_b": "that one"}
    again = {"prompt": "Question 0?", "response_a": BAD, "response_b": GOOD}
    write_rows(pairs, *rows(pairs), more, again)
    write_rows(Path("bench.jsonl"), {"prompt": "question  2"})
    rlaif("judge", "compare", pairs, "-m", judge, "-o", "run")
    words = ("prefer", "run", "-o", "set", "--decontaminate", "bench.jsonl")
    done = rlaif(*words, "--json")
    assert done.json["held_back"] == {"contaminated": 1, "duplicate": 1, "tie": 1}
    held = rows(Path("set/held_back.jsonl"))
    assert [row["reason"] for row in held] == ["contaminated", "tie", "duplicate"]
    assert held[1]["p_a"] == 0.5
    table = rlaif(*words).out
    assert re.search(r"contaminated\s+1", table)


def test_prefer_with_nothing_fit_to_train_on_says_why(pairs: Path) -> None:
    pytest.importorskip("datasets")
    always_a = _scripted("always.jsonl", "[[A]]")
    rlaif("judge", "compare", pairs, "-m", always_a, "-o", "run")
    done = rlaif("prefer", "run", "-o", "set")
    assert done.code == 1
    assert done.error == "no pair is fit to train on: 6 tie"
    assert [row["reason"] for row in rows(Path("set/held_back.jsonl"))] == ["tie"] * 6


def test_prefer_takes_many_runs_and_a_verdicts_file(judge: str, pairs: Path) -> None:
    pytest.importorskip("datasets")
    rlaif("judge", "compare", pairs, "-m", judge, "--limit", 3, "-o", "one")
    other = [{**row, "prompt": row["prompt"] + " Why?"} for row in rows(pairs)]
    rlaif("judge", "compare", write_rows(Path("b.jsonl"), *other), "-m", judge, "-o", "two")
    done = rlaif("prefer", "one", "two/verdicts.jsonl", "-o", "set", "--json")
    assert sum(done.json["rows"].values()) == 9


# a local model


def test_the_loop_on_a_checkpoint(tiny: str, prompts: Path) -> None:
    datasets = pytest.importorskip("datasets")
    words = ("generate", prompts, "-m", tiny, "-n", 3, "--max-tokens", 8, "-o", "made", "--json")
    first = rlaif(*words)
    assert first.code == 0
    assert (first.json["n"], first.json["calls_cached"]) == (9, 0)
    before = Path("made/candidates.jsonl").read_text()
    again = rlaif(*words)
    assert again.json["calls_cached"] == 9
    assert Path("made/candidates.jsonl").read_text() == before.replace(
        '"cached":false', '"cached":true'
    )

    words = ("judge", "compare", "made", "-m", tiny, "-o", "run", "--json", "--max-failures", 1)
    done = rlaif(*words)
    assert done.code == 0
    assert "judges by likelihood" in done.err
    made = [v for v in read_verdicts(Path("run")) if v.preference and v.calls]
    assert made
    for verdict in made:
        assert verdict.judge.rubric is None
        assert verdict.judge.method.startswith("likelihood")
        assert len(verdict.calls) == 4
        assert verdict.preference
        assert 0 < verdict.preference.p_a < 1
        assert verdict.preference.consistent
    assert rlaif(*words).json["calls_cached"] == done.json["calls"]

    done = rlaif("prefer", "run", "-o", "set", "--test-share", 0, "--json")
    assert done.code == 0
    assert len(datasets.load_from_disk("set")["train"]) == done.json["rows"]["train"]


def test_a_small_model_can_be_asked_for_verdicts_and_what_it_cannot_give_is_no_verdict(
    pairs: Path, tiny: str, tmp_path: Path
) -> None:
    wide = build_tiny(tmp_path / "wide", window=8192)
    done = rlaif(
        *("judge", "compare", pairs, "-m", f"local/{wide}", "--method", "verdict", "--limit", 2),
        *("--max-tokens", 4, "-o", "run", "--json"),
    )
    assert done.code == 1
    assert (done.json["ok"], sum(done.json["causes"].values())) == (0, 2)
    assert set(done.json["causes"]) <= {"truncated", "unreadable", "refused"}
    assert "judges by likelihood" not in done.err
    [first, _] = rows(Path("run/verdicts.jsonl"))
    assert first["judge"]["rubric"]["name"] == "helpfulness"
    assert first["calls"][0]["usage"]["output"] > 0
    # a prompt that does not fit the model's window is a failure of that item alone
    done = rlaif(
        *("judge", "compare", pairs, "-m", tiny, "--method", "verdict", "-o", "short", "--json")
    )
    assert (done.code, done.json["causes"]) == (1, {"provider_error": 6})


# interruptions


@pytest.fixture
def many() -> Path:
    """Enough pairs that a run on a slow server can be stopped in its middle."""
    return write_rows(
        Path("many.jsonl"),
        *(
            {"id": f"q{n}", "prompt": f"Question {n}?", "response_a": GOOD, "response_b": BAD}
            for n in range(20)
        ),
    )


def _reads(messages: list[dict[str, str]]) -> str:
    first_is_good = f"response_a>\n{GOOD}" in messages[-1]["content"]
    return f"It is careful.\n[[{'A' if first_is_good else 'B'}]]"


def _essence(path: Path) -> list[dict[str, Any]]:
    """Verdicts without what may differ between runs of the same command."""
    made = rows(path)
    for row in made:
        for call in row["calls"]:
            del call["cached"], call["latency_s"]
    return made


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=["end", "kill"]
)
def test_a_run_that_was_stopped_goes_on_and_ends_like_one_that_was_not(
    how: signal.Signals, code: int, many: Path, home: Path
) -> None:
    with WireServer(_reads, delay_s=0.03) as server:
        words = (
            *("judge", "compare", many, "-m", "server/judge", "--base-url", server.url),
            *("--concurrency", 2),
        )
        with running(start(*words, "-o", "run", home=home)) as process:
            _wait_for(lambda: server.calls >= 12)
            process.send_signal(how)
            _, err = process.communicate(timeout=20)
            assert process.returncode == code
        _wait_for(lambda: server.in_flight == 0)
        if how == signal.SIGTERM:
            assert err.decode().strip() == (
                "interrupted: finished work is kept; run the same command to go on"
            )
            assert Path("run/verdicts.jsonl.partial").stat().st_size > 0
        assert not Path("run/verdicts.jsonl").exists()
        asked_before = server.calls
        assert asked_before < 40
        with ReplyStore(home / "replies.sqlite") as store:
            kept = len(store)
        assert asked_before - 2 * 2 <= kept <= asked_before

        done = rlaif(*words, "-o", "run", "--json")
        assert (done.code, done.json["n"]) == (0, 20)
        assert done.json["calls_cached"] == kept
        assert server.calls == asked_before + 40 - kept
        times_asked = Counter(json.dumps(call.body, sort_keys=True) for call in server.requests)
        assert len(times_asked) == 40
        assert sum(n - 1 for n in times_asked.values()) == asked_before - kept
        assert not list(Path("run").glob("*.partial"))

        # the secret stays: it is part of what the judge is shown, so of the digests of its calls
        for file in home.glob("replies.sqlite*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        unbroken = rlaif(*words, "-o", "unbroken", "--json")
        assert unbroken.json["calls_cached"] == 0
    assert _essence(Path("run/verdicts.jsonl")) == _essence(Path("unbroken/verdicts.jsonl"))
    summaries = [json.loads(Path(f"{run}/summary.json").read_text()) for run in ("run", "unbroken")]
    for summary in summaries:
        assert math.isfinite(summary.pop("wall_s"))
        for of_this_time in ("calls_cached", "calls_unpriced"):
            del summary[of_this_time]
    assert summaries[0] == summaries[1]


def _wait_for(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_generating_again_does_not_turn_a_judged_run_into_another(prompts: Path) -> None:
    write_rows(Path("say.jsonl"), {"match": "", "reply": "Hello"})
    write_rows(Path("judge.jsonl"), {"match": "", "reply": "[[4]]"})
    generate = ("generate", prompts, "-m", "scripted/say.jsonl", "-n", 1, "-o", "run")
    judge = ("judge", "score", "run", "-m", "scripted/judge.jsonl", "-o", "scores", "--json")
    first = [rlaif(*words) for words in (generate, judge)]
    again = [rlaif(*words) for words in (generate, judge)]
    assert [done.code for done in first + again] == [0, 0, 0, 0]
    assert again[1].json["calls_cached"] == again[1].json["calls"]
