import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlaif.canonical import json_line
from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.evals.formats import (
    FORMATS,
    ExportReport,
    ImportOptions,
    export_rows,
    import_verdicts,
)
from rlaif.evals.formats.files import write_rows
from rlaif.types import (
    Candidate,
    JudgeRef,
    OrderVerdict,
    Preference,
    Sampling,
    Score,
    Verdict,
)
from tests import builders
from tests.unit.evals.formats import samples

OF_PEOPLE = {"labels", "argilla"}
"""Formats of both kinds of verdict, with tests of their own."""


def stored(verdict: Verdict) -> Verdict:
    """The verdict as it comes back from a run folder."""
    return Verdict.from_dict(json.loads(json_line(verdict.as_dict())))


def there_and_back(name, rows, folder, options=None):
    path = folder / "rows.jsonl"
    path.write_text("".join(map(json_line, rows)), encoding="utf-8")
    verdicts = [stored(verdict) for verdict in import_verdicts(name, [path], options)]
    return list(export_rows(name, verdicts))


@pytest.mark.parametrize(("name", "row"), samples.SHAPES)
def test_every_shape_comes_back_as_it_was(tmp_path, name, row):
    assert there_and_back(name, [row], tmp_path) == [row]


def test_old_arena_rows_come_back(tmp_path):
    row = samples.old_arena()
    options = ImportOptions(baseline="gpt-4-0314")
    assert there_and_back("arena-hard", [row], tmp_path, options) == [row]


def test_every_format_has_a_shape():
    assert {name for name, _ in samples.SHAPES} == set(FORMATS) - OF_PEOPLE


@pytest.mark.parametrize(("name", "row"), samples.SHAPES)
def test_unknown_columns_go_to_meta_and_come_back(tmp_path, name, row):
    row = row | {"difficulty": {"by": ["ann", None]}, "notes": "\x00 \ud800"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json_line(row), encoding="utf-8")
    verdict = next(iter(import_verdicts(name, [path])))
    assert verdict.item.meta["difficulty"] == {"by": ["ann", None]}
    assert there_and_back(name, [row], tmp_path) == [row]


def test_rows_keep_their_order(tmp_path):
    rows = [samples.vote(question_id=n, turn=t) for n in (90, 81, 85) for t in (2, 1)]
    assert there_and_back("mt-bench-human", rows, tmp_path) == rows


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value, path=()):
    """Every place inside a row."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict | list):
        for key, entry in inside:
            yield from (
                places(entry, (*path, key)) if isinstance(entry, dict | list) else [(*path, key)]
            )


def replaced(value, path, by):
    if not path:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], by)
    return copy


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_spoiled_row_makes_verdicts_or_a_spec_error(tmp_path_factory, data):
    name, row = data.draw(st.sampled_from(samples.SHAPES))
    spoiled = replaced(row, data.draw(st.sampled_from(list(places(row)))), data.draw(ANY))
    path = tmp_path_factory.getbasetemp() / "spoiled.jsonl"
    path.write_text(json_line(spoiled), encoding="utf-8")
    flags = data.draw(st.tuples(st.booleans(), st.booleans()))
    options = ImportOptions(reparse=flags[0], legacy=flags[1])
    try:
        verdicts = [stored(verdict) for verdict in import_verdicts(name, [path], options)]
    except SpecError as error:
        fault = error
    else:
        fault = None
    if fault is not None:
        assert fault.path == str(path)
        return
    for verdict in verdicts:
        verdict.check()
    assert len(list(export_rows(name, verdicts))) == 1


# Verdicts of our own


def judged(**more: object) -> Verdict:
    preference = Preference(
        "A", 0.8, (OrderVerdict("AB", "A", 0.9), OrderVerdict("BA", "A", 0.7)), True
    )
    return Verdict(
        "v",
        "comparison",
        builders.item("81", meta={"question_id": 81, "turn": 1, "label": "A"}),
        (builders.candidate("a", "Paris.", "m1"), builders.candidate("b", "Lyon.", "m2")),
        JudgeRef("openai/x", "verdict", Sampling(0.5)),
        "ok",
        preference=preference,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("name", "expected", "lost"),
    [
        (
            "mt-bench-pair",
            {
                "question_id": 81,
                "model_1": "m1",
                "model_2": "m2",
                "g1_winner": "model_1",
                "g2_winner": "model_1",
                "judge": "openai/x",
                "turn": 1,
            },
            {"item.prompt", "candidates.response", "judge.sampling", "preference.p_a"},
        ),
        (
            "mt-bench-human",
            {
                "question_id": 81,
                "model_a": "m1",
                "model_b": "m2",
                "winner": "model_a",
                "judge": "openai/x",
                "turn": 1,
            },
            {
                "item.prompt",
                "candidates.response",
                "judge.sampling",
                "preference.p_a",
                "preference.orders",
            },
        ),
        (
            "alpaca-eval",
            {
                "instruction": "What is the capital of France?",
                "output_1": "Lyon.",
                "generator_1": "m2",
                "output_2": "Paris.",
                "generator_2": "m1",
                "annotator": "openai/x",
                "preference": 1.8,
            },
            {"judge.sampling", "preference.orders"},
        ),
        (
            "arena-hard",
            {
                "uid": 81,
                "judge": "openai/x",
                "model": "m1",
                "baseline": "m2",
                "games": [
                    {"score": "B>A", "judgment": {"answer": None}},
                    {"score": "A>B", "judgment": {"answer": None}},
                ],
            },
            {"item.prompt", "candidates.response", "judge.sampling", "preference.p_a"},
        ),
        (
            "llmbar",
            {
                "input": "What is the capital of France?",
                "output_1": "Paris.",
                "output_2": "Lyon.",
                "label": 1,
                "results": [{"swap = False": {"winner": "1"}, "swap = True": {"winner": "1"}}],
            },
            {"judge.sampling", "preference.p_a"},
        ),
        (
            "judgebench",
            {
                "pair_id": "81",
                "question": "What is the capital of France?",
                "response_A": "Paris.",
                "response_B": "Lyon.",
                "label": "A>B",
                "judgments": [
                    {"judgment": {"judge_model": "openai/x", "response": ""}, "decision": "A>B"},
                    {"judgment": {"judge_model": "openai/x", "response": ""}, "decision": "B>A"},
                ],
            },
            {"judge.sampling", "preference.p_a"},
        ),
        (
            "pairs",
            {
                "id": "81",
                "prompt": "What is the capital of France?",
                "model_a": "m1",
                "model_b": "m2",
                "response_a": "Paris.",
                "response_b": "Lyon.",
                "judge": "openai/x",
                "winner": "A",
                "p_a": 0.8,
                "consistent": True,
                "label": "A",
            },
            {"judge.sampling", "preference.orders"},
        ),
    ],
)
def test_our_verdicts_are_exported_and_losses_named(tmp_path, name, expected, lost):
    report = ExportReport()
    assert list(export_rows(name, [judged()], report)) == [expected]
    assert set(report.lost) == lost
    [again] = there_and_back(name, [expected], tmp_path)
    assert again == expected


def test_our_scores_are_exported(tmp_path):
    judge = JudgeRef("openai/x", "verdict", Sampling())
    one = Candidate("a", (), "m1")
    score = Verdict("v", "score", builders.item("7"), (one,), judge, "ok", score=Score(4, 1, 5))
    failed = Verdict("w", "score", builders.item("8"), (one,), judge, "no_verdict", "truncated")
    report = ExportReport()
    rows = list(export_rows("mt-bench-single", [score, failed], report))
    assert [(row["question_id"], row["score"], row["turn"]) for row in rows] == [
        ("7", 4, 1),
        ("8", -1, 1),
    ]
    assert report.as_dict() == {
        "verdicts": 2,
        "lost": {"cause": 1, "item.prompt": 2, "score.min": 1},
    }


@pytest.mark.parametrize("name", sorted(set(FORMATS) - OF_PEOPLE))
def test_verdicts_of_another_kind_are_refused(name):
    other = builders.verdict()
    if name != "mt-bench-single":
        judge = JudgeRef("j", "verdict", Sampling())
        other = Verdict("v", "score", builders.item(), (), judge, "ok", score=Score(4, 1, 5))
    with pytest.raises(DataError, match=f"{name} holds a"):
        list(export_rows(name, [other]))


def test_a_single_game_is_exported_as_one_winner():
    one = Preference("B", 0.0, (OrderVerdict("AB", "B", 0.0),), True)
    judge = JudgeRef("j", "verdict", Sampling())
    sides = (Candidate("a", (), "m1"), Candidate("b", (), "m2"))
    verdict = Verdict("v", "comparison", builders.item(), sides, judge, "ok", preference=one)
    [row] = export_rows("mt-bench-pair", [verdict])
    assert row["winner"] == "model_2"
    assert "g1_winner" not in row


def test_unknown_formats_are_named():
    with pytest.raises(ConfigError, match="did you mean 'mt-bench-pair'"):
        import_verdicts("mt-bench-pairs", [])
    with pytest.raises(ConfigError, match="'nonsense' is not a format"):
        export_rows("nonsense", [])


# Files


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_rows_are_written_as_every_kind_of_file(tmp_path, ending, packed):
    rows = [
        samples.plain(prompt='a "b",\tc\nd'),
        samples.plain(id="2", winner="tie", judge=""),
    ]
    path = tmp_path / f"new/x{ending}{packed}"
    assert write_rows(path, lambda: rows) == 2
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    verdicts = list(import_verdicts("pairs", [path]))
    assert [v.item.prompt[0].content for v in verdicts] == ['a "b",\tc\nd', "Name a river."]
    assert [v.judge.model for v in verdicts] == ["ann", "x"]
    assert list(export_rows("pairs", map(stored, verdicts))) == rows


def test_equal_rows_give_equal_packed_files(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_rows(tmp_path / name, lambda: [{"a": 1}])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_an_empty_list_is_a_list(tmp_path):
    assert write_rows(tmp_path / "x.json", list) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == []


def test_cells_hold_what_is_not_text_as_json(tmp_path):
    write_rows(tmp_path / "x.csv", lambda: [{"a": True, "b": [1]}, {"c": None, "a": 0.5}])
    assert (tmp_path / "x.csv").read_text() == "a,b,c\ntrue,[1],\n0.5,,\n"


def test_what_a_file_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"should end in one of \.jsonl"):
        write_rows(Path(tmp_path / "x.txt"), list)
    with pytest.raises(DataError, match="row 2 holds half a surrogate pair"):
        write_rows(tmp_path / "x.csv", lambda: [{"a": "b"}, {"a": "\ud800"}])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    from rlaif.errors import StoreError

    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write"):
        write_rows(tmp_path / "file" / "x.jsonl", list)


def test_rows_go_through_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert write_rows(path, lambda: [{"a": 1}]) == 1
        assert os.read(reader, 100) == b'{"a":1}\n'
    finally:
        os.close(reader)
    assert list(tmp_path.iterdir()) == [path]
