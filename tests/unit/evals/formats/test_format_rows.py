"""What importers take, what they refuse and in which words, and what they fill in."""

import gzip
import json
import math
import tracemalloc

import pytest

from rlaif.canonical import json_line
from rlaif.errors import ConfigError, SpecError
from rlaif.evals.formats import FORMATS, ImportOptions, ImportReport, export_rows, import_verdicts
from rlaif.types import Message
from tests.unit.evals.formats import samples


@pytest.fixture
def write(tmp_path):
    def writer(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(map(json_line, rows)), encoding="utf-8")
        return path

    return writer


def read(name, *paths, **options):
    report = ImportReport()
    return list(import_verdicts(name, paths, ImportOptions(**options), report)), report


def fault(name, *paths, **options):
    with pytest.raises(SpecError) as caught:
        read(name, *paths, **options)
    error = caught.value
    where = (error.path or "").rpartition("/")[2]
    return f"{where}:{error.line}:{error.field}: {error.message}"


# The record


def test_a_game_is_told_in_terms_of_the_first_model(write):
    [verdict], _ = read("mt-bench-pair", write(samples.pair()))
    assert verdict.item.id == "81:1"
    assert [c.model for c in verdict.candidates] == ["m1", "m2"]
    assert [c.id for c in verdict.candidates] == ["m1", "m2"]
    assert (verdict.judge.model, verdict.judge.method) == ("gpt-4", "imported mt-bench-pair")
    preference = verdict.preference
    assert [(o.shown, o.winner, o.p_a) for o in preference.orders] == [
        ("AB", "A", 1.0),
        ("BA", "B", 0.0),
    ]
    assert (preference.winner, preference.p_a, preference.consistent) == ("tie", 0.5, False)
    assert [(c.shown, c.reply, c.cached) for c in verdict.calls] == [
        ("AB", "The first is better. [[A]]", True),
        ("BA", "The first is better. [[A]]", True),
    ]
    assert len({c.digest for c in verdict.calls}) == 2


def test_half_an_answer_is_no_verdict_and_is_kept(write):
    row = samples.pair(g1_winner="error", g1_judgment="I give up.")
    [verdict], _ = read("mt-bench-pair", write(row))
    assert (verdict.status, verdict.cause, verdict.preference) == ("no_verdict", "unreadable", None)
    assert verdict.item.meta["games"] == [
        {"shown": "AB", "winner": None},
        {"shown": "BA", "winner": "B"},
    ]


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        (samples.single(score=-1), "unreadable"),
        (samples.single(score=-1, judgment="$ERROR$"), "provider_error"),
        (samples.single(score=None), "unreadable"),
        (samples.single(score=0), "unreadable"),
        (samples.single(score=11), "unreadable"),
    ],
)
def test_a_failed_score_is_never_a_number(write, row, cause):
    [verdict], _ = read("mt-bench-single", write(row))
    assert (verdict.status, verdict.cause, verdict.score) == ("no_verdict", cause, None)


def test_the_old_reading_takes_any_number(write):
    row = samples.single(judgment="Rating: [[0]]", score=0)
    [verdict], report = read("mt-bench-single", write(row), legacy=True)
    assert (verdict.score.value, verdict.score.min, verdict.score.max) == (0, 0, 10)
    assert report.disagreements == 0  # it is what was recorded


def test_two_scores_within_a_tenth_are_a_tie(write):
    near = samples.pair_of_scores(
        g1_winner="tie", g2_winner="tie", g2_judgment="Rating: [[7.95]]", m2_score=7.95
    )
    path = write(samples.pair_of_scores(), near | {"question_id": 82})
    for options in ({}, {"reparse": True}, {"legacy": True}):
        (clear, tie), report = read("mt-bench-pair", path, **options)
        assert (clear.item.id, clear.preference.winner) == ("81", "A")
        assert len(clear.preference.orders) == 1
        assert tie.preference.winner == "tie"
        assert report.disagreements == 0


def test_a_lost_grading_leaves_two_scores_as_recorded(write):
    [verdict], report = read(
        "mt-bench-pair", write(samples.pair_of_scores(g1_judgment=None)), reparse=True
    )
    assert (verdict.preference.winner, verdict.calls, report.no_reply) == ("A", (), 1)


def test_very_old_rows_have_one_winner(write):
    row = samples.pair(winner="model_2")
    for name in ("g1_winner", "g2_winner", "g1_judgment", "g2_judgment"):
        del row[name]
    [verdict], _ = read("mt-bench-pair", write(row))
    assert [(o.shown, o.winner) for o in verdict.preference.orders] == [("AB", "B")]
    assert list(export_rows("mt-bench-pair", [verdict])) == [row]


def test_a_vote_keeps_only_the_turns_it_is_about(write):
    path = write(samples.vote_with_texts(), samples.vote_with_texts(turn=2))
    (first, second), _ = read("mt-bench-human", path)
    assert first.item.prompt == second.item.prompt == (Message("user", "q1"),)
    assert [m.content for m in first.candidates[0].response] == ["m1 a1"]
    assert [m.content for m in second.candidates[1].response] == ["m2 a1", "q2", "m2 a2"]


def test_an_alpaca_preference_is_the_chance_of_the_model(write):
    [verdict], _ = read("alpaca-eval", write(samples.annotation()))
    assert [c.model for c in verdict.candidates] == ["m1", "base"]
    assert (verdict.candidates[0].text, verdict.item.prompt[0].content) == (
        "The Rhine.",
        "Name a river.",
    )
    assert (verdict.preference.p_a, verdict.preference.winner) == (0.25, "B")
    assert (verdict.judge.model, verdict.item.meta["dataset"]) == ("weighted", "ours")
    assert verdict.calls[0].reply == "M"


def test_zero_was_a_tie_and_null_is_none(write):
    rows = [
        samples.compact_annotation(index=n, preference=p, top_logprobs=None)
        for n, p in enumerate([0, 1.5, None])
    ]
    verdicts, _ = read("alpaca-eval", write(*rows))
    assert [v.preference and (v.preference.winner, v.preference.p_a) for v in verdicts] == [
        ("tie", 0.5),
        ("tie", 0.5),
        None,
    ]
    assert verdicts[2].cause == "unreadable"


def test_nan_in_a_list_of_annotations_is_no_preference(tmp_path):
    path = tmp_path / "annotations.json"
    row = json.dumps(samples.annotation(preference=math.nan))
    path.write_text(f"[\n{row}]")
    [verdict], _ = read("alpaca-eval", path)
    assert verdict.cause == "unreadable"


def test_a_preference_that_its_log_probabilities_deny(write):
    # P(m) = 1/4: 1.25 or 1.75, not 1.6
    for row in (samples.annotation(preference=1.6), samples.compact_annotation(preference=1.6)):
        [verdict], report = read("alpaca-eval", write(row), reparse=True)
        assert (report.reread, report.disagreements) == (1, 1)
        assert verdict.preference.p_a == pytest.approx(0.75)
    lost = samples.compact_annotation(top_logprobs={"The": -0.1})
    [verdict], report = read("alpaca-eval", write(lost), reparse=True)
    assert (verdict.cause, report.disagreements) == ("unreadable", 1)


def test_arena_games_show_the_baseline_first(write):
    [verdict], _ = read("arena-hard", write(samples.arena()))
    assert [c.model for c in verdict.candidates] == ["m1", "base"]
    assert [(o.shown, o.winner) for o in verdict.preference.orders] == [("BA", "A"), ("AB", "A")]
    assert verdict.item.meta["labels"] == ["B>>A", "A>B"]
    assert [c.reply for c in verdict.calls] == ["So: [[B>>A]]", "So: [[A>B]]"]


def test_arena_games_that_failed(write):
    half = samples.arena(games=[samples.arena()["games"][0], None])
    mute = samples.arena(games=[{"score": None, "judgment": {"answer": "Hm."}}] * 2)
    lost, unread = (read("arena-hard", write(row))[0][0] for row in (half, mute))
    assert (lost.cause, unread.cause) == ("provider_error", "unreadable")
    assert lost.item.meta["games"][0] == {"shown": "BA", "winner": "A"}
    assert "labels" not in lost.item.meta


def test_old_arena_labels_must_all_be_the_same(write):
    texts = [
        {"judgment": "[[A>>B]], no:\n[[A>B]]", "score": None},
        {"judgment": "[[A=B]]", "score": "A=B"},
    ]
    path = write(samples.old_arena(games=texts))
    [legacy], report = read("arena-hard", path, baseline="base", legacy=True)
    assert (legacy.status, report.disagreements) == ("no_verdict", 0)
    [ours], report = read("arena-hard", path, baseline="base", reparse=True)
    assert (ours.item.meta["labels"], report.disagreements) == (["A>B", "A=B"], 1)


def test_judgebench_is_flipped_back(write):
    [verdict], _ = read("judgebench", write(samples.judgebench()))
    assert [(o.shown, o.winner) for o in verdict.preference.orders] == [("AB", "A"), ("BA", "A")]
    assert verdict.item.meta["label"] == "A"
    assert verdict.item.meta["subset"] == "knowledge"
    assert verdict.judge.model == "j"


def test_judgebench_judges_are_told_by_the_file_where_all_failed(write):
    row = samples.judgebench(judgments=[None, None])
    named = write(row, name="dataset=judgebench,judge_name=x,judge_model=gpt-4.jsonl")
    [verdict], _ = read("judgebench", named)
    assert (verdict.judge.model, verdict.cause) == ("gpt-4", "provider_error")
    plain = write(row)
    assert read("judgebench", plain)[0][0].judge.model == "arena_hard"
    assert read("judgebench", plain, judge="mine")[0][0].judge.model == "mine"


def test_llmbar_judges_and_sets_are_told_by_folders(write):
    path = write(
        samples.llmbar(), name="LLMBar/Adversarial/Neighbor/evaluators/GPT-4/CoT/result.jsonl"
    )
    [verdict], _ = read("llmbar", path)
    assert verdict.judge.model == "GPT-4/CoT"
    assert verdict.item.id == "adversarial_neighbor:0"
    assert verdict.item.meta["label"] == "A"
    assert [o.winner for o in verdict.preference.orders] == ["A", "A"]


def test_llmbar_decisions_are_a_verdict_an_item(write):
    (first, second), report = read("llmbar", write(samples.llmbar_decisions()))
    assert (first.preference.winner, second.cause, report.rows) == ("A", "unreadable", 2)
    assert first.judge.model == "E/S"


# Pairs


@pytest.mark.parametrize(
    ("spelled", "winner"),
    [
        ("A", "A"), ("b", "B"), ("model_b", "B"), ("m2", "B"), (" tie ", "tie"), ("Draw", "tie"),
        ("tie (bothbad)", "tie"), (1, "A"), (2.0, "B"), ("B>>A", "B"), ("[[A]]", "A"),
        ("", None), (None, None), ("error", None),
    ],
)  # fmt: skip
def test_winners_in_the_spellings_in_use(write, spelled, winner):
    [verdict], _ = read("pairs", write(samples.plain(winner=spelled)))
    assert (verdict.preference and verdict.preference.winner) == winner


def test_columns_by_other_names(write):
    row = {"q": "Why?", "x": "a", "y": "b", "better": "first", "who": "ann", "p": 0.9, "turn": 2}
    columns = {
        "prompt": "q",
        "response_a": "x",
        "response_b": "y",
        "winner": "better",
        "judge": "who",
        "p_a": "p",
    }
    [verdict], _ = read("pairs", write(row), columns=columns)
    assert verdict.item.prompt == (Message("user", "Why?"),)
    assert [(c.id, c.text, c.model) for c in verdict.candidates] == [
        ("A", "a", None),
        ("B", "b", None),
    ]
    assert (verdict.judge.model, verdict.preference.p_a) == ("ann", 0.9)


def test_a_label_beside_a_winner_is_the_gold_label(write):
    [verdict], _ = read("pairs", write(samples.plain(label="B")))
    assert (verdict.preference.winner, verdict.item.meta["label"]) == ("A", "B")
    alone = samples.plain(label="B")
    del alone["winner"]
    [verdict], _ = read("pairs", write(alone))
    assert (verdict.preference.winner, verdict.item.meta.get("label")) == ("B", None)


def test_replies_of_pairs_are_read_anew(write):
    row = samples.plain(reply="At first [[A]], but\n[[B]]", p_a=0.9)
    path = write(row)
    assert read("pairs", path)[0][0].preference.p_a == 0.9
    [ours], report = read("pairs", path, reparse=True)
    assert (ours.preference.winner, ours.preference.p_a, report.disagreements) == ("B", 0.0, 1)
    [old], report = read("pairs", path, legacy=True)
    assert (old.preference.winner, report.disagreements) == ("A", 0)


def test_pairs_without_ids_are_told_by_their_content(write):
    row = samples.plain()
    del row["id"]
    path = write(row, row | {"judge": "bob"}, row | {"prompt": "Another?"})
    verdicts, _ = read("pairs", path)
    ids = [v.item.id for v in verdicts]
    assert ids[0] == ids[1] != ids[2]
    bare = {"model_a": "m1", "model_b": "m2", "winner": "A"}
    assert [v.item.id for v in read("pairs", write(bare, bare))[0]] == ["1", "2"]


def test_the_inconsistent_stay_so(write):
    [verdict], _ = read("pairs", write(samples.plain(winner="tie", consistent="False")))
    assert verdict.preference.consistent is False


# Texts


def question(**more):
    return {"question_id": 81, "category": "writing", "turns": ["q1", "q2"]} | more


def answer(*turns, **more):
    return {
        "question_id": 81,
        "model_id": "m1",
        "choices": [{"index": 0, "turns": list(turns)}],
    } | more


def test_questions_answers_and_references_fill_the_texts(write):
    write(answer("m1 a1", "m1 a2"), name="answers/m1.jsonl")
    folder = write(answer("x.y a1", "x.y a2"), name="answers/x.y.jsonl").parent
    options = {
        "questions": (write(question(), name="question.jsonl"),),
        "answers": (folder,),
        "references": (write(answer("r1", "r2"), name="gpt-4.jsonl"),),
    }
    rows = [samples.pair(model_2="x.y"), samples.pair(model_2="x.y", turn=2)]
    (first, second), report = read("mt-bench-pair", write(*rows), **options)
    assert first.item.prompt == second.item.prompt == (Message("user", "q1"),)
    assert first.item.meta["category"] == "writing"
    assert (first.item.reference, second.item.reference) == ("r1", "r2")
    assert [m.content for m in first.candidates[1].response] == ["x.y a1"]
    assert [m.content for m in second.candidates[0].response] == ["m1 a1", "q2", "m1 a2"]
    # FastChat calls a model as its file is; the rows of x.y.jsonl say otherwise
    assert [note.rpartition("/")[2] for note in report.notes] == [
        "x.y.jsonl: its rows say m1, taken as 'x.y'"
    ]


def test_texts_that_are_not_at_hand_stay_empty(write):
    [verdict], _ = read("mt-bench-single", write(samples.single()))
    assert (verdict.item.prompt, verdict.candidates[0].response) == ((), ())
    answers = write(answer("a1"), name="m1.jsonl")
    [verdict], _ = read("mt-bench-single", write(samples.single(turn=2)), answers=(answers,))
    assert [m.content for m in verdict.candidates[0].response] == ["a1"]


def test_arena_texts_of_every_version(write):
    newer = {"uid": "u1", "category": "hard_prompt", "subcategory": "coding", "prompt": "Why?"}
    spoken = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": {"answer": "So."}},
    ]
    options = {
        "questions": (write(newer, name="q.jsonl"),),
        "answers": (write({"uid": "u1", "model": "m1", "messages": spoken}, name="m1.jsonl"),),
    }
    [verdict], _ = read("arena-hard", write(samples.arena()), **options)
    assert (verdict.item.prompt[0].content, verdict.candidates[0].text) == ("Why?", "So.")
    assert verdict.item.meta["subset"] == "coding"
    older = {"question_id": "q1", "turns": [{"content": "Why?"}]}
    options = {
        "questions": (write(older, name="q.jsonl"),),
        "answers": (
            write(
                {"question_id": "q1", "choices": [{"turns": [{"content": "So."}]}]}, name="m1.jsonl"
            ),
        ),
        "baseline": "base",
    }
    [verdict], _ = read("arena-hard", write(samples.old_arena()), **options)
    assert (verdict.item.prompt[0].content, verdict.candidates[0].text) == ("Why?", "So.")


def test_alpaca_instructions_give_the_index(write):
    instructions = write(
        {"instruction": "Name a lake."}, {"instruction": "Name a river."}, name="i.jsonl"
    )
    [verdict], _ = read("alpaca-eval", write(samples.annotation()), questions=(instructions,))
    assert (verdict.item.id, verdict.item.meta["index"]) == ("1", 1)
    [without], _ = read("alpaca-eval", write(samples.annotation()))
    assert len(without.item.id) == 16
    assert without.item.meta["position"] == 0
    outputs = write(
        {"instruction": "Name a lake.", "generator": "m1", "output": "Como."}, name="o.jsonl"
    )
    [compact], _ = read(
        "alpaca-eval",
        write(samples.compact_annotation()),
        questions=(instructions,),
        answers=(outputs,),
    )
    assert compact.item.prompt[0].content == "Name a lake."
    assert compact.candidates[0].text == "Como."
    assert compact.item.meta["lengths"] == {"m1": 10, "base": 9}


def test_judgebench_and_llmbar_texts(write):
    pairs = write(samples.judgebench(), name="data.jsonl")
    [verdict], _ = read("judgebench", write(samples.judgebench_compact()), questions=(pairs,))
    assert (verdict.item.prompt[0].content, verdict.item.meta["subset"]) == ("Which?", "knowledge")
    data = write(samples.llmbar(), samples.llmbar(label=2), name="data.jsonl")
    verdicts, _ = read("llmbar", write(samples.llmbar_decisions()), questions=(data,))
    assert [v.item.meta["label"] for v in verdicts] == ["A", "B"]
    assert verdicts[0].candidates[1].text == "Everest."


# Lines


def test_marks_crlf_blank_lines_gzip_and_odd_text(tmp_path):
    row = samples.vote(model_a="\ud800", model_b="a\x00b")
    text = b"\xef\xbb\xbf\r\n" + json_line(row).encode().replace(b"\n", b"\r\n") + b"\r\n \n"
    text += json_line(row | {"turn": 2}).encode().rstrip(b"\n")
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(text))
    verdicts, _ = read("mt-bench-human", path)
    assert [[c.model for c in v.candidates] for v in verdicts] == [["\ud800", "a\x00b"]] * 2
    assert [v.item.id for v in verdicts] == ["81:1", "81:2"]


def test_the_last_row_of_a_key_counts(write):
    one = write(samples.single(score=3), samples.single(turn=2), name="a.jsonl")
    two = write(samples.single(score=9, judgment="[[9]]"), name="b.jsonl")
    verdicts, report = read("mt-bench-single", one, two)
    assert [(v.item.id, v.score.value) for v in verdicts] == [("81:2", 8), ("81:1", 9)]
    assert (report.rows, report.superseded) == (2, 1)


def test_one_judge_can_be_chosen(write):
    path = write(samples.single(judge=["x", "p"]), samples.single(judge=["y", "p"], score=2))
    verdicts, report = read("mt-bench-single", path, judge="y")
    assert [v.score.value for v in verdicts] == [2]
    assert (report.rows, report.other_judges) == (1, 1)


def test_voters_may_differ(write):
    path = write(samples.vote(), samples.vote(judge="author_1"))
    assert [v.judge.model for v in read("mt-bench-human", path)[0]] == ["expert_1", "author_1"]


def test_rows_are_streamed(write):
    path = write(samples.llmbar())
    path.write_text(path.read_text() + "broken")
    found = import_verdicts("llmbar", [path])
    assert next(found).preference is not None
    with pytest.raises(SpecError, match="not JSON"):
        next(found)


def test_memory_stays_small(write):
    reply = "x" * 5000 + "[[8]]"
    path = write(*(samples.single(question_id=n, judgment=reply) for n in range(3000)))
    tracemalloc.start()
    count = sum(1 for _ in import_verdicts("mt-bench-single", [path]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3000
    assert peak < 3_000_000  # the file holds 15 million bytes


FAULTS = [
    (
        "mt-bench-single",
        samples.single(score="8"),
        "1:score: should be a number, found the text '8'",
    ),
    ("mt-bench-single", samples.single(score=True), "1:score: should be a number, found true"),
    ("mt-bench-single", samples.single(score=10**200), "1:score: is too large a number"),
    (
        "mt-bench-single",
        samples.single(turn="1"),
        "1:turn: should be a whole number from 1, found the text '1'",
    ),
    (
        "mt-bench-single",
        samples.single(question_id=1.5),
        "1:question_id: should be text or a whole number, found the number 1.5",
    ),
    ("mt-bench-single", samples.single(model=""), "1:model: should be text, found empty text"),
    (
        "mt-bench-single",
        samples.single(judge=[]),
        "1:judge: should be text, or a list of the model and the prompt's name",
    ),
    (
        "mt-bench-single",
        samples.single(judgment=7),
        "1:judgment: should be text, found the number 7",
    ),
    (
        "mt-bench-single",
        {"question_id": 1, "judge": "j"},
        "1:model: is missing; the row has 'question_id', 'judge'",
    ),
    ("mt-bench-single", samples.single(model=None), "1:model: is null"),
    (
        "mt-bench-single",
        samples.single(labels=1),
        "1:labels: is a name that verdicts use themselves; rename the column",
    ),
    ("mt-bench-single", [1], "1:None: a row should be a mapping, found a list"),
    (
        "mt-bench-pair",
        samples.pair(g1_winner="A"),
        "1:g1_winner: should be 'model_1' or 'model_2' or 'tie' or 'error', found the text 'A'",
    ),
    (
        "mt-bench-pair",
        samples.pair_of_scores(g2_winner="tie"),
        "1:g2_winner: differs from g1_winner, though two scores make one winner",
    ),
    (
        "mt-bench-human",
        samples.vote(winner="A"),
        "1:winner: should be 'model_a' or 'model_b' or 'tie' or 'tie (inconsistent)' or 'error', "
        "found the text 'A'",
    ),
    (
        "mt-bench-human",
        samples.vote_with_texts(conversation_a=[{"role": "assistant", "content": ""}]),
        "1:conversation_a: should begin with a user turn",
    ),
    (
        "mt-bench-human",
        samples.vote_with_texts(conversation_a=[{"role": "bot", "content": ""}]),
        "1:conversation_a.0.role: should be 'system' or 'user' or 'assistant', "
        "found the text 'bot'",
    ),
    (
        "mt-bench-human",
        samples.vote_with_texts(conversation_a=[{"role": "user", "content": 3}]),
        "1:conversation_a.0.content: should be text, found the number 3",
    ),
    (
        "mt-bench-human",
        samples.vote_with_texts(conversation_b=[{"role": "user", "content": "other"}]),
        "1:conversation_b: begins with another prompt than conversation_a",
    ),
    ("alpaca-eval", samples.annotation(preference=3), "1:preference: should lie in 1..2, found 3"),
    ("alpaca-eval", samples.annotation(instruction=None), "1:instruction: is null"),
    (
        "alpaca-eval",
        samples.compact_annotation(index=-1),
        "1:index: should be a whole number from 0, found the number -1",
    ),
    ("arena-hard", samples.arena(games={}), "1:games: should be a list, found a mapping"),
    ("arena-hard", samples.arena(games=[]), "1:games: should hold two games, found 0"),
    ("arena-hard", samples.arena(games=[3]), "1:games.0: should be a mapping, found the number 3"),
    ("arena-hard", samples.arena(games=[{"score": "A"}]), "1:games.0.score: should be 'A>>B' or"),
    (
        "arena-hard",
        samples.arena(games=[{"judgment": 3}]),
        "1:games.0.judgment: should be text, or a mapping with the answer",
    ),
    ("arena-hard", samples.old_arena(), "1:baseline: is missing; name it with --baseline"),
    ("llmbar", samples.llmbar(label=3), "1:label: should be 1 or 2"),
    ("llmbar", samples.llmbar(results=[]), "1:results: should hold one result, found 0"),
    ("llmbar", samples.llmbar_decisions(winners=[]), "1:winners: is empty"),
    (
        "llmbar",
        samples.llmbar_decisions(winners=[["1"]]),
        "1:winners.0: should be a list of the two winners",
    ),
    (
        "llmbar",
        samples.llmbar_decisions(winners=[["1", 2]]),
        "1:winners.0.1: should be '1', '2' or null",
    ),
    (
        "llmbar",
        samples.llmbar(results=[{"swap = False": {"completion": []}}]),
        "1:results.0.swap = False.completion: should be a list of the text and why it ended",
    ),
    (
        "judgebench",
        samples.judgebench(label="A=B"),
        "1:label: should be 'A>B' or 'B>A', found the text 'A=B'",
    ),
    (
        "judgebench",
        samples.judgebench_decisions(decisions=[]),
        "1:decisions: should hold one judgment or two, found 0",
    ),
    (
        "judgebench",
        samples.judgebench_decisions(decisions=["A"]),
        "1:decisions.0: should be A>B, B>A, A=B or null",
    ),
    (
        "pairs",
        samples.plain(winner=0),
        "1:winner: 0 is a tie in some files and the first response in others: use A, B, tie",
    ),
    (
        "pairs",
        samples.plain(winner="C"),
        "1:winner: should be A, B, tie or a model's name, found the text 'C'",
    ),
    ("pairs", samples.plain(winner=[]), "1:winner: should name the winner, found a list"),
    ("pairs", samples.plain(p_a=1.5), "1:p_a: should lie in 0..1, found the number 1.5"),
    ("pairs", samples.plain(p_a="x"), "1:p_a: should lie in 0..1, found the text 'x'"),
    ("pairs", samples.plain(p_a=0.2), "1:winner: says A, and p_a says B"),
    (
        "pairs",
        samples.plain(consistent="maybe"),
        "1:consistent: should be true or false, found the text 'maybe'",
    ),
    ("pairs", samples.plain(prompt=[]), "1:prompt: holds no messages"),
    ("pairs", {"id": 1, "prompt": "x"}, "1:winner: no column tells the winner"),
]


@pytest.mark.parametrize(("name", "row", "message"), FAULTS)
def test_faults_name_file_line_and_field(write, name, row, message):
    assert fault(name, write(row)).startswith(f"rows.jsonl:{message}")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("alpaca-eval", samples.annotation()),
        ("alpaca-eval", samples.compact_annotation()),
        ("arena-hard", samples.arena()),
        ("llmbar", samples.llmbar_decisions()),
        ("llmbar", samples.llmbar_scores()),
        ("judgebench", samples.judgebench()),
        ("pairs", samples.plain()),
    ],
)
def test_the_same_judgment_twice_names_both_lines(write, name, row):
    path = write(row, row)
    assert fault(name, path).endswith(f"the same judgment is at {path}:1")
    assert fault(name, path).startswith("rows.jsonl:2:")


def test_a_judgment_in_two_files_names_both(write):
    one, two = (write(samples.arena(), name=name) for name in ("a.jsonl", "b.jsonl"))
    assert fault("arena-hard", one, two) == f"b.jsonl:1:uid: the same judgment is at {one}:1"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("mt-bench-single", [samples.single(), samples.single(turn=2, judge="other")]),
        ("mt-bench-pair", [samples.pair(), samples.pair(turn=2, judge="other")]),
        (
            "alpaca-eval",
            [samples.annotation(), samples.annotation(instruction="x", annotator="other")],
        ),
        ("arena-hard", [samples.arena(), samples.arena(uid="u2", judge="other")]),
    ],
)
def test_a_mix_of_judges_is_refused(write, name, rows):
    path = write(*rows)
    message = fault(name, path)
    assert message.startswith("rows.jsonl:2:judge: 'other' judged here and ")
    assert f"at {path}:1: name the one to import with --judge" in message
    assert "nothing was judged by 'nobody'" in fault(name, path, judge="nobody")


@pytest.mark.parametrize("name", FORMATS)
def test_empty_files_are_refused(write, name):
    assert fault(name, write()) == "rows.jsonl:None:None: holds no rows"
    with pytest.raises(SpecError, match="give a file to import"):
        read(name)


def test_a_file_that_is_not_there(tmp_path):
    assert "there is no such file" in fault("pairs", tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("name", "row", "texts", "message"),
    [
        (
            "mt-bench-single",
            samples.single(question_id=90),
            question(),
            "question_id: there is no question 90 in",
        ),
        ("mt-bench-pair", samples.pair(turn=3), question(), "turn: question 81 has 2 turns"),
        ("arena-hard", samples.arena(), question(), "uid: there is no question u1 in"),
        (
            "alpaca-eval",
            samples.annotation(),
            {"instruction": "Name a lake."},
            "instruction: is not an instruction of",
        ),
        (
            "alpaca-eval",
            samples.compact_annotation(index=3),
            {"instruction": "Name a lake."},
            "index: there is no instruction 3 in",
        ),
        ("llmbar", samples.llmbar_decisions(), samples.llmbar(), "index: there is no item 1 in"),
        (
            "llmbar",
            samples.llmbar_scores(label=2),
            samples.llmbar(),
            "label: is not the label of item 0 in",
        ),
        (
            "judgebench",
            samples.judgebench_compact(pair_id="p9"),
            samples.judgebench(),
            "pair_id: there is no pair p9 in",
        ),
        (
            "judgebench",
            samples.judgebench_compact(label="B>A"),
            samples.judgebench(),
            "label: is not the label of pair p1 in",
        ),
    ],
)
def test_a_judgment_for_a_question_that_is_not_there(write, name, row, texts, message):
    given = write(texts, name="texts.jsonl")
    assert fault(name, write(row), questions=(given,)).startswith(f"rows.jsonl:1:{message}")


@pytest.mark.parametrize(
    ("name", "row", "rows", "message"),
    [
        (
            "mt-bench-single",
            samples.single(),
            [question(), question()],
            "texts.jsonl:2:question_id: question 81 is there twice",
        ),
        (
            "mt-bench-single",
            samples.single(),
            [question(turns=[])],
            "texts.jsonl:1:turns: is empty",
        ),
        (
            "mt-bench-single",
            samples.single(),
            [question(turns=[3])],
            "texts.jsonl:1:turns.0: should be text",
        ),
        (
            "alpaca-eval",
            samples.annotation(),
            [{"instruction": "a"}] * 2,
            "texts.jsonl:2:instruction: is there twice",
        ),
        (
            "judgebench",
            samples.judgebench(),
            [samples.judgebench()] * 2,
            "texts.jsonl:2:pair_id: is there twice",
        ),
    ],
)
def test_faults_of_the_texts(write, name, row, rows, message):
    given = write(*rows, name="texts.jsonl")
    assert fault(name, write(row), questions=(given,)) == message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([answer("a")] * 2, "m1.jsonl:2:question_id: question 81 is answered twice"),
        ([answer("a", choices=[])], "m1.jsonl:1:choices: is empty"),
        (
            [answer("a", choices=[3])],
            "m1.jsonl:1:choices.0: should be a mapping, found the number 3",
        ),
        ([answer(3)], "m1.jsonl:1:choices.0.turns.0: should be text"),
    ],
)
def test_faults_of_the_answers(write, rows, message):
    path = write(*rows, name="answers/m1.jsonl")
    judged = write(samples.single())
    assert fault("mt-bench-single", judged, answers=(path,)) == message
    assert fault("mt-bench-single", judged, answers=(path.parent,)) == message


def test_answer_folders_that_do_not_do(write, tmp_path):
    judged = write(samples.single())
    (tmp_path / "empty").mkdir()
    assert fault("mt-bench-single", judged, answers=(tmp_path / "empty",)).endswith(
        "holds no .jsonl file"
    )
    one, two = (write(answer("a"), name=f"{folder}/m1.jsonl") for folder in "xy")
    assert fault("mt-bench-single", judged, answers=(one, two)).endswith(
        f"answers of 'm1' are also in {one}"
    )
    outputs = write(*[{"instruction": "a", "generator": "m", "output": "b"}] * 2, name="o.jsonl")
    assert fault("alpaca-eval", write(samples.annotation()), answers=(outputs,)) == (
        "o.jsonl:2:instruction: is answered twice"
    )


def test_options_that_mean_nothing_are_refused(write):
    path = write(samples.plain())
    with pytest.raises(ConfigError, match="pairs has no use for questions"):
        read("pairs", path, questions=(path,))
    with pytest.raises(ConfigError, match="judgebench has no use for columns"):
        read("judgebench", path, columns={"winner": "w"})
    with pytest.raises(ConfigError, match="pairs have no 'wins': did you mean 'winner'"):
        read("pairs", path, columns={"wins": "w"})
    with pytest.raises(ConfigError, match="llmbar takes one file of pairs"):
        read("llmbar", path, questions=(path, path))
    assert "is not a column; did you mean 'winner'?" in fault(
        "pairs", path, columns={"winner": "winer"}
    )
