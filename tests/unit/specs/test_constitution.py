from dataclasses import replace

import pytest

from rlaif.errors import SpecError
from rlaif.specs.constitution import (
    ComparisonExample,
    CritiqueExample,
    Principle,
    constitution_as_dict,
    load_constitution,
    parse_constitution,
)

TEXT = """\
name: mine
version: 1.0.0
principles:
  - name: brevity
    critique: What could go?
    revision: Cut it.
    comparison: Choose the shorter one.
  - name: kindness
    critique: Where is it cold?
    revision: Warm it.
    comparison: Choose the kinder one.
examples:
  - prompt: Hi
    response: What?
    critique: It is cold.
    revision: Hello!
  - prompt: Hi
    response_a: Hello!
    response_b: What?
    principle: kindness
    winner: A
"""


def test_principles_and_examples():
    constitution = parse_constitution(TEXT)
    assert constitution.principles[0] == Principle(
        "brevity", "What could go?", "Cut it.", "Choose the shorter one."
    )
    assert constitution.critique_examples == (
        CritiqueExample("Hi", "What?", "It is cold.", "Hello!"),
    )
    assert constitution.comparison_examples == (
        ComparisonExample("Hi", "Hello!", "What?", "A", "kindness"),
    )
    assert constitution.principle("kindness").revision == "Warm it."


def test_an_unknown_principle_suggests_the_nearest():
    with pytest.raises(SpecError, match="no principle 'kindnes'; did you mean 'kindness'"):
        parse_constitution(TEXT).principle("kindnes")


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [
        ("revision: Cut it.", "", 4, "principles.0.revision", "is missing"),
        ("critique: What could go?", "", 4, "principles.0.critique", "is missing"),
        ("prompt: Hi", "prompt: 3", 13, "examples.0.prompt", "text or a list"),
        ("prompt: Hi", "prompt: [{role: assistant, content: Hi}]", 13, "examples.0.prompt", "user"),
        ("prompt: Hi", "prompt: []", 13, "examples.0.prompt", "holds no messages"),
        (
            "response: What?",
            "response: x\n    critique_request: Q",
            13,
            "examples.0.revision_request",
            "is missing",
        ),
        ("response: What?", "response: x\n    reasoning: Q", 13, "examples.0.response_a", ""),
        ("revision: Cut it.", "revision: ''", 6, "principles.0.revision", "is empty"),
        ("revision: Cut it.", "revision: ' '", 6, "principles.0.revision", "is empty"),
        ("revision: Cut it.", "revison: Cut it.", 6, "principles.0.revison", "is not a known"),
        ("name: kindness", "name: Brevity", 8, "principles.1.name", "'Brevity' is given twice"),
        ("name: kindness", 'name: "a\\nb"', 8, "principles.1.name", "should be one line"),
        ("name: mine", "name: 1a", 1, "name", "should be a letter"),
        ("    response: What?\n", "", 13, "examples.0.response", "is missing"),
        ("    winner: A\n", "", 17, "examples.1.winner", "is missing"),
        ("winner: A", "winner: C", 21, "examples.1.winner", "should be 'A' or 'B', found"),
        ("winner: A", "winner: A\n    critique: x", 22, "examples.1.critique", "has no place in a"),
        ("principle: kindness", "principle: kind", 20, "examples.1.principle", "did you mean"),
    ],
)
def test_faults_are_named_with_their_line_and_field(old, new, line, field, message):
    with pytest.raises(SpecError) as error:
        parse_constitution(TEXT.replace(old, new, 1), path="mine.yaml")
    assert message in error.value.message
    assert error.value.field == field
    assert error.value.line == line


def test_a_principle_may_serve_one_purpose_alone():
    only = TEXT.replace("    comparison: Choose the shorter one.\n", "")
    constitution = parse_constitution(only)
    assert [p.name for p in constitution.critiques] == ["brevity", "kindness"]
    assert [p.name for p in constitution.comparisons] == ["kindness"]
    bare = only.replace("    critique: What could go?\n    revision: Cut it.\n", "")
    with pytest.raises(SpecError, match="asks nothing"):
        parse_constitution(bare)
    compare = "name: m\nversion: '1'\nprinciples: [{name: p, comparison: Best}]\n"
    with pytest.raises(SpecError, match="no principle has a critique"):
        _ = parse_constitution(compare).critiques
    revise = "name: m\nversion: '1'\nprinciples: [{name: p, critique: Q, revision: R}]\n"
    with pytest.raises(SpecError, match="no principle has a comparison"):
        _ = parse_constitution(revise).comparisons


def test_an_example_may_be_a_conversation():
    turns = "[{role: user, content: Hi}, {role: assistant, content: Oh}, {role: user, content: Go}]"
    constitution = parse_constitution(TEXT.replace("prompt: Hi", f"prompt: {turns}", 1))
    assert [m.content for m in constitution.critique_examples[0].prompt] == ["Hi", "Oh", "Go"]


def test_a_principle_is_needed():
    with pytest.raises(SpecError, match="field 'principles': is empty"):
        parse_constitution("name: x\nversion: '1'\nprinciples: []\n")


def test_digest_covers_every_field_but_the_path():
    base = parse_constitution(TEXT)
    changes = [
        replace(base, name="x"),
        replace(base, version="x"),
        replace(base, description="x"),
        replace(base, source="x"),
        replace(base, principles=base.principles[:1]),
        replace(base, critique_examples=()),
        replace(base, comparison_examples=()),
    ]
    digests = [c.digest for c in (base, *changes)]
    assert len(set(digests)) == len(digests)
    assert replace(base, path="x").digest == base.digest


def test_shipped_by_name_and_unknown_name():
    assert constitution_as_dict(load_constitution("harmlessness"))["name"] == "harmlessness"
    with pytest.raises(SpecError, match="no constitution called 'harmles'; did you mean"):
        load_constitution("harmles")
