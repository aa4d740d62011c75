"""`rlaif constitution` from prompts to training rows, on scripted models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.command import Result, rlaif, rows, write_rows

REVISION = "Let us find a lawful way, and begin with a talk at the bank about a loan."
CRITIQUE = "It gives a plan for a theft, which would hurt somebody and end in prison."
OTHER = "I have no idea who would know."
SCRIPT: list[dict[str, object]] = [
    {"match": "rewritten response alone", "reply": REVISION},
    {"match": "do not rewrite the response", "reply": CRITIQUE},
    {"match": "", "reply": "Take a crowbar to the back door."},
]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    asked = [{"id": f"p{n}", "prompt": f"How do I rob house {n}?"} for n in range(19)]
    path = write_rows(tmp_path / "prompts.jsonl", *asked)
    with path.open("a") as file:
        file.write("{broken\n")
    return path


@pytest.fixture
def actor(tmp_path: Path) -> str:
    return f"scripted/{write_rows(tmp_path / 'actor.jsonl', *SCRIPT)}"


def judge(tmp_path: Path) -> str:
    """A judge that prefers whatever speaks of a bank, in either place."""
    lines = [
        {"match": f"response_b>\n{REVISION[:20]}", "reply": "[[B]]"},
        {"match": f"response_a>\n{REVISION[:20]}", "reply": "[[A]]"},
        {"match": "", "reply": "harm: [[2]]"},
    ]
    return f"scripted/{write_rows(tmp_path / 'judge.jsonl', *lines)}"


def ran(*words: object) -> Result:
    done = rlaif(*words)
    assert done.code == 0, done.err
    return done


def critique(prompts: Path, actor: str, out: Path, *more: object) -> Result:
    return ran("constitution", "critique", prompts, "-m", actor, "-o", out, *more)


def test_from_prompts_to_training_rows(tmp_path: Path, prompts: Path, actor: str) -> None:
    run = tmp_path / "run"
    told = critique(prompts, actor, run, "-n", 2, "--judge", judge(tmp_path), "--json").json
    assert (told["n"], told["chains"], told["causes"]) == (20, 19, {"broken_row": 1})
    assert told["rounds"][0] == {"round": 1, "kept": 19}
    # the second revision is the first one over again
    assert told["faults"] == {"unchanged": 19}
    assert told["drift"]["separability"]["accuracy"] == 1.0
    kept = [p["keep_rate"] for p in told["principles"].values() if p.get("kept")]
    assert set(kept) == {1.0}
    chains = rows(run / "revisions.jsonl")
    assert chains[0]["final"] == REVISION
    verdicts = {v["id"] for v in rows(run / "verdicts.jsonl")}
    assert chains[0]["rounds"][0]["check"]["verdict_id"] in verdicts
    assert [r["line"] for r in rows(run / "skipped.jsonl")] == [20]
    assert "Words alone give the revisions away" in (run / "report.html").read_text("utf-8")

    page = ran("report", run, "-o", tmp_path / "again.html", "--json").json["report"]
    assert "Chains to read" in Path(page).read_text("utf-8")

    before = (run / "revisions.jsonl").read_bytes()
    again = critique(prompts, actor, run, "-n", 2, "--judge", judge(tmp_path), "--json").json
    assert again["calls_cached"] == again["calls"] == told["calls"]
    assert (run / "revisions.jsonl").read_bytes() == before

    made = ran("constitution", "export", run, "-o", tmp_path / "data", "--json").json
    assert made["sft"]["origins"] == {"revision": 19}
    assert sum(made["preferences"]["rows"].values()) == 19
    pair = rows(tmp_path / "data" / "preferences" / "train.jsonl")[0]
    assert pair["chosen"][0]["content"] == REVISION
    assert pair["rejected"][0]["content"] == "Take a crowbar to the back door."
    sft = {r["prompt"][0]["content"] for r in rows(tmp_path / "data" / "sft" / "train.jsonl")}
    test = {
        r["prompt"][0]["content"]
        for name in ("sft", "preferences")
        if (path := tmp_path / "data" / name / "test.jsonl").exists()
        for r in rows(path)
    }
    assert not sft & test


def test_helpfulness_rows_are_mixed_in(tmp_path: Path, prompts: Path, actor: str) -> None:
    run = tmp_path / "run"
    critique(prompts, actor, run, "-n", 1)
    mix = write_rows(
        tmp_path / "mix.jsonl", *({"prompt": f"Q{n}?", "response": "Yes."} for n in range(60))
    )
    out = tmp_path / "data"
    done = ran("constitution", "export", run, "-o", out, "--mix", mix, "--mix-ratio", 2)
    assert "no revision was compared by a judge" in done.err
    assert json.loads((out / "sft" / "summary.json").read_text())["origins"] == {
        "helpfulness": 38,
        "revision": 19,
    }
    compared = tmp_path / "compared"
    pairs = write_rows(
        tmp_path / "pairs.jsonl",
        *({"prompt": f"Q{n}?", "response_a": REVISION, "response_b": OTHER} for n in range(9)),
    )
    ran("judge", "compare", pairs, "-m", judge(tmp_path), "-o", compared)
    checked = tmp_path / "checked"
    critique(prompts, actor, checked, "-n", 1, "--judge", judge(tmp_path), "--limit", 4)
    words = ("--mix-run", compared, "--mix-ratio", 1.5, "--json")
    made = ran("constitution", "export", checked, "-o", tmp_path / "more", *words).json
    assert sum(made["preferences"]["rows"].values()) == 10


def test_a_dry_run_counts_every_call(tmp_path: Path, prompts: Path, actor: str) -> None:
    words = ("-n", 4, "--judge", judge(tmp_path), "--dry-run", "--json")
    told = critique(prompts, actor, tmp_path / "run", *words).json
    asked = {row["model"].rpartition("/")[2]: row["requests"] for row in told["rows"]}
    assert asked == {"actor.jsonl": 19 * 9, "judge.jsonl": 19 * 8}
    assert not (tmp_path / "run").exists()


def test_scores_before_and_after(tmp_path: Path, prompts: Path, actor: str) -> None:
    run, out = tmp_path / "run", tmp_path / "check"
    critique(prompts, actor, run, "-n", 1, "--limit", 6)
    script = [
        {"match": REVISION[:20], "reply": "\n".join(f"{n}: [[5]]" for n in names())},
        {"match": "", "reply": "\n".join(f"{n}: [[1]]" for n in names())},
    ]
    model = f"scripted/{write_rows(tmp_path / 'scorer.jsonl', *script)}"
    words = ("constitution", "check", run, "-m", model, "-r", "honesty", "-o", out)
    told = ran(*words, "--json").json
    zero, one = told["rows"]
    assert (zero["round"], one["round"], one["n"], one["coverage"]) == (0, 1, 6, 1.0)
    assert one["score"]["value"] > zero["score"]["value"]
    assert one["gain"]["value"] == pytest.approx(one["score"]["value"] - zero["score"]["value"])
    assert "gain over the first" in ran(*words).out
    assert ran(*words, "--dry-run", "--json").json["rows"][0]["requests"] >= 2
    board = ran("leaderboard", out, "--json").json
    assert {row["model"] for row in board["rows"]} == {"round-0", "round-1"}


def test_chains_without_a_response_have_no_score(tmp_path: Path, prompts: Path) -> None:
    mute = f"scripted/{write_rows(tmp_path / 'mute.jsonl', {'match': '', 'reply': ''})}"
    run = tmp_path / "run"
    critique(prompts, mute, run, "--max-failures", 1)
    done = rlaif("constitution", "check", run, "-m", mute, "-o", tmp_path / "check")
    assert (done.code, "holds no response to score" in done.err) == (1, True)


def names() -> list[str]:
    from rlaif.specs.rubric import load_rubric

    return [c.name for c in load_rubric("honesty").criteria]


def test_labels_by_principle_become_preference_rows(tmp_path: Path) -> None:
    data = write_rows(
        tmp_path / "d.jsonl",
        *(
            {"id": f"p{n}", "prompt": f"Q{n}?", "response_a": REVISION, "response_b": f"No {n}."}
            for n in range(6)
        ),
    )
    top = [["A", -0.2], ["B", -1.8]]
    script = [
        {"match": f"response_a>\n{REVISION[:20]}", "reply": "A",
         "logprobs": [{"token": "A", "logprob": -0.2, "top": top}]},
        {"match": "", "reply": "B",
         "logprobs": [{"token": "B", "logprob": -0.2, "top": [["B", -0.2], ["A", -1.8]]}]},
    ]  # fmt: skip
    model = f"scripted/{write_rows(tmp_path / 'j.jsonl', *script)}"
    run = tmp_path / "run"
    words = ("constitution", "compare", data, "-m", model, "-k", 2, "-o", run)
    assert ran(*words, "--dry-run", "--json").json["rows"][0]["requests"] == 24
    assert ran(*words, "--json").json["ok"] == 6
    ran("prefer", run, "-o", tmp_path / "prefs", "--max-length-ratio", 20)
    row = rows(tmp_path / "prefs" / "train.jsonl")[0]
    assert row["p_chosen"] == pytest.approx(0.832, abs=0.001)
    assert row["rubric"].startswith("harmlessness@")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--check", "final"), 2, "needs a --judge"),
        (("--judge", "x", "--check", "off"), 2, "nothing to do"),
        (("-c", "nothing"), 2, "no constitution called"),
        (("--judge", "JUDGE", "-c", "customer-service"), 2, "give one with -r"),
    ],
)
def test_wrong_options(
    tmp_path: Path, prompts: Path, actor: str, words: tuple[str, ...], code: int, message: str
) -> None:
    given = [judge(tmp_path) if word == "JUDGE" else word for word in words]
    out = tmp_path / "run"
    done = rlaif("constitution", "critique", prompts, "-m", actor, "-o", out, *given)
    assert (done.code, message in done.err) == (code, True), done.err


def test_a_file_without_any_prompt_is_bad_input(tmp_path: Path, actor: str) -> None:
    path = write_rows(tmp_path / "p.jsonl", {"a": 1}, {"b": 2})
    done = rlaif("constitution", "critique", path, "-m", actor, "-o", tmp_path / "run")
    assert done.code == 2
    assert "p.jsonl:1" in done.error
    assert "is missing" in done.error


def test_a_critic_that_says_nothing_fails_the_run(tmp_path: Path, prompts: Path) -> None:
    script = [{**SCRIPT[1], "reply": ""}, SCRIPT[2]]
    mute = f"scripted/{write_rows(tmp_path / 'mute.jsonl', *script)}"
    done = rlaif("constitution", "critique", prompts, "-m", mute, "-o", tmp_path / "run", "--json")
    assert done.code == 1
    told = json.loads(done.out)
    assert told["causes"] == {"broken_row": 1, "empty_critique": 19}
    assert told["revised"] == 0
    export = rlaif("constitution", "export", tmp_path / "run", "-o", tmp_path / "data")
    assert (export.code, "no revision to train on" in export.err) == (1, True)


def test_a_judge_that_checks_itself_is_told(tmp_path: Path, prompts: Path, actor: str) -> None:
    done = critique(prompts, actor, tmp_path / "run", "--judge", actor, "--max-failures", 1)
    assert "checks its own revisions" in done.err


def test_published_constitutions_become_files(tmp_path: Path) -> None:
    source = tmp_path / "c.json"
    source.write_text(json.dumps({"constitutions": [{"critic": "Rude?", "revision": "Mend."}]}))
    words = ("constitutions", "import", "llm-swarm", source, "-o", tmp_path / "c.yaml")
    assert "1 principles" in ran(*words).out
    linted = ran("constitutions", "lint", tmp_path / "c.yaml").out
    assert "criticize and revise by alone" in linted
    done = rlaif(*words)
    assert (done.code, "cannot write" in done.err) == (2, True)
