from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.judge.structured import pair_schema, parse_object, score_schema, value_offset
from rlaif.types import Completion
from tests.builders import criterion

OBJECT = '{"verdict": "A"}'


@pytest.mark.parametrize(
    "reply",
    [
        OBJECT,
        f"  {OBJECT}\n",
        f"Here it is:\n{OBJECT}",
        f"```json\n{OBJECT}\n```",
        f"```\n{OBJECT}\n```\n",
        f'First {{"verdict": "B"}} came to mind.\n{OBJECT}',
        f"A set {{1, 2}} and a brace {{ and then {OBJECT}",
        f'<think>{{"verdict": "B"}}</think>{OBJECT}',
        f'```json\n{{"verdict": "B"}}\n```\nNo:\n```json\n{OBJECT}\n```',
    ],
)
def test_the_object_that_ends_the_reply(reply: str) -> None:
    found = parse_object(Completion(reply))
    assert found is not None
    assert found[0] == {"verdict": "A"}
    assert reply[found[1] :].startswith(OBJECT)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "[[A]]",
        "[1, 2]",
        '"A"',
        f"{OBJECT} says the response, but no.",
        f"```json\n{OBJECT}\n```\nsays the response.",
        f"`{OBJECT}`",
        '{"verdict": "A"',
        '{"verdict": "A"}}',
        '{"a": ' * 2000 + "1" + "}" * 2000,
        "{" * 100_000 + "}",
        f"```\n{OBJECT}\n``` ```",
        "<think>" + OBJECT,
    ],
)
def test_no_object_ends_the_reply(reply: str) -> None:
    found = parse_object(Completion(reply))
    assert found is None or "verdict" not in found[0]


@given(st.text(alphabet='{}":,[]Averdict` \n<think>'))
def test_no_reply_breaks_the_reader(text: str) -> None:
    parse_object(Completion(text))


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()))
def test_every_object_is_found(fields: dict[str, object]) -> None:
    found = parse_object(Completion("So:\n" + json.dumps(fields)))
    assert found is not None
    assert found[0] == fields


def test_where_a_value_begins() -> None:
    reply = Completion('x {"rationale": "\\"verdict\\": \\"B\\"", "verdict" : "A"}')
    offset = value_offset(reply, 2, "verdict")
    assert offset is not None
    assert reply.text[offset] == "A"
    assert value_offset(reply, 2, "grades") is None


def test_schemas_hold_the_labels_and_the_order_of_reasons() -> None:
    before = pair_schema(("A", "B"), "before")
    assert before["properties"]["verdict"]["enum"] == ["A", "B"]
    assert list(before["properties"]) == before["required"] == ["rationale", "verdict"]
    assert pair_schema(("A", "B"), "after")["required"] == ["verdict", "rationale"]
    assert pair_schema(("A", "B"), "none")["required"] == ["verdict"]
    grades = score_schema([criterion("facts", 0, 2)], "none")["properties"]["grades"]
    assert grades["properties"] == {"facts": {"type": "integer", "enum": [0, 1, 2]}}
    assert grades["additionalProperties"] is False
