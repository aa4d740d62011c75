r"""Prompt files of others, filled in one pass: text that is filled in is never filled again.

    Template((Message("user", "[Question]\n{question}"),)).filled({"question": "What is {this}?"})

Judged text cannot forge the marks of the prompt around it: a verdict mark, or a line that the
template uses to tell its parts apart, gets a space inside, and all else stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlaif.canonical import digest
from rlaif.errors import SpecError, suggestion
from rlaif.evals.fields import Row, claim, rows_of
from rlaif.types import Message, Messages, Role, as_dict

_PLACEHOLDER = re.compile(r"\{([a-z][a-z_0-9]*)\}")
_PLACEHOLDER_OR_ESCAPE = re.compile(r"\{\{|\}\}|\{([a-z][a-z_0-9]*)\}")
_MARK = re.compile(r"\[\[(?=\s*(?:[ABC]|tie|[AB<>=]{2,5}|-?\d+(?:\.\d+)?)\s*\]\])", re.IGNORECASE)
_SHORTEST_LINE = 8
_PROMPT_COLUMNS = (
    "name",
    "type",
    "system_prompt",
    "prompt_template",
    "description",
    "category",
    "output_format",
)
_CHAT_TURN = re.compile(r"<\|im_start\|>[ \t]*(\w+)[ \t]*\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Template:
    """Messages with `{placeholders}`.

    Args:
        messages: The messages, placeholders and all.
        escaped: Whether `{{` and `}}` mean braces, as in files written for `str.format`.
    """

    messages: Messages
    escaped: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the template, 64 hex digits."""
        return digest({"messages": as_dict(self.messages), "escaped": self.escaped})

    @property
    def placeholders(self) -> set[str]:
        """The names that it fills in."""
        text = "\n".join(message.content for message in self.messages)
        return {name for name in self._pattern.findall(text) if name}

    @property
    def _pattern(self) -> re.Pattern[str]:
        return _PLACEHOLDER_OR_ESCAPE if self.escaped else _PLACEHOLDER

    def filled(self, values: Mapping[str, str]) -> Messages:
        """The messages with every placeholder replaced once, by a value that can forge no mark.

        A placeholder that `values` lacks stays as it is.
        """
        safe = {name: self._defused(text) for name, text in values.items()}

        def value(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0][0]
            return safe.get(match[1], match[0])

        return tuple(Message(m.role, self._pattern.sub(value, m.content)) for m in self.messages)

    def _defused(self, text: str) -> str:
        text = _MARK.sub("[ [", text)
        for line in self._marking_lines():
            if line in text:
                # a heading is a mark only where it is the whole line; a bracketed one anywhere
                exact = re.escape(line)
                exact = rf"(?m)^[ \t]*{exact}[ \t]*$" if line.startswith("#") else exact
                text = re.sub(exact, lambda match: _spaced(match[0]), text)
        return text

    def _marking_lines(self) -> list[str]:
        lines = {line.strip() for message in self.messages for line in message.content.split("\n")}
        return sorted(
            line
            for line in lines
            if line[:1] in {"[", "<", "#"} and len(line) >= _SHORTEST_LINE and "{" not in line
        )


def _spaced(line: str) -> str:
    at = len(line) - len(line.lstrip()) + 1
    return f"{line[:at]} {line[at:]}"


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """One prompt of a FastChat `judge_prompts.jsonl`."""

    name: str
    type: str
    """`single` or `pairwise`."""
    system: str
    template: Template
    """The user message; the system message is never filled in."""
    row: Row

    def filled(self, values: Mapping[str, str]) -> Messages:
        """The messages that a judge sees."""
        return (Message("system", self.system), *self.template.filled(values))


def load_judge_prompts(path: Path) -> dict[str, JudgePrompt]:
    """The prompts of a FastChat `judge_prompts.jsonl` by name.

    Raises:
        SpecError: the file cannot be read, or a row does not fit: names the line and the field.
    """
    found: dict[str, JudgePrompt] = {}
    taken: dict[str, Row] = {}
    for row in rows_of(path):
        row.others(_PROMPT_COLUMNS)
        name, kind = row.text("name"), row.text("type")
        claim(taken, name, row, "name")
        if kind not in {"single", "pairwise"}:
            row.fail(f"should be 'single' or 'pairwise', found {kind!r}", "type")
        template = Template((Message("user", row.text("prompt_template")),), escaped=True)
        found[name] = JudgePrompt(name, kind, row.any_text("system_prompt"), template, row)
    return found


def prompt_named(
    prompts: Mapping[str, JudgePrompt], name: str, path: Path, shows: Iterable[str]
) -> JudgePrompt:
    """The prompt called `name`, which fills in exactly what it `shows`.

    Raises:
        SpecError: there is none, or a placeholder is missing or unknown.
    """
    if name not in prompts:
        message = f"holds no prompt called {name!r}; {suggestion(name, prompts)}"
        raise SpecError(message, path=path, field="name")
    prompt, wanted = prompts[name], set(shows)
    used = prompt.template.placeholders
    if missing := sorted(wanted - used):
        prompt.row.fail(f"{name!r} never shows {{{missing[0]}}}", "prompt_template")
    if unknown := sorted(used - wanted):
        hint = suggestion(unknown[0], wanted)
        prompt.row.fail(f"{name!r} has an unknown {{{unknown[0]}}}; {hint}", "prompt_template")
    return prompt


def load_chat_template(path: Path) -> Template:
    """The template of a text file that marks its turns with `<|im_start|>role` and `<|im_end|>`.

    A file without such marks is one user message.

    Raises:
        SpecError: the file cannot be read, or a turn has a role that is not known.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror or error}", path=path) from error
    except UnicodeDecodeError as error:
        raise SpecError(f"is not UTF-8: {error.reason}", path=path) from error
    turns = list(_CHAT_TURN.finditer(text))
    if not turns:
        return Template((Message("user", text.strip()),))
    messages = []
    for turn in turns:
        line = text.count("\n", 0, turn.start()) + 1
        messages.append(Message(_role(turn[1], path, line), turn[2].strip()))
    return Template(tuple(messages))


def _role(name: str, path: Path, line: int) -> Role:
    if name == "system":
        return "system"
    if name == "user":
        return "user"
    if name == "assistant":
        return "assistant"
    raise SpecError(f"{name!r} is not a role", path=path, line=line, field="role")
