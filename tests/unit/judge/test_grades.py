from __future__ import annotations

import json

import pytest

from rlaif.errors import VerdictError
from rlaif.judge.grades import (
    has_probabilities,
    level_names,
    parse_grades,
    parse_level,
    parse_structured_grades,
)
from rlaif.types import Completion
from tests.builders import criterion
from tests.unit.judge.replies import spoken, spread, token

TWO = (criterion("clarity"), criterion("measured_tone"))


def _values(reply: str) -> dict[str, float]:
    return {name: grade.value for name, grade in parse_grades(Completion(reply), TWO).items()}


def test_the_value_is_the_mean_of_the_level_probabilities() -> None:
    top = {"4": 0.6, "5": 0.3, " 4": 0.1}
    reply = spoken(token("Good. [[", x=1.0), spread("4", top), token("]]", x=1.0))
    grade = parse_grades(reply, [criterion()])["quality"]
    assert grade.level == 4
    assert grade.value == pytest.approx(4.3)
    assert grade.distribution == pytest.approx({"4": 0.7, "5": 0.3})
    assert grade.missing_mass == pytest.approx(0.0)


def test_probability_that_lies_elsewhere_leaves_the_grade_given() -> None:
    reply = spoken(token("[[", x=1.0), spread("4", {"4": 0.3, "x": 0.7}), token("]]", x=1.0))
    grade = parse_grades(reply, [criterion()])["quality"]
    assert (grade.value, grade.distribution, grade.missing_mass) == (4.0, None, None)


@pytest.mark.parametrize(
    "reply",
    [
        "The tone is fine.\nclarity: [[2]]\n- **measured_tone**: [[5]]",
        "measured_tone: [[5]]\nclarity: [[2]]",
        "clarity: [[2]], measured_tone: [[5]]",
        "Clarity [[2]]\nMeasured tone: [[5]]",
        "| clarity | [[2]] |\n| measured-tone | [[5]] |",
        "clarity: [[1]]\nOn reflection:\nclarity: [[2]]\nmeasured_tone: [[5]]",
        "> clarity: [[1]]\nclarity: [[2]]\nmeasured_tone: [[5.0]]",
        "In clarity, less than in measured tone [[5]].\nclarity: [[2]]",
        "clarity: [[2]]\nmeasured_tone: [[5]] and once more [[5]]",
    ],
)
def test_grades_of_several_criteria_are_read_by_name(reply: str) -> None:
    assert _values(reply) == {"clarity": 2.0, "measured_tone": 5.0}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("clarity: [[2]]", "no verdict mark for 'measured_tone'"),
        ("[[2]] [[5]]", "no verdict mark for 'clarity'"),
        ("clarity: [[2]]\ntone: 5", "no verdict mark for 'measured_tone'"),
        ("clarity: [[2]]\nunmeasured_tone: [[5]]", "no verdict mark for 'measured_tone'"),
        ("clarity: [[2]]\nmeasured_tone:\n[[5]]", "no verdict mark for 'measured_tone'"),
        ("clarity: [[2]] or [[3]]\nmeasured_tone: [[5]]", "two different grades on one line"),
        ("clarity: [[2]]\nmeasured_tone: [[6]]", r"grade 6 is outside 1\.\.5"),
        ("clarity: [[2.5]]\nmeasured_tone: [[5]]", r"2\.5 of 'clarity' is no level of 1\.\.5"),
        ("", "the reply is empty"),
        ("```\nclarity: [[2]]\nmeasured_tone: [[5]]\n```", "nothing but quoted text"),
    ],
)
def test_a_grade_that_cannot_be_read_is_named(reply: str, message: str) -> None:
    with pytest.raises(VerdictError, match=message) as caught:
        parse_grades(Completion(reply), TWO)
    assert caught.value.cause == "unreadable"
    assert caught.value.reply == reply


@pytest.mark.parametrize("reply", ["[[6]]", "[[0]]", "[[-1]]", "[[10]]"])
def test_a_grade_outside_the_scale_is_unreadable(reply: str) -> None:
    with pytest.raises(VerdictError, match=r"outside 1\.\.5"):
        parse_grades(Completion(reply), [criterion()])


@pytest.mark.parametrize("reply", ["4", "[[4.5]]", "[[4/5]]", "four", "[[4]] or [[5]]"])
def test_no_grade_is_guessed(reply: str) -> None:
    with pytest.raises(VerdictError):
        parse_grades(Completion(reply), [criterion()])


def test_grades_are_read_from_a_json_object() -> None:
    text = json.dumps({"rationale": "clarity: [[1]]", "grades": {"clarity": 2, "measured_tone": 5}})
    found = parse_structured_grades(Completion(text), TWO)
    assert {name: grade.value for name, grade in found.items()} == {
        "clarity": 2.0,
        "measured_tone": 5.0,
    }


def test_a_json_grade_has_its_probabilities() -> None:
    pieces = [token('{"grades": {"clarity": ', x=1.0), spread("2", {"2": 0.5, "3": 0.5})]
    pieces += [token(', "measured_tone": ', x=1.0), spread("5", {"5": 1.0}), token("}}", x=1.0)]
    found = parse_structured_grades(spoken(*pieces), TWO)
    assert found["clarity"].value == pytest.approx(2.5)
    assert found["measured_tone"].distribution == {"5": 1.0}


def test_a_schema_that_was_ignored_leaves_the_marks() -> None:
    found = parse_structured_grades(Completion("clarity: [[2]]\nmeasured_tone: [[5]]"), TWO)
    assert found["clarity"].level == 2


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ({"clarity": 2}, "no whole number for 'measured_tone'"),
        ({"clarity": True, "measured_tone": 5}, "no whole number for 'clarity'"),
        ({"clarity": "2", "measured_tone": 5}, "no whole number for 'clarity'"),
        ({"clarity": 2.5, "measured_tone": 5}, "no whole number for 'clarity'"),
        ({"clarity": 2, "measured_tone": 50}, r"outside 1\.\.5"),
    ],
)
def test_a_json_grade_that_is_none_is_named(grades: object, message: str) -> None:
    with pytest.raises(VerdictError, match=message):
        parse_structured_grades(Completion(json.dumps({"grades": grades})), TWO)


def test_a_level_alone_is_the_mean_over_all_levels() -> None:
    ten = criterion("quality", 1, 10)
    reply = spoken(spread("8", {"8": 0.5, " 8": 0.1, "10": 0.2, "1": 0.1}), finish="length")
    grade = parse_level(reply, ten)
    assert grade.value == pytest.approx((0.6 * 8 + 0.2 * 10 + 0.1 * 1) / 0.9)
    assert grade.missing_mass == pytest.approx(0.1)
    assert grade.level == 8
    assert has_probabilities(reply)


def test_a_level_alone_of_two_tokens() -> None:
    reply = spoken(spread("1", {"1": 0.8, "9": 0.2}), spread("0", {"0": 1.0}), finish="length")
    assert parse_level(reply, criterion("quality", 1, 10)).value == pytest.approx(9.8)


@pytest.mark.parametrize("text", ["4", " 4\n", "**4**", "[[4]]", "4.", "4/5", "<think>5</think>4"])
def test_a_level_alone_without_probabilities_is_the_level_given(text: str) -> None:
    grade = parse_level(Completion(text), criterion())
    assert (grade.level, grade.value, grade.distribution) == (4, 4.0, None)
    assert not has_probabilities(Completion(text))


@pytest.mark.parametrize(
    ("reply", "cause", "message"),
    [
        (Completion("4/10"), "unreadable", "not a whole number"),
        (Completion("4 or 5"), "unreadable", "not a whole number"),
        (Completion("4.5"), "unreadable", "not a whole number"),
        (Completion("9" * 5000), "unreadable", "not a whole number"),
        (Completion("7"), "unreadable", r"outside 1\.\.5"),
        (Completion("It deserves", "length"), "truncated", "cut off"),
        (Completion("I cannot grade this."), "refused", "refused"),
        (Completion("4", "refusal"), "refused", "refused"),
        (spoken(token("The", The=0.9)), "unreadable", "only 0% of the probability"),
        (
            spoken(spread("1", {"1": 0.9, "2": 0.1}), finish="length"),
            "unreadable",
            "only 10% of the probability lies on levels that can be told apart",
        ),
    ],
)
def test_a_level_alone_that_is_none_is_named(reply: Completion, cause: str, message: str) -> None:
    scale = criterion("quality", 1, 10) if "told apart" in message else criterion()
    with pytest.raises(VerdictError, match=message) as caught:
        parse_level(reply, scale)
    assert caught.value.cause == cause


def test_levels_as_they_are_spelled() -> None:
    assert level_names(criterion("q", -1, 1).scale) == ("-1", "0", "1")
