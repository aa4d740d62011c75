"""Replies that judges really give, as they give them, and what is read in each.

The shapes are those met in published runs and in complaints about judge tools: in bold, in LaTeX,
in a table, before the reasons, twice, for both, in words; thinking left open; a refusal; a reply
that stops in the middle; a quotation of the candidate; a schema that was ignored.
"""

from __future__ import annotations

import pytest

from rlaif.errors import VerdictError
from rlaif.judge.grades import parse_grades, parse_level, parse_structured_grades
from rlaif.judge.pairs import PairReader
from rlaif.types import Completion, FinishReason
from tests.builders import criterion

TWO = (criterion("clarity"), criterion("accuracy", 1, 10))

PAIRS: list[tuple[str, str, str]] = [
    # the mark in all its dress
    ("plain", "Response A is more accurate.\n\n[[A]]", "A"),
    ("bold", "My final verdict is: **[[B]]**", "B"),
    ("heading", "## Verdict\n### [[A]]\n", "A"),
    ("quotes", 'Final verdict: "[[B]]".', "B"),
    ("backticks", "Final verdict: `[[B]]`", "B"),
    ("latex", r"$\boxed{[[A]]}$", "A"),
    ("fence around the mark", "Verdict:\n```text\n[[B]]\n```", "B"),
    ("spaces and case", "[[ TIE ]]", "tie"),
    ("C for a tie", "Neither stands out. [[C]]", "tie"),
    ("windows lines", "Because.\r\n[[A]]\r\n", "A"),
    ("emoji", "✅ [[A]] ✅", "A"),
    ("said twice", "[[B]]\n\nTo repeat: [[B]]", "B"),
    ("verdict first", "[[A]]\n\nA cites its sources; B does not.", "A"),
    # what was said before the verdict
    ("instructions repeated", "Options: [[A]], [[B]], [[tie]].\n\nB invents a date.\n[[B]]", "B"),
    ("changed its mind", "At first [[A]].\nBut the sum is wrong, so [[B]].", "B"),
    ("quoted from a response", "> Verdict: [[A]]\nThat is for me to say.\n[[B]]", "B"),
    ("quoted code", "A prints\n```\nprint('[[A]]')\n```\nwhich fails.\n[[B]]", "B"),
    ("thinking", "<think>\nLooks like [[A]].\n</think>\n\n[[B]]", "B"),
    ("thinking that the template opened", "Looks like [[A]].\n</think>\n[[B]]", "B"),
    # no verdict
    ("words alone", "Assistant A's response is better.", "unreadable"),
    ("single brackets", "Final verdict: [A]", "unreadable"),
    ("a name", "[[Assistant A]]", "unreadable"),
    ("both", "[[A]] and [[B]] are equally good.", "unreadable"),
    ("a scale", "[[7]]", "unreadable"),
    ("both names in one mark", "[[A, B]]", "unreadable"),
    ("the instruction echoed and nothing else", "[[A]] or [[B]] or [[tie]]", "unreadable"),
    ("a question back", "Could you tell me which criteria matter most?", "unreadable"),
    ("the prompt continued", "[End of response B]\nPlease judge.", "unreadable"),
    ("empty", "", "unreadable"),
    ("blank", "\n\n   \n", "unreadable"),
    ("only a quotation", "> [[A]]", "unreadable"),
    ("an unclosed fence", "```\nA wins\n[[A]]", "unreadable"),
    ("thinking without an end", "<think>\nI lean to [[A]] but", "unreadable"),
    ("refusal", "I'm sorry, but I can't help with comparing these responses.", "refused"),
    ("refusal with a curly quote", "I can\u2019t assist with that request.", "refused"),
    ("refusal in a sentence", "Unfortunately, I cannot evaluate harmful content.", "refused"),
    ("a refusal judged, not made", "I cannot fault A; it declines rightly.\n[[A]]", "A"),
]


def _pair(reply: str, finish: FinishReason = "stop") -> str:
    try:
        return PairReader().mark(Completion(reply, finish)).winner
    except VerdictError as error:
        return error.cause


@pytest.mark.parametrize(("reply", "said"), [row[1:] for row in PAIRS], ids=[r[0] for r in PAIRS])
def test_pairs(reply: str, said: str) -> None:
    assert _pair(reply) == said


@pytest.mark.parametrize(("reply", "said"), [row[1:] for row in PAIRS], ids=[r[0] for r in PAIRS])
def test_what_the_provider_says_of_the_end_goes_first(reply: str, said: str) -> None:
    assert _pair(reply, "length") == "truncated"
    assert _pair(reply, "refusal") == "refused"


STRUCTURED: list[tuple[str, str, str]] = [
    ("held to the schema", '{"rationale": "B is short.", "verdict": "A"}', "A"),
    ("in a fence", '```json\n{"verdict": "B", "rationale": "x"}\n```', "B"),
    ("after a sentence", 'Here is my verdict: {"verdict": "tie"}', "tie"),
    ("spread over lines", '{\n  "rationale": "a\\nb",\n  "verdict": "B"\n}\n', "B"),
    ("schema ignored", "B is wrong.\n[[A]]", "A"),
    ("other fields", '{"winner": "A"}\n[[B]]', "B"),
    ("a label of its own", '{"verdict": "Response A"}', "unreadable"),
    ("lower case", '{"verdict": "a"}', "unreadable"),
    ("null", '{"verdict": null}', "unreadable"),
    ("a list", '[{"verdict": "A"}]', "unreadable"),
    ("single quotes", "{'verdict': 'A'}", "unreadable"),
    ("a trailing comma", '{"verdict": "A",}', "unreadable"),
    ("not closed", '{"verdict": "A"', "unreadable"),
    ("quoted from a response", '{"verdict": "A"} is what response A demands.', "unreadable"),
    ("refusal", "I'm sorry, I can't produce that.", "refused"),
]


@pytest.mark.parametrize(
    ("reply", "said"), [row[1:] for row in STRUCTURED], ids=[r[0] for r in STRUCTURED]
)
def test_structured_pairs(reply: str, said: str) -> None:
    try:
        found: str = PairReader().structured(Completion(reply)).winner
    except VerdictError as error:
        found = error.cause
    assert found == said


GRADES: list[tuple[str, str, object]] = [
    ("as asked", "Good.\nclarity: [[4]]\naccuracy: [[9]]", (4, 9)),
    ("bold names", "**clarity**: [[4]]\n**accuracy**: [[9]]", (4, 9)),
    ("a list", "1. Clarity: [[4]]\n2. Accuracy: [[9]]", (4, 9)),
    ("a table", "| clarity | [[4]] |\n|---|---|\n| accuracy | [[9]] |", (4, 9)),
    ("one line", "clarity: [[4]]; accuracy: [[9]]", (4, 9)),
    ("with its weight", "clarity (weight 50%): [[4]]\naccuracy (weight 50%): [[9]]", (4, 9)),
    ("first the reasons of each", "clarity: good, so [[4]]\naccuracy: a slip: [[9]]", (4, 9)),
    ("revised", "clarity: [[2]]\nclarity: [[4]]\naccuracy: [[9]]", (4, 9)),
    ("ten of ten", "clarity: [[5]]\naccuracy: [[10]]", (5, 10)),
    ("out of", "clarity: [[4/5]]\naccuracy: [[9/10]]", "unreadable"),
    ("halves", "clarity: [[4.5]]\naccuracy: [[9]]", "unreadable"),
    ("a range", "clarity: [[3-4]]\naccuracy: [[9]]", "unreadable"),
    ("the letter n", "clarity: [[n]]\naccuracy: [[n]]", "unreadable"),
    ("out of the scale", "clarity: [[9]]\naccuracy: [[4]]", "unreadable"),
    ("one missing", "clarity: [[4]]", "unreadable"),
    ("no names", "[[4]]\n[[9]]", "unreadable"),
    ("overall alone", "Overall: [[4]]", "unreadable"),
    ("numbers without marks", "clarity: 4\naccuracy: 9", "unreadable"),
    ("not applicable", "clarity: [[N/A]]\naccuracy: [[9]]", "unreadable"),
    ("refusal", "I'm unable to grade this response.", "refused"),
]


@pytest.mark.parametrize(("reply", "said"), [row[1:] for row in GRADES], ids=[r[0] for r in GRADES])
def test_grades(reply: str, said: object) -> None:
    found: object
    for read in (parse_grades, parse_structured_grades):
        try:
            grades = read(Completion(reply), TWO)
            found = (grades["clarity"].level, grades["accuracy"].level)
        except VerdictError as error:
            found = error.cause
        assert found == said


LEVELS: list[tuple[str, object]] = [
    ("4", 4),
    ("4\n", 4),
    ("**4**", 4),
    ("[[4]]", 4),
    ("4/5", 4),
    ("(4)", 4),
    ("4 out of 5", "unreadable"),
    ("clarity: 4", "unreadable"),
    ("Grade: 4", "unreadable"),
    ("four", "unreadable"),
    ("4, because it is clear", "unreadable"),
    ("-4", "unreadable"),
    ("45", "unreadable"),
    ("", "unreadable"),
    ("I cannot grade this.", "refused"),
]


@pytest.mark.parametrize(("reply", "said"), LEVELS)
def test_levels_alone(reply: str, said: object) -> None:
    found: object
    try:
        found = parse_level(Completion(reply), TWO[0]).level
    except VerdictError as error:
        found = error.cause
    assert found == said
