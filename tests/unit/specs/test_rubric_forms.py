import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import SpecError
from rlaif.specs.rubric import load_rubric, rubric_as_dict, rubric_from_mapping
from rlaif.specs.rubric_forms import MAX_CHARS, plain_rubric, slug

LEVELS = {"score1_description": "It mocks.", "score2_description": "It is civil."}
BIGGEN = {"criteria": "Is it kind?", **LEVELS, "score3_description": "It comforts."}
TEXT = "[Is it kind?]\nScore 1: It mocks.\nScore 2: It is\n civil.\nScore 3: It comforts."
PROMPT = f"###Task Description:\nGrade it.\n\n###Score Rubrics:\n{TEXT}\n\n###Feedback: "


@pytest.mark.parametrize(
    "value",
    [
        BIGGEN,
        BIGGEN | {"extra": None},
        {f"orig_{key}": text for key, text in BIGGEN.items()},
        {"criteria": "Is it kind?", "score_1": "It mocks.", "score_2": "It is civil.", "score3":
         "It comforts."},
        TEXT,
        TEXT.replace("[", "").replace("]", ""),
        PROMPT,
        PROMPT.removesuffix("###Feedback: "),
    ],
)  # fmt: skip
def test_described_levels_in_every_shape_are_one_rubric(value):
    rubric = rubric_from_mapping(plain_rubric(value))
    [criterion] = rubric.criteria
    assert criterion.question == "Is it kind?"
    assert criterion.scale.anchors == {1: "It mocks.", 2: "It is civil.", 3: "It comforts."}
    assert rubric == rubric_from_mapping(plain_rubric(BIGGEN))
    assert rubric.name.startswith("rubric-")


def test_a_name_is_kept_and_made_fit():
    assert plain_rubric(BIGGEN | {"name": "kind words/1"})["name"] == "kind-words-1"
    other = plain_rubric(BIGGEN | {"score3_description": "It loves."})
    assert other["name"] != plain_rubric(BIGGEN)["name"]


def test_our_own_shape_survives_json_and_tables():
    plain = rubric_as_dict(load_rubric("helpfulness"))
    del plain["digest"]
    plain["description"] = None
    plain["criteria"][0]["scale"]["anchors"]["6"] = None
    read = rubric_from_mapping(plain_rubric(json.loads(json.dumps(plain))))
    assert read.criteria == load_rubric("helpfulness").criteria
    assert (read.name, read.description) == ("helpfulness", "")


def test_our_own_shape_needs_neither_name_nor_version():
    criterion = {"name": "kind", "question": "Is it?", "scale": {"min": 0, "max": 1}}
    first = rubric_from_mapping(plain_rubric({"criteria": [criterion]}))
    assert first.version == "1"
    assert first == rubric_from_mapping(plain_rubric({"criteria": [dict(criterion)]}))


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        (3, None, "should be a rubric: a mapping or text, found the number 3"),
        ([], None, "found a list"),
        ("Is it kind?", None, "lines such as 'Score 1: …'"),
        ("[Is it?]\nScore 1: no\nScore 1: yes", None, "describes score 1 twice"),
        ("[]\nScore 1: no\nScore 2: yes", "criteria", "is empty"),
        ("[Is it?]\nScore 1: no", None, "describes 1 levels; a scale has two or more"),
        ("[Is it?]\nScore 1: no\nScore 3: yes", "score2", "found missing"),
        ("[Is it?]\nScore 1: no\nScore 900: yes", "score2", "found missing"),
        ({"criteria": "Is it?"}, None, "describes 0 levels"),
        ({"criteria": "Is it?", **LEVELS, "score2_description": 4}, "score2", "the number 4"),
        ({"criteria": "Is it?", **LEVELS, "score2_description": " "}, "score2", "the text ' '"),
        ({"levels": 4}, "criteria", "or a list of criteria, found nothing"),
        ("x" * (MAX_CHARS + 1), None, "more than the 50,000 of a rubric"),
        ({"criteria": "x" * MAX_CHARS}, None, "more than the 50,000 of a rubric"),
    ],
)
def test_what_is_no_rubric(value, field, message):
    with pytest.raises(SpecError) as caught:
        plain_rubric(value)
    assert caught.value.field == field
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("criterion", "field", "message"),
    [
        ("kind", "criteria.0", "should be a mapping"),
        ({"name": "kind", "question": "Is it?", "scale": 4}, "criteria.0.scale", "a mapping"),
        (
            {"name": "kind", "question": "Is it?", "scale": {"min": 1, "max": 1}},
            "criteria.0.scale.max",
            "should be above min, 1; found 1",
        ),
        (
            {"name": "kind", "weight": 0, "question": "Is it?", "scale": {"min": 1, "max": 2}},
            "criteria.0.weight",
            "should be above 0, found the number 0",
        ),
        (
            {"name": "kind", "question": "Is it?",
             "scale": {"min": 1, "max": 2, "anchors": {"one": "no"}}},
            "criteria.0.scale.anchors.one",
            "a key should be a whole number",
        ),
    ],
)  # fmt: skip
def test_our_own_shape_is_checked_like_a_file(criterion, field, message):
    with pytest.raises(SpecError) as caught:
        rubric_from_mapping(plain_rubric({"criteria": [criterion]}), path="data.jsonl")
    assert (caught.value.field, caught.value.path) == (field, "data.jsonl")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("being friendly", "being-friendly"),
        ("topic/text", "topic-text"),
        ("../../etc/passwd", "etc-passwd"),
        ("3 steps", "rubric-3-steps"),
        ("…", "rubric"),
        ("a" * 99, "a" * 64),
        ("Größe", "Größe"),
    ],
)
def test_slugs(text, name):
    assert slug(text) == name


@given(st.text())
def test_a_slug_is_always_a_name(text):
    criterion = {"name": slug(text), "question": "Is it?", "scale": {"min": 0, "max": 1}}
    made = rubric_from_mapping({"name": slug(text), "version": "1", "criteria": [criterion]})
    assert made.criteria[0].name == made.name


@given(st.one_of(st.text(), st.dictionaries(st.text(), st.text()), st.lists(st.integers())))
def test_anything_is_a_rubric_or_a_spec_error(value):
    try:
        rubric_from_mapping(plain_rubric(value))
    except SpecError:
        return
    assert isinstance(value, str | dict)
