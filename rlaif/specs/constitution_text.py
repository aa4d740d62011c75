r"""Dialogues as plain text, as Bai et al. 2022 publish them: labels, each on a line of its own.

    segments = parse_transcript("\n\nHuman: Hi\n\nAssistant: Hello\n\nCritiqueRequest: …")
    assert render_transcript(segments) == …                 # the same text, to the letter

`Human` and `Assistant` are turns; `CritiqueRequest`, `Critique`, `RevisionRequest` and `Revision`
are what the supervised phase adds (2212.08073, section 3.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rlaif.errors import SpecError
from rlaif.types import Message, Messages, Role

Label = Literal["Human", "Assistant", "CritiqueRequest", "Critique", "RevisionRequest", "Revision"]
LABELS: tuple[Label, ...] = get_args(Label)

_MARK = re.compile(rf"\n\n({'|'.join(LABELS)}):( ?)")
_FORGED = re.compile(rf"^([ \t]*)({'|'.join(LABELS)})(?=[ \t]*:)", re.MULTILINE)
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Segment:
    """A label and the text behind it."""

    label: str
    """One of `LABELS`; empty for what stands before the first of them."""
    text: str
    gap: str = " "
    """What stands between the colon and the text."""


def parse_transcript(text: str) -> tuple[Segment, ...]:
    """The segments of `text`: `render_transcript` gives it back, whatever it is."""
    marks = list(_MARK.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), *([len(text)] if marks else [])]
    first = marks[0].start() if marks else len(text)
    found = [Segment("", text[:first], "")] if first else []
    found += [
        Segment(mark[1], text[mark.end() : end], mark[2])
        for mark, end in zip(marks, ends, strict=True)
    ]
    return tuple(found)


def render_transcript(segments: Iterable[Segment]) -> str:
    """The text of `segments`."""
    return "".join(
        f"\n\n{part.label}:{part.gap}{part.text}" if part.label else part.text for part in segments
    )


def turns(segments: Sequence[Segment]) -> Messages:
    """The conversation that `Human` and `Assistant` segments are, its texts stripped.

    Raises:
        SpecError: there is another label among them, or nothing at all.
    """
    found = []
    for segment in segments:
        if segment.label not in _ROLES:
            name = segment.label or segment.text.strip()[:40]
            raise SpecError(f"{name!r} is no turn of a conversation: Human or Assistant is")
        found.append(Message(_ROLES[segment.label], segment.text.strip()))
    if not found:
        raise SpecError("there is no turn: a line should begin with 'Human:'")
    return tuple(found)


def as_turns(prompt: str | Messages) -> Messages:
    """The messages of a prompt that may be a lone text."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def dialogue(messages: Messages) -> tuple[Segment, ...]:
    """The segments of a conversation; what the system says stands bare, before them."""
    found = []
    for message in messages:
        if message.role == "system":
            found.append(Segment("", message.content, ""))
        else:
            label = "Human" if message.role == "user" else "Assistant"
            found.append(Segment(label, message.content))
    return tuple(found)


def unlabelled(text: str) -> str:
    """`text` with a backslash before every label that opens a line: it can begin no segment."""
    return _FORGED.sub(r"\1\\\2", text)
