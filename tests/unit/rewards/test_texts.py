from __future__ import annotations

import pytest

from rlaif.errors import DataError
from rlaif.rewards.texts import candidate_of, item_of, messages_of
from rlaif.types import Message


def test_text_is_one_message_and_messages_are_messages() -> None:
    assert item_of("Hi?").prompt == (Message("user", "Hi?"),)
    assert item_of([{"role": "user", "content": "Hi?"}]) == item_of("Hi?")
    assert candidate_of("Yes.").response == (Message("assistant", "Yes."),)
    assert candidate_of([{"role": "assistant", "content": "Yes."}]) == candidate_of("Yes.")


def test_names_come_from_the_content() -> None:
    assert item_of("Hi?").id != item_of("Hi!").id
    assert item_of("Hi?").id != item_of("Hi?", "Yes.").id
    assert item_of("Hi?", "").reference is None
    assert candidate_of("Yes.").id != candidate_of("No.").id


def test_what_tools_and_blocks_say_is_shown() -> None:
    messages = messages_of(
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}],
            },
            {"role": "tool", "name": "add", "content": "2"},
            {"role": "developer", "content": "Be brief."},
            {"role": "assistant", "content": [{"type": "text", "text": "two"}, {"type": "image"}]},
        ],
        "assistant",
        "completion",
    )
    assert messages == (
        Message("assistant", '[tool call] add({"a": 1})'),
        Message("user", "[tool add returned]\n2"),
        Message("system", "Be brief."),
        Message("assistant", "two\n[image]"),
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "is text or a list of messages, not int"),
        ([], "is text or a list of messages, not list"),
        ([{"role": "robot", "content": "x"}], "has a role"),
        (["x"], "has a role"),
        ([{"role": ["user"], "content": "x"}], "has a role"),
        ([{"role": "user", "content": "x", "tool_calls": 5}], "tool_calls is a list"),
        ([{"role": "user", "content": 3}], "content is text or blocks, not int"),
    ],
)
def test_what_is_no_text_is_refused(value: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        candidate_of(value)


def test_a_reference_is_text() -> None:
    with pytest.raises(DataError, match="a reference is text, not int"):
        item_of("Hi?", 3)
