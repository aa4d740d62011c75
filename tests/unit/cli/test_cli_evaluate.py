"""`rlaif eval` end to end, on small made-up files and scripted replies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlaif.evals.formats import mt_bench_pair
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Source
from rlaif.store.runs import read_verdicts
from tests.unit.evals.bench_files import (
    QUESTIONS,
    Ran,
    answer,
    answers_folder,
    jsonl,
    read_lines,
    run_eval,
    script,
)
from tests.unit.evals.test_mt_bench import prompts
from tests.wire import WireReply, WireServer


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with an MT-Bench question file and the answers of two models."""
    jsonl(tmp_path / "question.jsonl", QUESTIONS)
    answers_folder(
        tmp_path / "answers",
        good=[answer(81, "good haiku", "good rhyme"), answer(111, "good 4", "good 12")],
        base=[answer(81, "base haiku", "base rhyme"), answer(111, "base 5", "base 13")],
    )
    return tmp_path


def mt_bench(bench: Path, *words: object) -> Ran:
    fixed = ("--questions", bench / "question.jsonl", "-o", bench / "run")
    return run_eval("mt-bench", *fixed, *words)


def untouched(folder: Path) -> bool:
    return not (folder / "run").exists()


def test_single_grading_writes_a_run_and_fastchat_s_files(bench: Path) -> None:
    judge = script(
        bench / "judge.jsonl",
        {"match": "good", "reply": "Rating: [[9]]"},
        {"match": "base 13", "reply": "no mark"},
        {"match": "base", "reply": "Rating: [[4]]"},
    )
    words = ("--answers", bench / "answers", "--judge-prompts", prompts(bench), "-m", judge)
    words += ("--fastchat", bench / "fc", "--max-failures", "0.2")
    ran = mt_bench(bench, *words, "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["n"], ran.json["causes"]) == (8, {"unreadable": 1})
    scores = [v.score.value if v.score else None for v in read_verdicts(bench / "run")]
    assert scores == [4, 4, 4, None, 9, 9, 9, 9]
    (path,) = (bench / "fc" / "model_judgment").iterdir()
    assert path.name.endswith("judge.jsonl_single.jsonl")
    rows = read_lines(path)
    assert [row["score"] for row in rows] == [4, 4, 4, -1, 9, 9, 9, 9]
    assert rows[0] | {"tstamp": 0} == {
        "question_id": 81,
        "model": "base",
        "judge": [judge, "single-v1"],
        "judgment": "Rating: [[4]]",
        "score": 4,
        "turn": 1,
        "user_prompt": "Write a haiku.|base haiku",
        "tstamp": 0,
    }
    again = mt_bench(bench, *words, "--json")
    assert (again.code, again.json["calls_cached"]) == (0, 8)
    assert mt_bench(bench, *words[:-2]).code == 1  # an eighth has no verdict, over 5 %


def test_fastchat_s_files_of_others_are_never_lost(bench: Path) -> None:
    judge = script(bench / "judge.jsonl", {"match": "", "reply": "Rating: [[9]]"})
    words = ("--answers", bench / "answers", "--judge-prompts", prompts(bench), "-m", judge)
    name = f"{judge.replace('/', '_')}_single.jsonl"
    kept = {"question_id": 81, "model": "other", "turn": 1, "score": 3}
    path = jsonl(bench / "fc" / "model_judgment" / name, [kept])
    ran = mt_bench(bench, *words, "--fastchat", bench / "fc")
    assert (ran.code, "would be lost" in ran.error) == (2, True)
    assert read_lines(path) == [kept]
    path.unlink()
    drawn = script(bench / "model.jsonl", {"match": "", "reply": "x"})
    old = answer(999, "a", "b")
    path = jsonl(bench / "fc" / "model_answer" / f"{drawn.replace('/', '_')}.jsonl", [old])
    ran = mt_bench(bench, *words, "--fastchat", bench / "fc", "--models-to-judge", drawn)
    assert (ran.code, "would be lost" in ran.error) == (2, True)
    assert read_lines(path) == [old]
    assert untouched(bench)


def test_pairs_against_a_baseline_export_two_games(bench: Path) -> None:
    judge = script(bench / "judge.jsonl", {"match": "", "reply": "The first. [[A]]"})
    words = ("--answers", bench / "answers", "--judge-prompts", prompts(bench), "-m", judge)
    words += ("--mode", "pairwise-baseline", "--baseline", "base", "--fastchat", bench / "fc")
    ran = mt_bench(bench, *words, "--models-to-judge", "good")
    assert ran.code == 0, ran.error
    (path,) = (bench / "fc" / "model_judgment").iterdir()
    row = read_lines(path)[0]
    assert (row["model_1"], row["model_2"]) == ("good", "base")
    assert (row["g1_winner"], row["g2_winner"]) == ("model_1", "model_2")
    assert row["g2_user_prompt"] == "Write a haiku.|base haiku|good haiku"
    back = list(mt_bench_pair.read(Source([path]), ImportOptions(), ImportReport()))
    judged = list(read_verdicts(bench / "run"))
    assert [v.preference for v in back] == [v.preference for v in judged]


def test_answers_are_drawn_in_two_turns_and_kept(bench: Path) -> None:
    drawn = script(
        bench / "model.jsonl",
        {"match": "And times 3?", "error": {"message": "overloaded"}},
        {"match": "Make it rhyme.", "reply": "a rhyme"},
        {"match": "", "reply": "a haiku"},
    )
    judge = script(bench / "judge.jsonl", {"match": "", "reply": "\n".join(["[[A]]"])})
    words = ("--models-to-judge", drawn, "--models-to-judge", "base", "--mode", "pairwise-all")
    words += ("--answers", bench / "answers", "-m", judge, "--max-failures", "0.5")
    ran = mt_bench(bench, *words, "--fastchat", bench / "fc", "--json")
    assert ran.code == 0, ran.error
    assert (ran.json["n"], ran.json["causes"]) == (4, {"provider_error": 2})
    assert "gave no answer to 1 questions" in ran.err
    name = f"{drawn.replace('/', '_')}.jsonl"
    for folder in (bench / "run", bench / "fc"):
        (row,) = read_lines(folder / "model_answer" / name)
        assert row["choices"] == [{"index": 0, "turns": ["a haiku", "a rhyme"]}]
        assert row["model_id"] == drawn


def test_a_dry_run_of_mt_bench_counts_the_answers_too(bench: Path) -> None:
    drawn = script(bench / "model.jsonl", {"match": "", "reply": "x"})
    judge = script(bench / "judge.jsonl", {"match": "", "reply": "[[3]]"})
    words = ("--models-to-judge", drawn, "-m", judge, "--dry-run", "--json")
    rows = {row["model"]: row for row in mt_bench(bench, *words).json["rows"]}
    assert (rows[drawn]["requests"], rows[judge]["requests"]) == (4, 4)
    assert untouched(bench)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to judge: give --answers"),
        (("--answers", "nowhere"), "nowhere: is not a folder"),
        (("--answers", "answers", "--models-to-judge", "best"), "names no provider"),
        (("--answers", "answers", "--mode", "pairwise-baseline"), "baseline 'gpt-3.5-turbo'"),
        (("--answers", "answers", "-m", "scripted/other"), "give one judge"),
        (
            ("--answers", "answers", "--models-to-judge", "base", "--models-to-judge", "base"),
            "twice",
        ),
        (("--answers", "answers", "--references", "nowhere.jsonl"), "no such file"),
    ],
)
def test_mt_bench_refuses_what_it_cannot_run(
    bench: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(bench)
    judge = script(bench / "judge.jsonl", {"match": "", "reply": "[[3]]"})
    ran = mt_bench(bench, "-m", judge, *words)
    assert ran.code == 2
    assert message in ran.error
    assert untouched(bench)


def test_mt_bench_names_the_line_of_bad_input_and_writes_nothing(bench: Path) -> None:
    judge = script(bench / "judge.jsonl", {"match": "", "reply": "[[3]]"})
    jsonl(bench / "answers" / "bad.jsonl", [answer(81, "a", "b"), answer(5, "a", "b")])
    ran = mt_bench(bench, "--answers", bench / "answers", "-m", judge)
    assert ran.code == 2
    assert "bad.jsonl:2: field 'question_id': there is no question '5'" in ran.error
    assert untouched(bench)


OUTPUTS = [
    {"instruction": "Say hi.", "output": "Hi!", "generator": "base"},
    {"instruction": "Count.", "output": "1 2 3", "generator": "base"},
]


def alpaca(folder: Path, *words: object) -> Ran:
    (folder / "base.json").write_text(json.dumps(OUTPUTS))
    texts = zip(OUTPUTS, "xy", strict=True)
    made = [row | {"output": text, "generator": "m1"} for row, text in texts]
    (folder / "m1.json").write_text(json.dumps(made))
    files = ("--outputs", folder / "m1.json", "--baseline", folder / "base.json")
    return run_eval("alpaca-eval", *files, "-o", folder / "run", *words)


def test_alpaca_eval_reads_probabilities_from_a_server(tmp_path: Path) -> None:
    top = (("A", -0.35), ("B", -1.2))
    with WireServer(lambda _: WireReply("A", "length"), alternatives=top) as server:
        words = ("-m", "server/judge", "--base-url", server.url, "--json")
        ran = alpaca(tmp_path, *words)
        assert ran.code == 0, ran.error
        assert server.calls == 4
        body = server.requests[0].body
        assert (body["logprobs"], body["top_logprobs"]) == (True, 5)
        assert alpaca(tmp_path, *words).json["calls_cached"] == 4
        assert server.calls == 4
    for verdict in read_verdicts(tmp_path / "run"):
        assert verdict.preference is not None
        assert verdict.preference.p_a == pytest.approx(0.5)
        assert 0.5 < verdict.preference.orders[0].p_a < 1


def test_alpaca_eval_takes_a_prompt_file_and_one_order(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{instruction} x={output_1} y={output_2}")
    judge = script(tmp_path / "judge.jsonl", {"match": "", "reply": "x"})
    words = ("-m", judge, "--judge-prompt", prompt, "--labels", "x,y", "--legacy-order")
    ran = alpaca(tmp_path, *words)
    assert ran.code == 0, ran.error
    assert "rlaif leaderboard" in ran.err
    verdicts = list(read_verdicts(tmp_path / "run"))
    assert [len(v.calls) for v in verdicts] == [1, 1]
    assert verdicts[0].judge.method == "alpaca-eval one order"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--labels", "m", "--judge-prompt", "prompt.txt"), "FIRST,SECOND"),
        (("--outputs", "m1.json"), "holds outputs of 'm1'"),
        (("--instructions", "other.json"), "m1.json:1: field 'instruction': there is no such"),
    ],
)
def test_alpaca_eval_refuses_what_it_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text(json.dumps([{"instruction": "Else."}]))
    Path("prompt.txt").write_text("x")
    judge = script(tmp_path / "judge.jsonl", {"match": "", "reply": "A"})
    ran = alpaca(tmp_path, "-m", judge, *words)
    assert (ran.code, untouched(tmp_path)) == (2, True)
    assert message in ran.error


ARENA = [
    {"uid": "q1", "category": "code", "prompt": "Sort."},
    {"uid": "q2", "category": "text", "prompt": "Write."},
]


def arena(folder: Path, *words: object) -> Ran:
    for name in ("mine", "o3", "gemini"):
        rows = [
            {"uid": q["uid"], "model": name, "messages": [{"role": "assistant", "content": name}]}
            for q in ARENA
        ]
        jsonl(folder / "answers" / f"{name}.jsonl", rows)
    questions = jsonl(folder / "question.jsonl", ARENA)
    fixed = ("--questions", questions, "--answers", folder / "answers", "-o", folder / "run")
    return run_eval("arena-hard", *fixed, *words)


def test_arena_hard_plays_two_games_against_each_category_s_baseline(tmp_path: Path) -> None:
    judge = script(tmp_path / "judge.jsonl", {"match": "", "reply": "Mine.\n[[B>>A]]"})
    words = ("--baseline", "code=o3", "--baseline", "text=gemini", "-m", judge)
    ran = arena(tmp_path, *words, "--json")
    assert ran.code == 0, ran.error
    assert ran.json["labels"] == {">>": 2, ">": 0, "=": 0, "<": 0, "<<": 2}
    verdicts = list(read_verdicts(tmp_path / "run"))
    assert [[c.model for c in v.candidates] for v in verdicts] == [
        ["mine", "o3"],
        ["mine", "gemini"],
    ]
    assert all(v.preference and v.preference.p_a == 0.5 for v in verdicts)
    table = arena(tmp_path, *words)
    assert "labels, for the model" in table.out
    plan = arena(tmp_path, *words, "--limit", 1, "--dry-run", "--json")
    assert (plan.json["rows"][0]["requests"], plan.json["rows"][0]["kept"]) == (2, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--baseline", "o3", "--models-to-judge", "best"), "no answers of 'best'"),
        (("--baseline", "o4"), "no answers of the baseline 'o4'"),
        (("--baseline", "math=o3", "--baseline", "o3"), "'math' holds no question"),
    ],
)
def test_arena_hard_refuses_what_it_cannot_run(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    judge = script(tmp_path / "judge.jsonl", {"match": "", "reply": "[[A=B]]"})
    ran = arena(tmp_path, "-m", judge, *words)
    assert (ran.code, untouched(tmp_path)) == (2, True)
    assert message in ran.error


def test_arena_hard_needs_something_beside_the_baselines(tmp_path: Path) -> None:
    judge = script(tmp_path / "judge.jsonl", {"match": "", "reply": "[[A=B]]"})
    questions = jsonl(tmp_path / "question.jsonl", ARENA)
    jsonl(tmp_path / "a" / "o3.jsonl", [])
    words = ("--questions", questions, "--answers", tmp_path / "a", "--baseline", "o3", "-m", judge)
    assert "only the baselines" in run_eval("arena-hard", *words).error


NO = {"match": "", "reply": "No"}
BAR = [
    {"input": f"Ask {n}", "output_1": "yes", "output_2": "no", "label": 1 + n % 2} for n in range(4)
]


def test_judge_bench_prints_the_accuracies(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "natural.jsonl", BAR)
    judge = script(
        tmp_path / "judge.jsonl",
        {"match": "Ask 3", "reply": "I cannot say"},
        {"match": "response_a>\nyes", "reply": "[[A]]"},
        {"match": "", "reply": "[[B]]"},
    )
    words = ("judge-bench", path, "--format", "llmbar", "-m", judge, "-o", tmp_path / "run")
    ran = run_eval(*words, "--json", "--max-failures", "0.3")
    assert ran.code == 0, ran.error
    row = ran.json["subsets"]["all"]
    assert (row["n"], row["coverage"], row["accuracy"]) == (4, 0.75, pytest.approx(2 / 3))
    assert row["causes"] == {"refused": 1}
    assert row["low"] < row["accuracy"] < row["high"]
    assert "natural" in ran.json["subsets"]
    assert json.loads((tmp_path / "run" / "left_out.json").read_text())["n"] == 0
    shown = run_eval(*words)
    assert shown.code == 1
    assert "0.667" in shown.out
    assert "natural" in shown.out
    assert "25.0% of the items have no verdict" in shown.err


def test_judge_bench_lists_what_it_leaves_out(tmp_path: Path) -> None:
    good = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    bad = good | {"rejected": "\n\nHuman: x\n\nAssistant: c"}
    path = jsonl(tmp_path / "test.jsonl", [good, bad])
    judge = script(tmp_path / "judge.jsonl", {"match": "", "reply": "[[A]]"})
    words = ("--format", "hh-rlhf", "-m", judge, "-o", tmp_path / "run")
    ran = run_eval("judge-bench", path, *words, "--json")
    assert ran.code == 0, ran.error
    assert "1 left out" in ran.err
    left = json.loads((tmp_path / "run" / "left_out.json").read_text())
    assert left["lines"] == {str(path): [2]}
    empty = run_eval("judge-bench", jsonl(tmp_path / "bad.jsonl", [bad]), *words)
    assert (empty.code, "every row is left out" in empty.error) == (2, True)


def test_judge_bench_takes_any_method_and_plans(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "natural.jsonl", BAR[:2])
    judge = script(tmp_path / "judge.jsonl", {"match": "", "reply": "[[A]]"})
    words = ("judge-bench", path, "-m", judge, "-o", tmp_path / "run", "--dry-run", "--json")
    plan = run_eval(*words, "--format", "llmbar", "--method", "likelihood")
    assert plan.json["rows"][0]["requests"] == 2 * 2 + 2  # "yes" and "no" alone are asked once
    asked = run_eval(*words, "--format", "llmbar", "-r", "instruction-following")
    assert asked.json["rows"][0]["requests"] == 4
    assert untouched(tmp_path)
    unknown = run_eval(*words, "--format", "rewardbench3")
    assert (unknown.code, "did you mean" in unknown.error) == (2, True)


def test_judge_bench_compares_by_scores(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "natural.jsonl", BAR)
    grade = {"match": "response>\nyes", "reply": "helpfulness: [[5]]"}
    judge = script(tmp_path / "judge.jsonl", grade, {"match": "", "reply": "helpfulness: [[2]]"})
    words = ("--format", "llmbar", "-m", judge, "-o", tmp_path / "run", "--json")
    ran = run_eval("judge-bench", path, *words, "--method", "score")
    assert ran.code == 0, ran.error
    assert ran.json["subsets"]["all"]["accuracy"] == 0.5
    methods = {verdict.judge.method for verdict in read_verdicts(tmp_path / "run")}
    assert methods == {"scores, verdict"}
    other = run_eval("judge-bench", path, *words, "--method", "verdict")
    assert (other.code, "holds another run" in other.error) == (2, True)


def test_judge_bench_takes_the_mass_that_must_lie_on_labels(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "natural.jsonl", BAR[:2])
    said = {"token": "I", "logprob": -0.1, "top": [["I", -0.1], ["A", -3.0]]}
    judge = script(tmp_path / "judge.jsonl", {"match": "", "reply": "I", "logprobs": [said]})
    words = ("--format", "llmbar", "-m", judge, "--json", "--method", "token", "--no-reask")
    words += ("--max-failures", "1")
    strict = run_eval("judge-bench", path, *words, "-o", tmp_path / "strict")
    assert strict.json["subsets"]["all"]["coverage"] == 0
    loose = run_eval("judge-bench", path, *words, "-o", tmp_path / "loose", "--least-mass", "0.01")
    assert loose.json["subsets"]["all"]["coverage"] == 1
    stray = run_eval("judge-bench", path, *words, "-o", tmp_path / "run", "--aggregate", "mode")
    assert (stray.code, "takes no --aggregate" in stray.error) == (2, True)


def test_judge_bench_keeps_runs_with_another_writer_apart(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "natural.jsonl", BAR[:2])
    judge = script(tmp_path / "judge.jsonl", {"match": "response>\nyes", "reply": "Yes"}, NO)
    words = ("--format", "llmbar", "-m", judge, "-o", tmp_path / "run", "--method", "checklist")
    asked = "QUESTION (1): Is it yes?\nQUESTION (1): Is it short?\nQUESTION (1): Is it {}?"
    one = script(tmp_path / "one.jsonl", {"match": "", "reply": asked.format("clear")})
    done = run_eval("judge-bench", path, *words, "--questions-by", one, "--json")
    assert done.code == 0, done.error
    assert done.json["subsets"]["all"]["accuracy"] == 0.5
    (tmp_path / "one.jsonl").write_text((tmp_path / "one.jsonl").read_text().replace("clear", "so"))
    other = run_eval("judge-bench", path, *words, "--questions-by", one)
    assert (other.code, "questions_by was" in other.error) == (2, True)
    plan = run_eval("judge-bench", path, *words, "--questions-by", one, "--dry-run", "--json")
    assert len(plan.json["rows"]) == 2


def test_another_judge_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "natural.jsonl", BAR)
    for name, code in (("one", 0), ("two", 2)):
        judge = script(tmp_path / f"{name}.jsonl", {"match": "", "reply": f"{name} [[A]]"})
        words = ("--format", "llmbar", "-m", judge, "-o", tmp_path / "run")
        assert run_eval("judge-bench", path, *words).code == code


@pytest.mark.parametrize("name", ["mt-bench", "alpaca-eval", "arena-hard", "judge-bench"])
def test_every_protocol_explains_itself(name: str) -> None:
    ran = run_eval(name, "--help")
    assert ran.code == 0
    for option in ("--model", "--output", "--limit", "--concurrency", "--dry-run", "--json"):
        assert option in ran.out
