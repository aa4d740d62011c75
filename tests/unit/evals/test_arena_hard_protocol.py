"""Arena-Hard: two games, five labels, a baseline per category."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import ConfigError, SpecError
from rlaif.evals.arena_hard import (
    FiveLabelJudge,
    comparisons,
    label_counts,
    load_answers,
    load_questions,
    parse_baselines,
)
from rlaif.types import Completion
from tests.unit.evals.bench_files import jsonl

QUESTIONS = [
    {"uid": "q1", "category": "hard_prompt", "subcategory": "coding", "prompt": "Sort a list."},
    {"uid": "q2", "category": "creative_writing", "prompt": "Write a haiku."},
]


def answer(uid: str, text: str, model: str) -> dict:
    said = {"role": "assistant", "content": {"answer": text}}
    user = {"role": "user", "content": "?"}
    return {"uid": uid, "ans_id": "x", "model": model, "messages": [user, said], "metadata": {}}


def setting(folder: Path) -> tuple[list, dict]:
    questions = load_questions(jsonl(folder / "question.jsonl", QUESTIONS))
    models = {}
    for name in ("o3", "gemini", "mine"):
        rows = [answer(q["uid"], f"{name} {q['uid']}", name) for q in QUESTIONS]
        models[name] = load_answers(jsonl(folder / f"{name}.jsonl", rows), questions)
    return questions, models


def test_the_baseline_is_a_in_the_first_game_and_the_judge_answers_first(tmp_path: Path) -> None:
    questions, models = setting(tmp_path)
    pairs = list(comparisons(questions, models, parse_baselines(["o3"], questions)))
    mine = next(pair for pair in pairs if pair.a.model == "mine")
    backend = ScriptedBackend(["My answer…\n[[B>>A]]", "Mine first.\n[[A=B]]"])
    verdict = asyncio.run(FiveLabelJudge(backend).compare(mine))
    shown = [request.messages[1].content for request in backend.requests]
    assert shown[0].index("o3 q1") < shown[0].index("mine q1")
    assert shown[1].index("mine q1") < shown[1].index("o3 q1")
    assert "write your own response" in backend.requests[0].messages[0].content
    assert verdict.preference is not None
    assert [(o.shown, o.winner, o.p_a) for o in verdict.preference.orders] == [
        ("BA", "A", 1.0),
        ("AB", "tie", 0.5),
    ]
    assert verdict.item.meta["labels"] == ["B>>A", "A=B"]
    assert verdict.item.meta["baseline"] == "o3"
    assert label_counts([verdict]) == {">>": 1, ">": 0, "=": 1, "<": 0, "<<": 0}


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        ("no label", "unreadable"),
        (Completion("[[A>B]]", finish_reason="length"), "truncated"),
        ("[[A>B]] or [[B>A]]", "unreadable"),
    ],
)
def test_a_game_without_a_label_leaves_no_verdict(
    tmp_path: Path, reply: object, cause: str
) -> None:
    questions, models = setting(tmp_path)
    pair = next(iter(comparisons(questions, models, parse_baselines(["gemini"], questions))))
    backend = ScriptedBackend([reply, "[[A>>B]]"])  # type: ignore[list-item]
    verdict = asyncio.run(FiveLabelJudge(backend).compare(pair))
    assert (verdict.status, verdict.cause) == ("no_verdict", cause)
    assert label_counts([verdict]) == dict.fromkeys([">>", ">", "=", "<", "<<"], 0)


def test_each_category_has_its_baseline_which_is_judged_in_the_others(tmp_path: Path) -> None:
    questions, models = setting(tmp_path)
    words = ["hard_prompt=o3", "creative_writing=gemini"]
    pairs = list(comparisons(questions, models, parse_baselines(words, questions)))
    found = {(p.a.model, p.b.model, p.item.id) for p in pairs}
    assert found == {
        ("mine", "o3", "q1"),
        ("mine", "gemini", "q2"),
        ("gemini", "o3", "q1"),
        ("o3", "gemini", "q2"),
    }
    default = parse_baselines(["o3", "creative_writing=gemini"], questions)
    assert (default.of("hard_prompt"), default.of("creative_writing")) == ("o3", "gemini")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["o3", "gemini"], "two baselines for all categories"),
        (["hard_prompt=o3", "hard_prompt=o3"], "two baselines for the category"),
        (["o3", "math=gemini"], "'math' holds no question"),
        (["hard_prompt=o3"], "no baseline for 'creative_writing'"),
    ],
)
def test_baselines_that_do_not_fit_are_refused(
    tmp_path: Path, words: list[str], message: str
) -> None:
    questions, _ = setting(tmp_path)
    with pytest.raises(ConfigError, match=message):
        parse_baselines(words, questions)


def test_a_baseline_without_answers_is_refused(tmp_path: Path) -> None:
    questions, models = setting(tmp_path)
    with pytest.raises(ConfigError, match="no answers of the baseline 'gpt'"):
        list(comparisons(questions, models, parse_baselines(["gpt"], questions)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (QUESTIONS[0], ":2: field 'uid': 'q1' is also in line 1"),
        (QUESTIONS[1] | {"category": ""}, ":2: field 'category'"),
        ({"uid": "q2", "category": "x"}, ":2: field 'prompt': is missing"),
        ({"question_id": 2, "turns": []}, ":2: field 'turns': should hold one turn, found 0"),
        ({"question_id": 2, "turns": [{"content": 5}]}, ":2: field 'turns.0.content'"),
        ({"uid": "q2", "promt": "x"}, ":2: field 'promt'"),
    ],
)
def test_a_bad_question_is_refused_with_its_place(tmp_path: Path, row: dict, message: str) -> None:
    with pytest.raises(SpecError) as error:
        load_questions(jsonl(tmp_path / "question.jsonl", [QUESTIONS[0], row]))
    assert message in str(error.value)


def test_older_files_are_read_too(tmp_path: Path) -> None:
    rows = [{"question_id": "q1", "category": "x", "cluster": "c", "turns": [{"content": "Hi?"}]}]
    (question,) = load_questions(jsonl(tmp_path / "question.jsonl", rows))
    assert (question.prompt[0].content, question.meta) == ("Hi?", {"cluster": "c"})
    old = {"question_id": "q1", "choices": [{"turns": [{"content": "Hello.", "token_len": 2}]}]}
    found = load_answers(jsonl(tmp_path / "gpt-4-0314.jsonl", [old]), [question])
    assert found.model == "gpt-4-0314"
    assert found.by_question["q1"][0].content == "Hello."


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([answer("q3", "x", "m")], ":1: field 'uid': there is no question 'q3'"),
        ([answer("q1", "x", "m"), answer("q1", "y", "m")], ":2: field 'uid': 'q1' is also in"),
        ([answer("q1", "x", "m")], "field 'uid': holds no answer to question 'q2'"),
        ([{"uid": "q1", "messages": []}], ":1: field 'messages': is empty"),
        ([{"uid": "q1", "messages": [{"content": {"answer": 5}}]}], "field 'messages.0.content'"),
        ([{"uid": "q1"}], ":1: field 'choices': is missing"),
    ],
)
def test_a_bad_answer_is_refused_with_its_place(
    tmp_path: Path, rows: list[dict], message: str
) -> None:
    questions = load_questions(jsonl(tmp_path / "question.jsonl", QUESTIONS))
    with pytest.raises(SpecError) as error:
        load_answers(jsonl(tmp_path / "m.jsonl", rows), questions)
    assert message in str(error.value)


def test_only_the_questions_that_are_judged_need_answers(tmp_path: Path) -> None:
    questions = load_questions(jsonl(tmp_path / "question.jsonl", QUESTIONS))
    path = jsonl(tmp_path / "m.jsonl", [answer("q1", "x", "m")])
    assert list(load_answers(path, questions, needed=questions[:1]).by_question) == ["q1"]
