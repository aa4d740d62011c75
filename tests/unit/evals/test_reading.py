from __future__ import annotations

import json

import pytest

from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.evals.reading import (
    chosen_judges,
    column,
    numbered_verdicts,
    question_of,
    read_runs,
    shortened,
    stratum_of,
)
from rlaif.types import Item
from tests.unit.evals.records import grade, pair, write_run


def test_every_verdict_is_handed_over_with_the_first_place_of_each_judge(tmp_path) -> None:
    one = write_run(tmp_path / "one", [pair("1", "x", "y", "A"), pair("2", "x", "y", "B")])
    two = write_run(tmp_path / "two", [pair("3", "x", "y", "A", judge="other")])
    seen, told = [], []
    places = read_runs([one, two / "verdicts.jsonl"], seen.append, told=told.append)
    assert [verdict.item.id for verdict in seen] == ["1", "2", "3"]
    assert places == {
        "judge": (one / "verdicts.jsonl", 1),
        "other": (two / "verdicts.jsonl", 1),
    }
    assert told == []  # a thousand at a time


def test_a_bar_is_told_by_the_thousand(tmp_path) -> None:
    run = write_run(tmp_path / "run", [pair(str(n), "x", "y", "A") for n in range(2001)])
    told: list[int] = []
    read_runs([run], lambda verdict: None, told=told.append)
    assert told == [1000, 1000]


def test_a_verdict_that_is_there_twice_is_refused_by_both_places(tmp_path) -> None:
    one = write_run(tmp_path / "one", [pair("1", "x", "y", "A"), pair("2", "x", "y", "B")])
    two = write_run(tmp_path / "two", [pair("3", "x", "y", "A"), pair("2", "x", "y", "B")])
    with pytest.raises(SpecError, match=r"the same verdict is at .*one/verdicts.jsonl:2") as caught:
        read_runs([one, two], lambda verdict: None)
    error = caught.value
    assert (error.path, error.line, error.field) == (str(two / "verdicts.jsonl"), 2, "id")


def test_an_error_of_a_table_is_given_its_place(tmp_path) -> None:
    run = write_run(tmp_path / "run", [pair("1", "x", "y", "A")])

    def refuse(verdict: object) -> None:
        raise SpecError("not this one", field="kind")

    with pytest.raises(SpecError, match=r"verdicts.jsonl:1: field 'kind': not this one"):
        read_runs([run], refuse)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[1]\n", "not a JSON object"),
        (b"{\n", "not JSON"),
        (b"\xff\n", "not JSON"),
        (b'{"schema": 1}\n', "field 'id'"),
    ],
)
def test_a_line_that_is_no_verdict_names_itself(tmp_path, text, said) -> None:
    path = tmp_path / "verdicts.jsonl"
    line = json.dumps(pair("1", "x", "y", "A").as_dict()).encode()
    path.write_bytes(line + b"\n\n" + text)
    with pytest.raises(SpecError, match=said) as caught:
        list(numbered_verdicts(path))
    assert (caught.value.path, caught.value.line) == (str(path), 3)


def test_text_that_only_the_slow_reader_takes_is_read(tmp_path) -> None:
    verdict = pair("1", "x", "y", "A", texts=("a \ud800 b", "c"))
    path = tmp_path / "verdicts.jsonl"
    path.write_text(json.dumps(verdict.as_dict()) + "\n")
    assert [v for _, v in numbered_verdicts(path)] == [verdict]


def test_no_verdicts_at_all_are_an_error(tmp_path) -> None:
    (tmp_path / "verdicts.jsonl").touch()
    with pytest.raises(DataError, match="no verdicts in"):
        read_runs([tmp_path], lambda verdict: None)
    with pytest.raises(SpecError, match="No such file"):
        read_runs([tmp_path / "absent"], lambda verdict: None)


def test_judges_are_named_or_pooled(tmp_path) -> None:
    known = {"expert_1": (tmp_path, 1), "expert_2": (tmp_path, 7), "gpt-4": None}
    assert chosen_judges({"gpt-4": None}, None) == ["gpt-4"]
    assert chosen_judges(known, "gpt-4") == ["gpt-4"]
    assert chosen_judges(known, "expert*") == ["expert_1", "expert_2"]
    with pytest.raises(ConfigError, match=r"no judge is called 'gpt4': did you mean 'gpt-4'"):
        chosen_judges(known, "gpt4")
    with pytest.raises(SpecError, match="a mix of 3 judges, expert_1, expert_2, gpt-4") as caught:
        chosen_judges(known, None)
    assert (caught.value.line, caught.value.field) == (7, "judge.model")


def test_what_an_item_belongs_to() -> None:
    assert question_of(Item("81:2", (), meta={"question_id": 81, "turn": 2})) == "81"
    assert question_of(Item("7", ())) == "7"
    assert stratum_of(Item("1", (), meta={"turn": 2}), "turn") == "2"
    assert stratum_of(Item("1", ()), "turn") is None


@pytest.mark.parametrize("value", ["", "  ", ["math"], 1.5])
def test_an_empty_or_odd_stratum_is_refused(value) -> None:
    with pytest.raises(SpecError, match="names no category") as caught:
        stratum_of(Item("1", (), meta={"category": value}), "category")
    assert caught.value.field == "item.meta.category"


def test_small_helpers() -> None:
    from array import array

    assert column(array("i")).shape == (0,)
    assert shortened(map(str, range(10)), 2) == "0, 1 and 8 more"


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_score_that_is_no_number_is_refused_by_its_line(tmp_path, number) -> None:
    run = write_run(tmp_path / "run", [grade(str(n), "x", 7) for n in range(3)])
    path = run / "verdicts.jsonl"
    lines = path.read_text().splitlines()
    for value in ('"value":7', '"value":7.0', '"value": 7'):
        lines[1] = lines[1].replace(f"{value},", f'"value":{number},')
    assert number in lines[1]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SpecError, match="is not a finite number") as caught:
        read_runs([run], lambda verdict: None)
    assert caught.value.line == 2


def test_text_may_speak_of_nan(tmp_path) -> None:
    run = write_run(tmp_path / "run", [pair("1", "x", "y", "A", texts=("NaN", "Infinity"))])
    seen = []
    read_runs([run], seen.append)
    assert [candidate.text for candidate in seen[0].candidates] == ["NaN", "Infinity"]
