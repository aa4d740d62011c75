"""MT-Bench: what is read, what is asked, and what comes of the replies."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from pathlib import Path

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError, ConfigError, SpecError
from rlaif.evals.mt_bench import (
    Answers,
    Failure,
    Match,
    References,
    answer_questions,
    check_complete,
    load_answers,
    load_questions,
    load_references,
    pair_matches,
    single_matches,
)
from rlaif.evals.mt_bench_judges import (
    PromptJudge,
    RubricJudge,
    check_reference_rule,
    load_prompt_set,
)
from rlaif.specs.rubric import load_rubric
from rlaif.types import Completion, Request, Sampling
from tests.builders import rubric
from tests.unit.evals.bench_files import QUESTIONS, answer, jsonl

NONE = References({})
SINGLE = {"type": "single", "system_prompt": "You are a helpful assistant."}
PAIR = {"type": "pairwise", "system_prompt": "Compare."}
TEMPLATES = {
    "single-v1": "{question}|{answer}",
    "single-math-v1": "{question}|{ref_answer_1}|{answer}",
    "single-v1-multi-turn": "{question_1}|{answer_1}|{question_2}|{answer_2}",
    "single-math-v1-multi-turn": (
        "{question_1}|{ref_answer_1}|{question_2}|{ref_answer_2}|{answer_1}|{answer_2}"
    ),
    "pair-v2": "{question}|{answer_a}|{answer_b}",
    "pair-math-v1": "{question}|{ref_answer_1}|{answer_a}|{answer_b}",
    "pair-v2-multi-turn": (
        "{question_1}|{question_2}|{answer_a_1}|{answer_a_2}|{answer_b_1}|{answer_b_2}"
    ),
    "pair-math-v1-multi-turn": (
        "{question_1}|{question_2}|{ref_answer_1}|{ref_answer_2}|{answer_a_1}|{answer_a_2}|"
        "{answer_b_1}|{answer_b_2}"
    ),
}


def prompts(folder: Path) -> Path:
    rows = [
        {"name": name, "prompt_template": text, **(SINGLE if name.startswith("single") else PAIR)}
        for name, text in TEMPLATES.items()
    ]
    return jsonl(folder / "judge_prompts.jsonl", rows)


def questions(folder: Path, rows: list[dict] | None = None):
    return load_questions(jsonl(folder / "question.jsonl", rows or QUESTIONS))


def model(name: str, **more: object) -> Answers:
    turns = {"81": (f"{name} haiku", f"{name} rhyme"), "111": (f"{name} 4", f"{name} 12")}
    return Answers(name, turns, **more)  # type: ignore[arg-type]


def asked(judge: PromptJudge | RubricJudge, match: Match) -> list[str]:
    return [request.messages[-1].content for request in judge.requests(match)]


def test_each_turn_is_asked_by_its_own_prompt_with_the_reference_where_it_belongs(
    tmp_path: Path,
) -> None:
    matches = list(single_matches(questions(tmp_path), [model("m")], NONE))
    chosen = load_prompt_set(prompts(tmp_path), "single", matches)
    judge = PromptJudge(ScriptedBackend([]), chosen, Sampling())
    assert [asked(judge, match) for match in matches] == [
        ["Write a haiku.|m haiku"],
        ["Write a haiku.|m haiku|Make it rhyme.|m rhyme"],
        ["What is 2+2?|4|m 4"],
        ["What is 2+2?|4|And times 3?|12|m 4|m 12"],
    ]
    assert [m.item.id for m in matches] == ["81:1", "81:2", "111:1", "111:2"]
    assert matches[3].item.meta == {
        "dataset": "mt-bench",
        "question_id": 111,
        "turn": 2,
        "category": "math",
    }
    assert [m.role for m in matches[3].candidates[0].response] == ["assistant", "user", "assistant"]


def test_pairs_are_asked_in_both_orders_and_the_model_is_a(tmp_path: Path) -> None:
    given = [model("base"), model("m")]
    matches = list(pair_matches(questions(tmp_path), given, NONE, baseline="base"))
    chosen = load_prompt_set(prompts(tmp_path), "pair", matches)
    judge = PromptJudge(ScriptedBackend(["[[A]]", "[[B]]"]), chosen, Sampling())
    assert asked(judge, matches[0]) == [
        "Write a haiku.|m haiku|base haiku",
        "Write a haiku.|base haiku|m haiku",
    ]
    assert asked(judge, matches[3])[1].endswith("|4|12|base 4|base 12|m 4|m 12")
    verdict = asyncio.run(judge.judge(matches[0]))
    assert verdict.preference is not None
    assert (verdict.preference.winner, verdict.preference.consistent) == ("A", True)
    assert [c.model for c in verdict.candidates] == ["m", "base"]
    assert verdict.item.meta["judge"] == ["scripted/inline", "pair-v2"]


def test_all_pairs_are_every_two_models_once(tmp_path: Path) -> None:
    given = [model("a"), model("b"), model("c")]
    matches = list(pair_matches(questions(tmp_path), given, NONE))
    pairs = {tuple(answers.model for answers in match.answers) for match in matches}
    assert pairs == {("a", "b"), ("a", "c"), ("b", "c")}
    assert len(matches) == 3 * 4


def test_claude_is_told_what_to_do_in_the_user_message(tmp_path: Path) -> None:
    matches = list(pair_matches(questions(tmp_path), [model("a"), model("b")], NONE))
    chosen = load_prompt_set(prompts(tmp_path), "pair", matches)
    backend = ScriptedBackend([], model="anthropic/claude-x")
    (message,) = PromptJudge(backend, chosen, Sampling()).requests(matches[0])[0].messages
    assert message.content.startswith("[Instruction]\nCompare.\n\nWrite a haiku.")


@pytest.mark.parametrize(
    ("reply", "score", "cause"),
    [
        ("Rating: [[7]]", 7.0, None),
        ("I would say [[3]] at first.\nRating: [[8.5]]", 8.5, None),
        ("Rating: [[11]]", None, "unreadable"),
        ("Rating: 7", None, "unreadable"),
        (Completion("Rating: [[7]]", finish_reason="length"), None, "truncated"),
        (Completion("", finish_reason="refusal"), None, "refused"),
        (BackendError("down"), None, "provider_error"),
    ],
)
def test_a_grade_is_the_last_mark_or_none(
    tmp_path: Path, reply: object, score: float | None, cause: str | None
) -> None:
    matches = list(single_matches(questions(tmp_path), [model("m")], NONE))
    chosen = load_prompt_set(prompts(tmp_path), "single", matches)
    judge = PromptJudge(ScriptedBackend([reply]), chosen, Sampling())  # type: ignore[list-item]
    verdict = asyncio.run(judge.judge(matches[0]))
    assert verdict.cause == cause
    assert (verdict.score.value if verdict.score else None) == score
    if verdict.score:
        assert (verdict.score.min, verdict.score.max) == (1, 10)


def test_a_question_that_was_not_answered_has_no_verdict_and_costs_nothing(tmp_path: Path) -> None:
    failed = Answers("m", {}, {"81": Failure("provider_error", "overloaded")})
    matches = [next(single_matches(questions(tmp_path), [failed], NONE))]
    pairs = [next(pair_matches(questions(tmp_path), [failed, model("b")], NONE))]
    backend = ScriptedBackend([])
    chosen = load_prompt_set(prompts(tmp_path), "single", matches)
    by_prompt = PromptJudge(backend, chosen, Sampling())
    by_rubric = RubricJudge(backend, rubric(), "pair", Sampling())
    for judge, match in ((by_prompt, matches[0]), (by_rubric, pairs[0])):
        assert judge.requests(match) == []
        verdict = asyncio.run(judge.judge(match))
        assert (verdict.status, verdict.cause) == ("no_verdict", "provider_error")
        assert verdict.rationale == "no answer by m: overloaded"
    assert backend.calls == 0


def test_a_rubric_grades_on_ten_and_shows_the_conversation_of_a_later_turn(tmp_path: Path) -> None:
    matches = list(single_matches(questions(tmp_path), [model("m")], NONE))
    backend = ScriptedBackend(lambda request: "[[5]]")
    judge = RubricJudge(backend, rubric(), "single", Sampling())
    verdict = asyncio.run(judge.judge(matches[1]))
    assert verdict.score is not None
    assert (verdict.score.value, verdict.score.min, verdict.score.max) == (10, 1, 10)
    assert verdict.score.criteria is not None
    assert verdict.score.criteria["quality"]["max"] == 5
    text = backend.requests[0].messages[-1].content
    places = [
        text.index(part) for part in ("Write a haiku.", "m haiku", "Make it rhyme", "m rhyme")
    ]
    assert places == sorted(places)
    assert "in the last turn" in text
    first = asyncio.run(judge.judge(matches[0]))
    assert first.judge == verdict.judge
    text = asked(judge, matches[3])[0]
    shown = re.search(r"reference>\n(.*?)\n</\w*:?reference>", text, re.DOTALL)
    assert shown
    assert shown[1] == "Turn 1:\n4\n\nTurn 2:\n12"


def test_a_rubric_compares_in_both_orders(tmp_path: Path) -> None:
    matches = list(pair_matches(questions(tmp_path), [model("a"), model("b")], NONE))
    backend = ScriptedBackend(lambda request: "[[A]]")
    judge = RubricJudge(backend, load_rubric("chat-quality"), "pair", Sampling())
    verdict = asyncio.run(judge.judge(matches[1]))
    assert verdict.preference is not None
    assert (verdict.preference.p_a, verdict.preference.consistent) == (0.5, False)
    assert backend.calls == 2
    assert "How conversation A went on" in backend.requests[0].messages[-1].content


def test_answers_are_drawn_turn_by_turn_at_the_category_s_temperature(tmp_path: Path) -> None:
    rows = [*QUESTIONS, {**QUESTIONS[0], "question_id": 5, "category": "odd"}]
    rows.append({**QUESTIONS[0], "question_id": 6, "required_temperature": 0.3})
    rows.append({**QUESTIONS[0], "question_id": 7, "category": "stem"})
    backend = ScriptedBackend(lambda request: f"reply {len(request.messages)}")
    given = questions(tmp_path, rows)
    drawn = asyncio.run(answer_questions(backend, given, Sampling(max_tokens=9), concurrency=1))
    assert drawn.turns["81"] == ("reply 1", "reply 3")
    second = backend.requests[1].messages
    assert [m.content for m in second] == ["Write a haiku.", "reply 1", "Make it rhyme."]
    temperatures = [request.sampling.temperature for request in backend.requests[::2]]
    assert temperatures == [0.7, 0.0, 0.7, 0.3, 0.1]
    assert {request.sampling.max_tokens for request in backend.requests} == {9}


def test_a_failed_answer_is_kept_and_a_cut_one_is_counted(tmp_path: Path) -> None:
    def reply(request: Request) -> object:
        if request.messages[-1].content == "And times 3?":
            return BackendError("overloaded")
        return Completion("long", finish_reason="length")

    backend = ScriptedBackend(reply)  # type: ignore[arg-type]
    given = questions(tmp_path)
    drawn = asyncio.run(answer_questions(backend, given, Sampling(), concurrency=2))
    assert list(drawn.turns) == ["81"]
    assert drawn.failures == {"111": Failure("provider_error", "overloaded")}
    assert drawn.cut == 3
    fatal = ScriptedBackend(lambda _: BackendError("bad key", fatal=True))
    with pytest.raises(BackendError, match="bad key"):
        asyncio.run(answer_questions(fatal, given, Sampling(), concurrency=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_id": 111}, ":2: field 'question_id': '111' is also in line 1"),
        ({"category": " "}, ":1: field 'category'"),
        ({"turns": []}, ":1: field 'turns': is an empty list"),
        ({"turns": ["a", " "]}, ":1: field 'turns.1': is empty"),
        ({"refernce": ["a"]}, ":1: field 'refernce'"),
        ({"reference": [1]}, ":1: field 'reference'"),
        ({"required_temperature": 3}, ":1: field 'required_temperature'"),
        ({"required_temperature": True}, ":1: field 'required_temperature'"),
    ],
)
def test_a_bad_question_is_refused_with_its_place(
    tmp_path: Path, change: dict, message: str
) -> None:
    with pytest.raises(SpecError) as error:
        questions(tmp_path, [QUESTIONS[0] | change, QUESTIONS[1]])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (answer(999, "a", "b"), ":1: field 'question_id': there is no question '999'"),
        (answer(81, "a"), ":1: field 'choices.0.turns': answers 1 of the 2 turns"),
        ({"question_id": 81, "choices": []}, ":1: field 'choices'"),
        ({"question_id": 81, "choices": [{"turns": "a"}]}, ":1: field 'choices.0.turns'"),
        ({"question_id": 81, "choces": []}, "field 'choces'"),
    ],
)
def test_a_bad_answer_is_refused_with_its_place(tmp_path: Path, row: dict, message: str) -> None:
    path = jsonl(tmp_path / "m.jsonl", [row])
    with pytest.raises(SpecError) as error:
        load_answers(path, questions(tmp_path))
    assert message in str(error.value)


def test_of_two_answers_the_last_counts_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    rows = [answer(81, "a", "b"), answer(81, "c", "d", model="other")]
    found = load_answers(jsonl(tmp_path / "v1.5.jsonl", rows), questions(tmp_path))
    assert (found.model, found.turns, found.repeated) == ("v1.5", {"81": ("c", "d")}, 1)
    assert found.ids == {"m", "other"}
    check_complete(found, questions(tmp_path)[:1])
    with pytest.raises(SpecError, match=r"v1.5.jsonl: .*holds no answer to question '111'"):
        check_complete(found, questions(tmp_path))


def test_references_come_from_a_file_a_folder_or_the_question(tmp_path: Path) -> None:
    given = questions(tmp_path)
    path = jsonl(tmp_path / "refs" / "gpt-4.jsonl", [answer(111, "four", "twelve")])
    for place in (path, path.parent):
        found = load_references(place, given, "openai/gpt-4")
        matches = list(single_matches(given, [model("m")], found))
        assert [m.references for m in matches] == [(), (), ("four",), ("four", "twelve")]
    jsonl(tmp_path / "refs" / "other.jsonl", [answer(111, "x", "y")])
    assert load_references(path.parent, given, "openai/gpt-4").turns["111"][0] == "four"
    with pytest.raises(SpecError, match="several judges, none of 'gpt-5'"):
        load_references(path.parent, given, "openai/gpt-5")
    off = list(single_matches(given, [model("m")], References({}, off=True)))
    assert all(not match.references for match in off)


def test_a_missing_reference_is_refused(tmp_path: Path) -> None:
    bare = [{k: v for k, v in row.items() if k != "reference"} for row in QUESTIONS]
    with pytest.raises(
        SpecError, match=r"question.jsonl:2: field 'reference': .*--references none"
    ):
        list(single_matches(questions(tmp_path, bare), [model("m")], NONE))
    short = [QUESTIONS[0], QUESTIONS[1] | {"reference": ["4"]}]
    with pytest.raises(SpecError, match="has 1 turns, not 2"):
        list(single_matches(questions(tmp_path, short), [model("m")], NONE))
    other = References({"1": ("a",)}, "refs.jsonl")
    with pytest.raises(SpecError, match=r"refs.jsonl: field 'question_id'"):
        list(single_matches(questions(tmp_path), [model("m")], other))


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    given = questions(tmp_path)
    with pytest.raises(ConfigError, match="two models or more"):
        list(pair_matches(given, [model("a")], NONE))
    with pytest.raises(ConfigError, match="no answers of the baseline 'gpt'"):
        list(pair_matches(given, [model("a")], NONE, baseline="gpt"))
    with pytest.raises(SpecError, match="needs a reference for every prompt"):
        check_reference_rule(rubric(reference="required"), off=True)
    assert check_reference_rule(rubric(reference="required"), off=False)
    three = [QUESTIONS[0] | {"turns": ["a", "b", "c"]}]
    long = Answers("m", {"81": ("a", "b", "c")})
    matches = single_matches(questions(tmp_path, three), [long], NONE)
    with pytest.raises(SpecError, match="more than the two turns"):
        load_prompt_set(prompts(tmp_path), "single", matches)


def test_the_prompts_are_the_published_ones_byte_for_byte(shared_data: Path) -> None:
    folder = shared_data / "mt_bench"
    given = load_questions(folder / "question.jsonl")
    references = load_references(folder / "reference_answer_gpt-4.jsonl", given, "gpt-4")
    every = folder / "judge_prompts.jsonl"
    found = load_answers(folder / "model_answer" / "llama2_7b.jsonl", given)
    matches = list(single_matches(given, [found], references))
    judge = PromptJudge(ScriptedBackend([]), load_prompt_set(every, "single", matches), Sampling())
    with gzip.open(folder / "model_judgment" / "gpt-4_single.llama2_7b.jsonl.gz", "rt") as file:
        rows = {(r["question_id"], r["turn"]): r for r in map(json.loads, file)}
    for match in matches:
        row = rows.pop((match.question.number, match.turn))
        assert asked(judge, match) == [row["user_prompt"]]
        assert judge.prompt_name(match) == row["judge"][1]
    assert not rows


def test_the_pair_prompts_are_the_published_ones_byte_for_byte(shared_data: Path) -> None:
    folder = shared_data / "mt_bench"
    given = load_questions(folder / "question.jsonl")
    references = load_references(folder / "reference_answer_gpt-4.jsonl", given, "gpt-4")
    files = [folder / "model_answer" / f"{name}.jsonl.gz" for name in ("phi-3", "phi-3-dpo")]
    matches = list(pair_matches(given, [load_answers(f, given) for f in files], references))
    chosen = load_prompt_set(folder / "judge_prompts.jsonl", "pair", matches)
    judge = PromptJudge(ScriptedBackend([]), chosen, Sampling())
    by_place = {(m.question.number, m.turn): m for m in matches}
    name = "gpt-4_pair.phi-3_vs_phi-3-dpo.jsonl.gz"
    with gzip.open(folder / "model_judgment" / name, "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 38
    for row in rows:
        match = by_place[row["question_id"], row["turn"]]
        assert asked(judge, match) == [row["g1_user_prompt"], row["g2_user_prompt"]]
