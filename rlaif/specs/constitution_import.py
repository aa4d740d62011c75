"""Published constitutions in other files, turned into ours.

    constitution = import_constitution("anthropic", [Path("CritiqueRevisionInstructions.json"), …])
    text = constitution_yaml(constitution)              # a file that `load_constitution` reads

`anthropic` takes the files of Bai et al. 2022 (`anthropics/ConstitutionalHarmlessnessPaper`),
known apart by what they hold: critique and revision requests, comparison instructions, and the
few-shot files of either phase. `llm-swarm` takes the constitution of Hugging Face's recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rlaif.errors import SpecError
from rlaif.specs.constitution import (
    ComparisonExample,
    Constitution,
    CritiqueExample,
    Principle,
    parse_constitution,
)
from rlaif.specs.constitution_text import Segment, parse_transcript, turns
from rlaif.specs.yamlfile import MAX_BYTES
from rlaif.types import Message, Messages, Role, as_dict

ImportFormat = Literal["anthropic", "llm-swarm"]

_OPTIONS = re.compile(
    r"\A\s*(?:Human: )?Consider the following conversation.*?:\n\n(?P<talk>.*?)\n\n\{\}\n"
    r" ?\(A\) (?:\[\[\[)?(?P<a>.*?)(?:\]\]\])?\n ?\(B\) (?:\[\[\[)?(?P<b>.*?)(?:\]\]\])?\n\n"
    r"Assistant: (?P<why>.*?)\n\nHuman:\s*So the answer is: \((?P<winner>[AB])\)\s*\Z",
    re.DOTALL,
)
_TURN = re.compile(r"^(H|A): +", re.MULTILINE)


class _Parts:
    """What the files gave so far."""

    def __init__(self) -> None:
        self.principles: list[Principle] = []
        self.critiques: list[CritiqueExample] = []
        self.comparisons: list[ComparisonExample] = []


def import_constitution(
    kind: ImportFormat, paths: Sequence[Path], *, name: str = "imported", source: str = ""
) -> Constitution:
    """The constitution that files of another project make together.

    Args:
        kind: Whose files they are.
        paths: The files, in any order.
        name: What it will be called.
        source: Where it comes from; the names of the files by default.

    Raises:
        SpecError: a file is missing, is no JSON, or holds something else; or no principle is in
            any of them.
    """
    parts = _Parts()
    for path in paths:
        content = _read(path)
        try:
            (_swarm if kind == "llm-swarm" else _anthropic)(content, parts)
        except SpecError as error:
            raise SpecError(error.message, path=path, field=error.field) from None
    if not parts.principles:
        raise SpecError("holds no principles: give the instructions too", path=paths[0])
    made = Constitution(
        name,
        "1.0.0",
        "",
        source or f"{kind}: {', '.join(path.name for path in paths)}",
        tuple(parts.principles),
        tuple(parts.critiques),
        tuple(parts.comparisons),
    )
    # what was made is held to the rules of every file
    return parse_constitution(constitution_yaml(made), path=paths[0])


def _read(path: Path) -> object:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SpecError(f"is larger than {MAX_BYTES:,} bytes", path=path)
        return json.loads(content)
    except OSError as error:
        raise SpecError(error.strerror or str(error), path=path) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"is not JSON: {error}", path=path) from None


def constitution_yaml(constitution: Constitution) -> str:
    """The text of a constitution file."""
    import yaml

    principles = [_filled(as_dict(p)) for p in constitution.principles]
    examples = [
        _filled(as_dict(e)) for e in (*constitution.critique_examples,
                                      *constitution.comparison_examples)
    ]  # fmt: skip
    plain = {
        "name": constitution.name,
        "version": constitution.version,
        "description": constitution.description,
        "source": constitution.source,
        "principles": principles,
        **({"examples": examples} if examples else {}),
    }
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=96))


def _filled(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value}


def _anthropic(content: object, parts: _Parts) -> None:
    if isinstance(content, Mapping):
        parts.principles += [_requests(str(key), entry) for key, entry in content.items()]
    elif isinstance(content, list) and content and all(isinstance(e, str) for e in content):
        if all("CritiqueRequest:" in entry for entry in content):
            parts.critiques += [_critique_example(e, i) for i, e in enumerate(content)]
        else:
            parts.principles += [_instruction(e, i) for i, e in enumerate(content)]
    elif isinstance(content, list) and content and all(isinstance(e, Mapping) for e in content):
        parts.comparisons += [_comparison_example(e, i) for i, e in enumerate(content)]
    else:
        raise SpecError("is none of the published files: neither requests nor examples")


def _requests(key: str, entry: object) -> Principle:
    """A principle from its critique request and its revision request."""
    if not isinstance(entry, Mapping):
        raise SpecError("should be a mapping with prompt and edit_request", field=key)
    asked, edit = entry.get("prompt"), entry.get("edit_request")
    if not isinstance(asked, list) or len(asked) != 1 or not isinstance(asked[0], str):
        raise SpecError("should be a list with one text", field=f"{key}.prompt")
    if not isinstance(edit, str):
        raise SpecError("is missing", field=f"{key}.edit_request")
    return Principle(
        key,
        _between(asked[0], "CritiqueRequest", "Critique", f"{key}.prompt"),
        _between(edit, "RevisionRequest", "Revision", f"{key}.edit_request"),
        "",
    )


def _between(text: str, opens: str, closes: str, field: str) -> str:
    segments = parse_transcript(text)
    if [s.label for s in segments] != [opens, closes] or segments[1].text.strip():
        raise SpecError(f"should read '{opens}: …' and end in '{closes}:'", field=field)
    return segments[0].text.strip()


def _instruction(text: str, index: int) -> Principle:
    """A principle from an instruction to compare by."""
    asked = text.strip().removesuffix("Options:").strip()
    if not asked:
        raise SpecError("is empty", field=str(index))
    return Principle(f"comparison{index}", "", "", asked)


def _critique_example(text: str, index: int) -> CritiqueExample:
    segments = parse_transcript(text)
    if segments and segments[-1] == Segment("Human", "", ""):  # where the next example begins
        segments = segments[:-1]
    found = [s.label for s in segments]
    wanted = ["Assistant", "CritiqueRequest", "Critique", "RevisionRequest", "Revision"]
    if found[-5:] != wanted or len(found) < 6:
        raise SpecError(f"should end in {', '.join(wanted)}", field=str(index))
    response, asked, critique, edit, revision = (s.text.strip() for s in segments[-5:])
    return CritiqueExample(
        _prompt(turns(segments[:-5])),
        response,
        critique,
        revision,
        critique_request=asked,
        revision_request=edit,
    )


def _comparison_example(entry: Mapping[str, Any], index: int) -> ComparisonExample:
    prompt = entry.get("prompt")
    if not isinstance(prompt, str):
        raise SpecError("should be text", field=f"{index}.prompt")
    if "corrects" not in entry:
        return _reasoned(prompt, index)
    right, wrong = (_only(entry.get(key), f"{index}.{key}") for key in ("corrects", "incorrects"))
    segments = parse_transcript(prompt)
    if not segments or segments[-1].label != "Assistant" or segments[-1].text.strip():
        raise SpecError("should end in 'Assistant:'", field=f"{index}.prompt")
    # the better one stands first in every other example: none may teach a place
    a, b, winner = (right, wrong, "A") if index % 2 == 0 else (wrong, right, "B")
    return ComparisonExample(_prompt(turns(segments[:-1])), a, b, "A" if winner == "A" else "B")


def _only(value: object, field: str) -> str:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], str):
        raise SpecError("should be a list with one text", field=field)
    return value[0].strip()


def _reasoned(text: str, index: int) -> ComparisonExample:
    """An example with reasons: a conversation of H and A, two options, why, and the answer."""
    found = _OPTIONS.match(text)
    if found is None:
        message = "should hold a conversation, the options (A) and (B), reasons and the answer"
        raise SpecError(message, field=f"{index}.prompt")
    pieces = _TURN.split(found["talk"])
    roles: dict[str, Role] = {"H": "user", "A": "assistant"}
    said = tuple(
        Message(roles[who], what.strip())
        for who, what in zip(pieces[1::2], pieces[2::2], strict=True)
    )
    if not said or said[-1].role != "user":
        raise SpecError("the conversation should end with H", field=f"{index}.prompt")
    return ComparisonExample(
        _prompt(said),
        found["a"].strip(),
        found["b"].strip(),
        "A" if found["winner"] == "A" else "B",
        reasoning=found["why"].strip(),
    )


def _prompt(messages: Messages) -> str | Messages:
    return messages[0].content if len(messages) == 1 else messages


def _swarm(content: object, parts: _Parts) -> None:
    entries = content.get("constitutions") if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or not isinstance(entries, list):
        raise SpecError("should be a list of {critic, revision}", field="constitutions")
    for index, entry in enumerate(entries):
        place = f"constitutions.{index}"
        given = entry if isinstance(entry, Mapping) else {}
        critic, revision = given.get("critic"), given.get("revision")
        if not isinstance(critic, str) or not isinstance(revision, str):
            raise SpecError("should have the texts critic and revision", field=place)
        parts.principles.append(Principle(f"principle{index}", critic, revision, ""))
    parts.critiques += [_chat(chat, i) for i, chat in enumerate(content.get("system_chat") or [])]


def _chat(chat: object, index: int) -> CritiqueExample:
    """An example from six turns: prompt, response, request, critique, request, revision."""
    place = f"system_chat.{index}"
    said = chat if isinstance(chat, list) else []
    texts = [t.get("content") for t in said if isinstance(t, Mapping) and t.get("role") != "system"]
    if len(texts) != 6 or not all(isinstance(text, str) for text in texts):
        message = "should have six turns: prompt, response, and twice a request and its answer"
        raise SpecError(message, field=place)
    prompt, response, asked, critique, edit, revision = (str(text) for text in texts)
    return CritiqueExample(
        prompt, response, critique, revision, critique_request=asked, revision_request=edit
    )
