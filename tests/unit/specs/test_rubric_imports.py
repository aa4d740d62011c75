import json
from collections import Counter

import pytest

from rlaif.errors import SpecError
from rlaif.specs.rubric_imports import imported_rubrics, rubric_yaml

BASIC = "being friendly:\n  content: Be warm.\n  weight: 5\n  type: basic\n"
SPECIAL = """\
basic-bot:
  !include "./other_resources/scenario_criteria/basics/basic_bot.yaml"

extended:
  depth:
    content: Go deep, and !include examples.
    weight: 3
    type: content
  layout/form:
    content: Use   lists.
    type: format
"""
LEVELS = {"score1_description": "It mocks.", "score2_description": "It is civil."}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def loaded(form, source):
    return [rubric_yaml(plain)[1] for plain in imported_rubrics(form, source)]


@pytest.fixture
def scenarios(tmp_path):
    (tmp_path / "basics").mkdir()
    (tmp_path / "specials").mkdir()
    (tmp_path / "basics" / "basic_bot.yaml").write_text(BASIC)
    (tmp_path / "specials" / "chit_chat.yaml").write_text(SPECIAL)
    return tmp_path


@pytest.mark.parametrize("place", ["", "specials", "specials/chit_chat.yaml"])
def test_a_scenario_with_what_it_includes(scenarios, place):
    [rubric] = loaded("auto-j", scenarios / place)
    assert rubric.name == "chit_chat"
    assert rubric.description == "Criteria for the scenario chit chat."
    assert "Auto-J" in rubric.source
    assert [c.name for c in rubric.criteria] == ["being-friendly", "depth", "layout-form"]
    assert [c.weight for c in rubric.criteria] == pytest.approx([5 / 9, 3 / 9, 1 / 9])
    assert rubric.criteria[2].question == "How far does the response meet this: Use lists."
    assert "!include examples" in rubric.criteria[1].question
    assert list(rubric.criteria[0].scale.anchors) == [1, 3, 5]


def test_scenarios_in_rows(tmp_path):
    rows = [
        {"scenario": "chit_chat", "kind": "specials", "yaml": SPECIAL},
        {"scenario": "basic_bot", "kind": "basics", "yaml": BASIC},
    ]
    [rubric] = loaded("auto-j", write(tmp_path / "rows.jsonl", *rows))
    assert len(rubric.criteria) == 3


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("a: 3\n", 1, "a", "should be a mapping, found the number 3"),
        ("x:\n  content: 4\n", 2, "x.content", "should be text, found the number 4"),
        ("x: {}\n", None, None, "holds no criteria"),
        ("x:\n  !include basic_none.yaml\n", None, None, "includes 'basic_none', which is neither"),
        ("x:\n  !include ../../../etc/passwd\n", None, None, "includes 'passwd', which is neither"),
        ("x: !!python/object:os.system {}\n", 1, "x", "unsupported tag"),
    ],
)
def test_faults_of_a_scenario(scenarios, text, line, field, message):
    path = scenarios / "specials" / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        list(imported_rubrics("auto-j", path))
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), line, field)
    assert message in caught.value.message


def test_a_zero_weight_is_an_error_of_its_field(scenarios):
    (scenarios / "basics" / "basic_bot.yaml").write_text(BASIC.replace("5", "0"))
    with pytest.raises(SpecError, match=r"criteria\.0\.weight.*above 0"):
        loaded("auto-j", scenarios)


def test_scenarios_that_include_each_other_end(tmp_path):
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / f"{name}.yaml").write_text(f"x:\n  !include {other}.yaml\n")
    with pytest.raises(SpecError, match="deeper than any scenario"):
        list(imported_rubrics("auto-j", tmp_path / "one.yaml"))


def test_faults_of_files(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match="holds no YAML files"):
        list(imported_rubrics("auto-j", tmp_path / "empty"))
    with pytest.raises(SpecError, match="there is no such file"):
        list(imported_rubrics("auto-j", tmp_path / "none.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(SpecError, match="is not UTF-8"):
        list(imported_rubrics("auto-j", tmp_path / "latin.yaml"))
    rows = write(tmp_path / "rows.jsonl", {"scenario": "x", "yaml": 3})
    with pytest.raises(SpecError, match=r"rows\.jsonl:1: field 'yaml': should be text"):
        list(imported_rubrics("auto-j", rows))
    rows = write(tmp_path / "rows.jsonl", {"scenario": "x", "yaml": SPECIAL})
    with pytest.raises(SpecError, match="includes 'basic_bot', which no row holds"):
        list(imported_rubrics("auto-j", rows))


def test_rows_of_described_levels_each_once(tmp_path):
    rubric = {"criteria": "Is it kind?", **LEVELS}
    rows = [
        {"id": "first/1", "score_rubric": rubric},
        {"id": "second", "score_rubric": rubric},
        {"id": "first-1", "score_rubric": rubric | {"criteria": "Is it true?"}},
        {"rubric": "[Is it brief?]\nScore 1: no\nScore 2: yes"},
        {"orig_criteria": "Is it new?", **{f"orig_{k}": v for k, v in LEVELS.items()}},
    ]
    made = loaded("prometheus", write(tmp_path / "rows.jsonl", *rows))
    assert [r.criteria[0].question for r in made] == [
        "Is it kind?", "Is it true?", "Is it brief?", "Is it new?"
    ]  # fmt: skip
    assert [r.name for r in made[:2]] == ["first-1", "first-1-2"]
    assert all(r.name.startswith("rubric-") for r in made[2:])
    assert "Prometheus" in made[0].source


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        (3, None, "a row should be a mapping, found the number 3"),
        ({"text": "x"}, None, "has no rubric: none of score_rubric, rubric"),
        ({"score_rubric": {"criteria": "Is it?"}}, "score_rubric", "describes 0 levels"),
        ({"rubric": {"levels": 3}}, "rubric.criteria", "or a list of criteria"),
        ({"rubric": {"orig_criteria": ["x"]}}, "rubric.criteria", "or a list of criteria"),
        ({"orig_criteria": [], **LEVELS}, "criteria", "or a list of criteria"),
        ({"criteria": ["x"]}, "criteria.0", "should be a mapping"),
        ({"rubric": {"criteria": []}}, "rubric.criteria", "is empty"),
    ],
)
def test_faults_of_a_row_have_their_line(tmp_path, row, field, message):
    path = write(tmp_path / "rows.jsonl", {"rubric": {"criteria": "Is it?", **LEVELS}}, row)
    with pytest.raises(SpecError) as caught:
        list(imported_rubrics("biggen", path))
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 2, field)
    assert message in caught.value.message


def test_published_files_import_whole(shared_data):
    biggen = loaded("biggen", shared_data / "rubrics" / "biggen_rubrics.jsonl.gz")
    assert len(biggen) == 367  # of 368 rows, two are alike
    assert all(list(r.criteria[0].scale.anchors) == [1, 2, 3, 4, 5] for r in biggen)
    prometheus = loaded("prometheus", shared_data / "prometheus" / "mt_bench_eval.jsonl.gz")
    assert len(prometheus) == 71
    scenarios = loaded("auto-j", shared_data / "rubrics" / "auto_j_scenario_criteria.jsonl")
    assert len(scenarios) == 58
    assert Counter(len(r.criteria) >= 5 for r in scenarios) == {True: 58}
    assert len({r.name for r in (*biggen, *prometheus, *scenarios)}) == 367 + 71 + 58
