from dataclasses import replace

import pytest

from rlaif.specs.constitution import Constitution, CritiqueExample, Principle
from rlaif.specs.lint import lint_constitution, lint_rubric
from rlaif.specs.rubric import Criterion, Rubric, Scale

STEPS = Scale(1, 5, {1: "One bare claim.", 3: "Reasons given once.", 5: "Reasons for the reasons."})
FORMS = Scale(1, 5, {1: "Slang throughout.", 3: "Formal with lapses.", 5: "Formal to the end."})
DEPTH = Criterion("depth", 0.5, "How deep does the argument go?", STEPS)
TONE = Criterion("tone", 0.5, "Does the wording suit a formal letter?", FORMS)
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
            changed(scale=Scale(1, 3, {1: "no"})),
            "criteria.0.scale.anchors",
            "end of the scale: 3",
        ),
        (
            changed(scale=Scale(1, 5, {1: "no", 5: "yes"})),
            "criteria.0.scale.anchors",
            "leave out levels 2 to 4",
        ),
        (
            changed(scale=Scale(0, 12, dict(enumerate("abcdefghijklm")))),
            "criteria.0.scale",
            "has 13 levels",
        ),
        (
            changed(
                scale=Scale(
                    1,
                    3,
                    {
                        1: "It names the two cities and the trains between them, not the fares.",
                        2: "It names the two cities and the trains between them and the fares.",
                        3: "Nobody could ask more.",
                    },
                )
            ),
            "criteria.0.scale.anchors.2",
            "says nearly the same as level 1",
        ),
        (
            changed(
                scale=Scale(
                    1,
                    4,
                    {
                        1: "No reasons.",
                        2: "It somewhat adapts its reasons.",
                        3: "It mostly adapts its reasons.",
                        4: "Reasons made for the reader.",
                    },
                )
            ),
            "criteria.0.scale.anchors.3",
            "differs only in words of degree from level 2",
        ),
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
        (changed(weight=0.9), "criteria.0.weight", "gives depth 90.0% of the score"),
        (
            changed(question="Would slang be out of place in this formal letter?", scale=FORMS),
            "criteria.1",
            "of its words with 'depth': one fault costs twice",
        ),
        (
            replace(changed(question="How deep is it beside the reference?"), reference="none"),
            "criteria.0",
            "speaks of a reference, which the rubric never shows",
        ),
        (replace(RUBRIC, reference="required"), "reference", "no criterion says what it is for"),
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
            replace(
                changed(question="How deep is it beside the reference?"),
                reference="required",
                prompts={"score": TEMPLATE},
            ),
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


def test_what_every_criterion_says_makes_no_two_alike():
    shared = "How far does the response meet this demand of the client: {}?"
    asked = [
        Criterion(name, 1 / 3, shared.format(what), FORMS)
        for name, what in (
            ("names", "every city has its name in full"),
            ("fares", "prices are given in euros throughout"),
            ("trains", "trains leave before noon each morning"),
        )
    ]
    assert lint_rubric(replace(RUBRIC, criteria=tuple(asked))) == []
    [warned, *_] = lint_rubric(replace(RUBRIC, criteria=tuple(asked[:2])))
    assert "of its words with 'names'" in warned.message


def test_many_criteria_may_each_have_a_small_share():
    names = [f"word{n}ish" for n in range(25)]
    many = tuple(Criterion(n, 1 / 25, f"How {n} is {n[::-1]}?", Scale(0, 1, {0: n, 1: n[::-1]}))
                 for n in names)  # fmt: skip
    assert lint_rubric(replace(RUBRIC, criteria=many)) == []


def test_degree_tells_few_levels_apart():
    partly = Scale(1, 3, {1: "It is not kept.", 2: "It is partly kept.", 3: "It is fully kept."})
    assert lint_rubric(changed(scale=partly)) == []


def test_constitutions():
    brevity = Principle("brevity", "What could go without loss?", "Cut it.", "Choose the shorter.")
    warmth = Principle("warmth", "Where does it sound cold?", "Warm it.", "Choose the kinder one.")
    shown = (CritiqueExample("Hi", "What?", "It is cold.", "Hello!"),)
    sound = Constitution("mine", "1", "", "our own", (brevity, warmth), shown)
    assert lint_constitution(sound) == []
    [source] = lint_constitution(replace(sound, source=""))
    assert source.field == ("source",)
    copied = replace(warmth, revision="Where does it sound cold?")
    [same] = lint_constitution(replace(sound, principles=(brevity, copied)))
    assert same.field == ("principles", 1, "revision")
    double = replace(warmth, critique="What could go without loss?")
    [near] = lint_constitution(replace(sound, principles=(brevity, double)))
    assert (near.field, "'brevity'" in near.message) == (("principles", 1, "critique"), True)
