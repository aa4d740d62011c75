"""What a constitution's lint says, by one flaw at a time."""

from dataclasses import replace

import pytest

from rlaif.specs.constitution import Constitution, CritiqueExample, Principle
from rlaif.specs.lint import lint_constitution

PLAIN = Principle("plain", "What is unclear?", "Say it plainly.", "Choose the clearer one.")
KIND = Principle("kind", "Where does it sound cold?", "Warm it.", "Choose the kinder one.")
SHOWN = (CritiqueExample("Hi", "What?", "It is cold.", "Hello!", "kind"),)
SOUND = Constitution("mine", "1", "", "our own", (PLAIN, KIND), SHOWN)


def warnings(second: Principle) -> list[tuple[str, str]]:
    found = lint_constitution(replace(SOUND, principles=(PLAIN, second)))
    return [(".".join(map(str, w.field)), w.message) for w in found]


def test_a_sound_one_is_free_of_warnings() -> None:
    assert lint_constitution(SOUND) == []


def test_missing_parts() -> None:
    [(field, message)] = warnings(replace(KIND, comparison=""))
    assert field == "principles.1.comparison"
    assert "criticize and revise by alone" in message
    [(field, message)] = warnings(replace(KIND, critique="", revision=""))
    assert field == "principles.1.critique"
    assert "compare by alone" in message
    [warned] = lint_constitution(replace(SOUND, critique_examples=()))
    assert warned.field == ("examples",)


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("Choose the longer one.", "Choose the one that is shorter.", "length"),
        ("Choose the one that refuses.", "Choose what is given and never refused.", "refusing"),
        ("Choose the more formal one.", "Choose the more casual one.", "formality"),
        ("Choose the one with more caveats.", "Choose the one without caveats.", "warnings"),
        ("Choose what is more poetic.", "Choose what is less poetic.", "more and less poetic"),
    ],
)
def test_contradictions_are_found_either_way(first: str, second: str, what: str) -> None:
    for one, other in ((first, second), (second, first)):
        made = replace(
            SOUND, principles=(replace(PLAIN, comparison=one), replace(KIND, comparison=other))
        )
        [warned] = lint_constitution(made)
        assert warned.field == ("principles", 1, "comparison")
        assert f"may contradict 'plain' ({what})" in warned.message


def test_a_principle_with_a_condition_contradicts_nothing() -> None:
    made = replace(
        SOUND,
        principles=(
            replace(PLAIN, comparison="Choose the shorter one."),
            replace(KIND, comparison="If both are right, choose the longer one."),
        ),
    )
    assert lint_constitution(made) == []


@pytest.mark.parametrize(
    ("comparison", "reason"),
    [
        ("Choose what is better for the person in the long run.", "later does not stand"),
        ("Choose the one that actually satisfied the user.", "how the person felt"),
        ("Choose the more sincere one.", "cannot be read from the text"),
        ("Choose the one with up-to-date prices.", "today's facts"),
        ("Choose what follows company policy.", "is not shown"),
        ("Choose what fits previous conversations.", "this conversation and no other"),
        ("Choose what is better than most assistants would say.", "does not see the others"),
        ("Choose the one that took less effort.", "came about"),
    ],
)
def test_what_cannot_be_decided_from_the_text(comparison: str, reason: str) -> None:
    [(field, message)] = warnings(replace(KIND, comparison=comparison))
    assert field == "principles.1.comparison"
    assert "may not be decidable" in message
    assert reason in message
