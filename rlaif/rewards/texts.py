"""What trainers hand to a reward function, as the items and candidates that a judge takes.

Prompts and completions come as text or as messages. Items and candidates are named by their
content, so that the same text has the same verdict, and the same place in the store, at every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlaif.canonical import digest
from rlaif.errors import DataError
from rlaif.types import Candidate, Item, Message, Messages, Role, as_dict

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
    "function": "user",
}
"""What a tool returned was said to the model, not by it."""


def item_of(prompt: object, reference: object = None) -> Item:
    """The item of a prompt, text or messages.

    Raises:
        DataError: the prompt is neither, or the reference is no text.
    """
    if reference is not None and not isinstance(reference, str):
        raise DataError(f"a reference is text, not {type(reference).__name__}")
    messages = messages_of(prompt, "user", "prompt")
    name = digest({"prompt": as_dict(messages), "reference": reference or None})[:16]
    return Item(name, messages, reference or None)


def candidate_of(completion: object) -> Candidate:
    """The candidate of a completion, text or messages.

    Raises:
        DataError: it is neither.
    """
    messages = messages_of(completion, "assistant", "completion")
    return Candidate(digest(as_dict(messages))[:16], messages)


def messages_of(value: object, role: Role, what: str) -> Messages:
    """`value` as messages: text is one message by `role`.

    Raises:
        DataError: it is neither text nor a list of messages.
    """
    if isinstance(value, str):
        return (Message(role, value),)
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"a {what} is text or a list of messages, not {type(value).__name__}")
    return tuple(_message(entry, what) for entry in value)


def _message(value: object, what: str) -> Message:
    # a list: what is no role may not be hashable either
    if not isinstance(value, Mapping) or value.get("role") not in list(_ROLES):
        known = ", ".join(_ROLES)
        raise DataError(f"a message of a {what} has a role ({known}) and content")
    text = _content(value.get("content"))
    calls = value.get("tool_calls")
    if calls is not None and not isinstance(calls, list | tuple):
        raise DataError(f"tool_calls is a list, not {type(calls).__name__}")
    if calls:
        text = "\n".join([*([text] if text else []), *(_call(call) for call in calls)])
    if value["role"] in ("tool", "function"):
        name = value.get("name")
        text = f"[tool{f' {name}' if name else ''} returned]\n{text}"
    return Message(_ROLES[value["role"]], text)


def _content(content: Any) -> str:
    """The text of a message's content: blocks that are not text are named, not dropped."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise DataError(f"a message's content is text or blocks, not {type(content).__name__}")
    parts = []
    for block in content:
        if isinstance(block, Mapping) and isinstance(block.get("text"), str):
            parts.append(block["text"])
        else:
            kind = block.get("type", "block") if isinstance(block, Mapping) else "block"
            parts.append(f"[{kind}]")
    return "\n".join(parts)


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else {}
    if not isinstance(function, Mapping):
        function = {}
    return f"[tool call] {function.get('name', '')}({function.get('arguments', '')})"
