from dataclasses import replace

import pytest

from rlaif.specs.constitution import Constitution, Principle
from rlaif.specs.lint import is_double_barrelled, lint_constitution, lint_rubric
from rlaif.specs.rubric import Criterion, Rubric, Scale

ENDS = Scale(1, 5, {1: "not at all", 5: "wholly"})
DEPTH = Criterion("depth", 0.5, "How deep does the argument go?", ENDS)
TONE = Criterion("tone", 0.5, "Does the wording suit a formal letter?", ENDS)
RUBRIC = Rubric("mine", "1", "", "our own", (DEPTH, TONE))
TEMPLATE = "{prompt} {response} {criteria} {verdict}"


def changed(**fields):
    return replace(RUBRIC, criteria=(replace(DEPTH, **fields), TONE))


def test_a_sound_rubric_has_no_warning():
    assert lint_rubric(RUBRIC) == []
    assert lint_rubric(replace(RUBRIC, prompts={"score": TEMPLATE})) == []


@pytest.mark.parametrize(
    ("rubric", "field", "message"),
    [
        (replace(RUBRIC, source=""), "source", "is missing"),
        (changed(question="Is it clear and right?"), "criteria.0.question", "two things at once"),
        (changed(scale=Scale(1, 5)), "criteria.0.scale.anchors", "are missing"),
        (
            changed(scale=Scale(1, 5, {1: "no"})),
            "criteria.0.scale.anchors",
            "end of the scale: 5",
        ),
        (changed(scale=Scale(0, 100, {0: "no", 100: "yes"})), "criteria.0.scale", "has 101 levels"),
        (
            changed(scale=Scale(1, 3, {1: "bad", 2: "fine", 3: "Fine."})),
            "criteria.0.scale.anchors.3",
            "says the same as level 2",
        ),
        (
            changed(question="Does the wording suit a formal letter well?"),
            "criteria.1.question",
            "nearly the same as 'depth'",
        ),
        (changed(weight=0.01), "criteria.0.weight", "leaves depth 1.0% of the score"),
        (
            replace(RUBRIC, prompts={"score": TEMPLATE.replace("{prompt}", "")}),
            "prompts.score",
            "has no {prompt}",
        ),
        (
            replace(RUBRIC, prompts={"score": TEMPLATE.replace("{verdict}", "")}),
            "prompts.score",
            "has no {verdict}",
        ),
        (
            replace(RUBRIC, prompts={"score": TEMPLATE.replace("{criteria}", "")}),
            "prompts.score",
            "has no {criteria}",
        ),
        (
            replace(RUBRIC, reference="required", prompts={"score": TEMPLATE}),
            "prompts.score",
            "has no {reference}",
        ),
        (
            replace(RUBRIC, reference="none", prompts={"score": TEMPLATE + "{reference}"}),
            "prompts.score",
            "never filled",
        ),
    ],
)
def test_one_flaw_gives_one_warning(rubric, field, message):
    [warned] = lint_rubric(rubric)
    assert ".".join(map(str, warned.field)) == field
    assert message in warned.message


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is it clear and right?", True),
        ("Is it clear, and does it help?", True),
        ("Are facts, figures and names right?", False),
        ("Is it right? Ignore tone and length.", False),
        ("How deep is it?", False),
    ],
)
def test_double_barrelled_questions(question, expected):
    assert is_double_barrelled(question) is expected


def test_constitutions():
    brevity = Principle("brevity", "What could go without loss?", "Cut it.", "Choose the shorter.")
    warmth = Principle("warmth", "Where does it sound cold?", "Warm it.", "Choose the kinder one.")
    sound = Constitution("mine", "1", "", "our own", (brevity, warmth))
    assert lint_constitution(sound) == []
    [source] = lint_constitution(replace(sound, source=""))
    assert source.field == ("source",)
    copied = replace(warmth, revision="Where does it sound cold?")
    [same] = lint_constitution(replace(sound, principles=(brevity, copied)))
    assert same.field == ("principles", 1, "revision")
    double = replace(warmth, critique="What could go without loss?")
    [near] = lint_constitution(replace(sound, principles=(brevity, double)))
    assert (near.field, "'brevity'" in near.message) == (("principles", 1, "critique"), True)
