from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError, SpecError
from rlaif.evals.audit_checks import LEAKAGE, SPECS
from rlaif.evals.audit_texts import as_list, load_texts, padded, repetitive_list, sentences
from rlaif.evals.audit_thresholds import Bounds, load_thresholds
from rlaif.judge.rendering import defuse
from rlaif.report.audit_card import MEANINGS

TEXTS = load_texts()


@given(st.text(min_size=1))
def test_padding_keeps_the_response_whole_and_adds_words(text) -> None:
    made = padded(TEXTS, text)
    assert text in made
    assert len(made.split()) >= len(text.split()) + 25


def test_padding_about_doubles_a_response() -> None:
    text = "word " * 100
    assert 1.8 <= len(padded(TEXTS, text).split()) / 100 <= 2.3
    assert len(padded(TEXTS, "word " * 5000).split()) < 5300


def test_sentences_part_where_people_end_them() -> None:
    text = 'No. 3.5 is "enough." Then it ends! 終わり。はい。\nA line'
    assert sentences(text) == [
        "No.",
        '3.5 is "enough.',
        "Then it ends!",
        "終わり。",
        "はい。",
        "A line",
    ]


def test_a_list_holds_the_same_sentences() -> None:
    assert as_list("One. Two.", "In short") == "**In short**\n\n- One.\n- Two."


@pytest.mark.parametrize("text", ["- a\n- b", "1. a", "```\nx\n```", "# T\nx", "| a |", "", " \n"])
def test_what_has_a_structure_is_left_alone(text) -> None:
    assert as_list(text, "x") is None
    assert repetitive_list(TEXTS, text) is None


def test_the_repetitive_list_says_all_again() -> None:
    lines = repetitive_list(TEXTS, "One. Two. Three.").split("\n")
    assert len(lines) == 6
    assert [line.endswith("Two.") for line in lines].count(True) == 2
    assert len(repetitive_list(TEXTS, "One.").split("\n")) == 1 + len(TEXTS.restating)


def test_attacks_are_varied_and_defused_when_shown() -> None:
    assert len(TEXTS.null_model) == 3
    assert len(TEXTS.injection) == 4
    for text in [*TEXTS.null_model.values(), *TEXTS.injection.values()]:
        assert "{" not in text
        assert "[[A]]" not in defuse(text)
        assert "</response" not in defuse(text)


def test_every_check_has_bounds_and_a_meaning() -> None:
    names = {*SPECS, LEAKAGE}
    assert set(load_thresholds().bounds) == names == set(MEANINGS)


def load(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_thresholds(path)


def test_own_bounds_stand_over_the_shipped_ones(tmp_path) -> None:
    mine = load(
        tmp_path,
        "name: mine\nstrict: true\nskip: [accuracy]\nfamilies: {acme: [acme-]}\n"
        "checks:\n  position_first: {least: 0.45}\n",
    )
    assert mine.bounds["position_first"] == Bounds(least=0.45)
    assert mine.bounds["accuracy"] == Bounds(least=0.8)
    assert (mine.name, mine.strict, mine.skip) == ("mine", True, frozenset({"accuracy"}))
    assert mine.families == {"acme": ("acme-",)}


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("cheks: {}", 1, "did you mean 'checks'"),
        ("checks:\n  lenght_preference: {most: 1}", 2, "did you mean 'length_preference'"),
        ("checks: [accuracy]", 1, "should be a mapping"),
        ("name: x\nchecks:\n  accuracy: 0.8", 3, "should be {least, most}"),
        ("checks:\n  accuracy: {}", 2, "needs least, most or both"),
        ("checks:\n  accuracy:\n    leest: 0.5", 3, "did you mean 'least'"),
        ("checks:\n  accuracy:\n    least: high", 3, "number from -1 to 1"),
        ("checks:\n  accuracy:\n    least: true", 3, "number from -1 to 1"),
        ("checks:\n  accuracy:\n    least: 80", 3, "number from -1 to 1"),
        ("checks:\n  accuracy:\n    least: .nan", 3, "number from -1 to 1"),
        ("checks:\n  accuracy: {least: 0.5, most: 0.4}", 2, "should not be under least"),
        ("strict: maybe", 1, "true or false"),
        ("skip: accuracy", 1, "list of checks"),
        ("skip:\n  - accuracy\n  - akkuracy", 3, "did you mean 'accuracy'"),
        ("families: {acme: acme}", 1, "list of texts"),
        ("families:\n  acme: ['']", 2, "list of texts"),
    ],
)
def test_a_bad_thresholds_file_is_told_by_its_line(tmp_path, text, line, told) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    assert caught.value.line == line
    assert told in caught.value.message
    assert str(caught.value.path).endswith("mine.yaml")


@pytest.mark.parametrize(
    ("bounds", "effect", "nearest"),
    [
        (Bounds(most=0.2), 0.9, 0.2),
        (Bounds(least=0.8), None, 0.8),
        (Bounds(0.4, 0.6), 0.45, 0.4),
        (Bounds(0.4, 0.6), 0.55, 0.6),
        (Bounds(0.4, 0.6), 0.1, 0.4),
        (Bounds(0.4, 0.6), None, 0.6),
    ],
)
def test_the_nearer_bound_decides(bounds, effect, nearest) -> None:
    assert bounds.nearest(effect) == nearest


def test_bounds_need_an_end() -> None:
    with pytest.raises(DataError, match="least, most or both"):
        Bounds()


def test_bounds_hold_and_exclude() -> None:
    both = Bounds(0.4, 0.6)
    assert both.hold(0.4, 0.6)
    assert not both.hold(0.39, 0.5)
    assert both.exclude(0.61, 0.7)
    assert both.exclude(0.1, 0.3)
    assert not both.exclude(0.5, 0.7)
