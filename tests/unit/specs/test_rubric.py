from dataclasses import replace
from math import isclose
from pathlib import Path

import pytest

from rlaif.errors import SpecError
from rlaif.specs.rubric import (
    Criterion,
    Rubric,
    Scale,
    load_rubric,
    parse_rubric,
    rubric_as_dict,
    shipped_rubrics,
)

TEXT = """\
name: mine
version: 1.0.0
criteria:
  - name: correctness
    weight: 2
    question: Is it right?
    scale: {min: 1, max: 5, anchors: {1: wrong, 5: right}}
  - name: tone
    question: Does it fit?
    scale: {min: 0, max: 1}
"""


def test_defaults_and_normalized_weights():
    rubric = parse_rubric(TEXT)
    assert rubric.name == "mine"
    assert (rubric.reference, rubric.reasoning, rubric.prompts) == ("optional", "before", {})
    assert [c.name for c in rubric.criteria] == ["correctness", "tone"]
    assert isclose(rubric.criteria[0].weight, 2 / 3)
    assert isclose(sum(c.weight for c in rubric.criteria), 1)
    assert rubric.criteria[0].scale == Scale(1, 5, {1: "wrong", 5: "right"})
    assert list(rubric.criteria[1].scale.levels) == [0, 1]
    assert rubric.path is None


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [
        ("weight: 2", "weigth: 2", 5, "criteria.0.weigth", "did you mean 'weight'?"),
        ("name: mine", "nam: mine", 1, "nam", "did you mean 'name'"),
        ("name: mine", "1: mine", 1, "1", "is not a known field; known: criteria, description"),
        ("name: mine", "", None, "name", "is missing"),
        ("    question: Is it right?\n", "", 4, "criteria.0.question", "is missing"),
        ("name: mine", "name: on", 1, "name", "should be text, found true; put it in quotes"),
        ("1.0.0", "1.0", 2, "version", "found the number 1.0; put it in quotes"),
        ("name: mine", "name: [x]", 1, "name", "should be text, found a list"),
        ("name: mine", "name: ''", 1, "name", "is empty"),
        ("name: mine", "name: a b", 1, "name", "should be a letter, then letters, digits"),
        ("name: mine", 'name: "\\uD800"', 1, "name", "text without half characters"),
        ("1.0.0", "'1 0'", 2, "version", "should have no spaces"),
        ("min: 1,", "min: 1.5,", 7, "criteria.0.scale.min", "should be a whole number, found"),
        ("min: 1,", "min: true,", 7, "criteria.0.scale.min", "a whole number, found true"),
        ("min: 1,", "min: 5,", 7, "criteria.0.scale.max", "should be above min, 5; found 5"),
        ("max: 5", "max: 105", 7, "criteria.0.scale", "has more than 101 levels"),
        ("5: right", "6: right", 7, "criteria.0.scale.anchors.6", "is outside the scale, 1 to 5"),
        ("5: right", "x: right", 7, "criteria.0.scale.anchors.x", "a key should be a whole number"),
        ("5: right", "5: ' '", 7, "criteria.0.scale.anchors.5", "is empty"),
        ("5: right", "5: 5", 7, "criteria.0.scale.anchors.5", "found the number 5; put it in"),
        ("weight: 2", "weight: 0", 5, "criteria.0.weight", "should be above 0, found the number 0"),
        ("weight: 2", "weight: -1", 5, "criteria.0.weight", "should be above 0"),
        ("weight: 2", "weight: .inf", 5, "criteria.0.weight", "should be a finite number"),
        ("weight: 2", "weight: .nan", 5, "criteria.0.weight", "should be a finite number"),
        ("weight: 2", "weight: 10000000", 5, "criteria.0.weight", "at most 1,000,000"),
        ("weight: 2", "weight: two", 5, "criteria.0.weight", "should be a number, found the text"),
        ("name: tone", "name: Correctness", 8, "criteria.1.name", "'Correctness' is given twice"),
        ("name: tone", "name: '[tone]'", 8, "criteria.1.name", "should be a letter"),
        ("name: tone", 'name: "to\\nne"', 8, "criteria.1.name", "should be a letter"),
        ("Does it fit?", "' '", 9, "criteria.1.question", "is empty"),
        ("scale: {min: 0, max: 1}", "scale: 5", 10, "criteria.1.scale", "should be a mapping"),
        ("criteria:", "reference: yess\ncriteria:", 3, "reference", "'none', 'optional' or 'req"),
        ("criteria:", "reasoning: no\ncriteria:", 3, "reasoning", "found false"),
        ("criteria:", "prompts: {scor: x}\ncriteria:", 3, "prompts.scor", "did you mean 'score'"),
        ("criteria:", "prompts: {score: 1}\ncriteria:", 3, "prompts.score", "should be text"),
    ],
)
def test_faults_are_named_with_their_line_and_field(old, new, line, field, message):
    with pytest.raises(SpecError) as error:
        parse_rubric(TEXT.replace(old, new, 1), path="mine.yaml")
    assert message in error.value.message
    assert (error.value.line, error.value.field) == (line, field)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nversion: '1'\ncriteria: []\n", "is empty"),
        ("name: x\nversion: '1'\ncriteria: {}\n", "should be a list, found a mapping"),
    ],
)
def test_criteria_are_needed(text, message):
    with pytest.raises(SpecError) as error:
        parse_rubric(text)
    assert (error.value.message, error.value.field, error.value.line) == (message, "criteria", 3)


def with_template(kind, template):
    return TEXT + f"prompts:\n  {kind}: |\n    {template}\n"


@pytest.mark.parametrize(
    ("kind", "template"),
    [
        ("score", "{prompt} {response} {reference} {criteria} {verdict}"),
        ("score", 'Answer as {"score": 3} or {{x1}}: {response}'),
        ("compare", "{prompt} {response_a} {response_b} {criteria} {verdict}"),
        ("rank", "{prompt} {response} {criteria} {verdict}"),
    ],
)
def test_templates_keep_known_placeholders_and_other_braces(kind, template):
    assert parse_rubric(with_template(kind, template)).prompts == {kind: template + "\n"}


@pytest.mark.parametrize(
    ("kind", "template", "message"),
    [
        ("score", "{respose} {response}", "unknown placeholder {respose}; did you mean 'response'"),
        ("score", "{response} {response_a}", "unknown placeholder {response_a}"),
        ("compare", "{response}", "unknown placeholder {response}; did you mean 'response_"),
        ("compare", "{prompt} {response_a}", "never shows {response_b}"),
        ("score", "{prompt}", "never shows {response}"),
    ],
)
def test_templates_with_faults(kind, template, message):
    with pytest.raises(SpecError) as error:
        parse_rubric(with_template(kind, template))
    assert message in error.value.message
    assert (error.value.line, error.value.field) == (12, f"prompts.{kind}")


def test_digest_covers_every_field_but_the_path(tmp_path):
    base = parse_rubric(TEXT)
    (tmp_path / "mine.yaml").write_text(TEXT)
    assert load_rubric(tmp_path / "mine.yaml").digest == base.digest
    changes = [
        replace(base, name="other"),
        replace(base, version="2"),
        replace(base, description="x"),
        replace(base, source="x"),
        replace(base, criteria=base.criteria[:1]),
        replace(base, criteria=(replace(base.criteria[0], question="?"), base.criteria[1])),
        replace(base, criteria=(replace(base.criteria[0], scale=Scale(1, 5)), base.criteria[1])),
        replace(base, reference="none"),
        replace(base, reasoning="none"),
        replace(base, prompts={"score": "{response}"}),
    ]
    digests = [rubric.digest for rubric in (base, *changes)]
    assert len(set(digests)) == len(digests)
    assert all(len(d) == 64 for d in digests)


def test_layout_does_not_change_the_digest():
    spaced = TEXT.replace("Is it right?", ">-\n      Is it\n      right?").replace("t: 2", "t: 2.0")
    doubled = TEXT.replace("t: 2", "t: 4").replace("name: tone", "name: tone\n    weight: 2")
    assert parse_rubric(spaced).digest == parse_rubric(doubled).digest == parse_rubric(TEXT).digest


def test_a_rubric_may_be_built_in_code():
    criterion = Criterion("depth", 1.0, "How deep is it?", Scale(1, 3))
    rubric = Rubric("deep", "1", "", "", (criterion,))
    assert rubric.digest == replace(rubric, path="elsewhere").digest
    assert rubric == replace(rubric, path="elsewhere")


def test_as_dict_round_trips_through_a_file():
    plain = rubric_as_dict(load_rubric("helpfulness"))
    assert "path" not in plain
    assert plain["digest"] == load_rubric("helpfulness").digest


def test_names_and_paths(tmp_path, monkeypatch):
    assert load_rubric("helpfulness").path == str(shipped_rubrics()["helpfulness"])
    (tmp_path / "helpfulness.yaml").write_text(TEXT)
    assert load_rubric("helpfulness", search=(tmp_path,)).name == "mine"
    assert load_rubric(str(tmp_path / "helpfulness.yaml")).name == "mine"
    monkeypatch.chdir(tmp_path)
    assert load_rubric("helpfulness.yaml").name == "mine"
    assert load_rubric("./helpfulness.yaml").name == "mine"
    assert load_rubric(Path("helpfulness.yaml")).name == "mine"
    assert load_rubric("helpfulness").name == "helpfulness"


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(SpecError, match="no rubric called 'helpfulnes'; did you mean 'helpf"):
        load_rubric("helpfulnes")
    with pytest.raises(SpecError, match="known: chat-quality, code"):
        load_rubric("zzz")
    with pytest.raises(SpecError, match="there is no such file"):
        load_rubric("./zzz.yaml")


def test_equal_rubrics_have_one_hash() -> None:
    one, other = load_rubric("helpfulness"), load_rubric("helpfulness")
    assert one is not other
    assert len({one, other}) == 1
    assert len({one, replace(one, version="9")}) == 2
