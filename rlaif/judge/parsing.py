"""Where in a judge's reply its verdict stands. Pure, and never a guess.

The last mark outside quoted text counts. A reply without one, with two different marks on its
last marked line, cut off by length or refused has no verdict: `VerdictError` says which. What a
model thought aloud before it replied is never read for a verdict.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from rlaif.errors import VerdictError
from rlaif.judge.labels import label_spread, place_of
from rlaif.types import Completion, Winner

Label = Literal["A>>B", "A>B", "A=B", "B>A", "B>>A"]
"""The five verdicts on a pair, about the responses in the order shown."""

WINNER_MARK = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
SCORE_MARK = re.compile(r"\[\[\s*(-?\d+(?:\.\d+)?)\s*\]\]")
LABEL_MARK = re.compile(r"\[\[\s*(A\s*(?:>>?|=)\s*B|B\s*>>?\s*A)\s*\]\]", re.IGNORECASE)

_MARK_LINE = re.compile(
    r"^[ \t>*_#|-]{0,8}(?:\w[\w *_-]{0,63}[:|=][ \t*_]{0,8})?"
    r"\[\[[^\[\]\n]{0,24}\]\][ \t*_|.]{0,8}$\n?",
    re.MULTILINE,
)
_FENCE = re.compile(r"^```.*?(?:^```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_ONLY_MARK = re.compile(r"^```\w*\s*\[\[[^\[\]\n]*\]\]\s*```\s*$")
_QUOTE_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_THINK = "think(?:ing)?|thoughts?|reasoning|reflection"
_THINKING = re.compile(
    rf"\A\s*(?:<(?:{_THINK})>|\[THINK\]).*?(?:</(?:{_THINK})>|\[/THINK\]|\Z)"
    rf"|<(think(?:ing)?)>.*?</\1>",
    re.DOTALL | re.IGNORECASE,
)
_UNOPENED = re.compile(r"\A.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(?:(?:I(?:'|\u2019)m|I am) (?:very |really |truly )?(?:sorry|afraid)|sorry\b|apologies\b|"
    r"I apologi[sz]e|(?:unfortunately, )?I (?:can(?:'|\u2019)?t|cannot|can not|won(?:'|\u2019)t|"
    r"will not|must decline|have to decline|decline) |"
    r"(?:I(?:'|\u2019)m|I am) (?:not able|unable|not comfortable|not willing)\b)",
    re.IGNORECASE,
)
_WINNERS: dict[str, Winner] = {"a": "A", "b": "B", "c": "tie", "tie": "tie"}
_NAMES = {
    "A": "A", "a": "A", "B": "B", "b": "B", "C": "tie", "c": "tie",
    "tie": "tie", "Tie": "tie", "TIE": "tie", "t": "tie", "T": "tie", "ti": "tie",
}  # fmt: skip
P_FIRST: dict[Winner, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
"""P(first preferred) of a verdict that says no more than who won."""


def without_thinking(text: str) -> str:
    """`text` with the thinking blanked out that some models write before their reply.

    Every offset is kept. A closing tag without an opening one ends thinking that the model's
    template had opened.
    """
    if "<" not in text and "[" not in text[:16]:
        return text
    text = _THINKING.sub(_blank, text)
    return _UNOPENED.sub(_blank, text) if "</think" in text.lower() else text


def blank_quoted(text: str) -> str:
    """`text` with thinking, fenced code and quoted lines blanked out; every offset is kept.

    A fence that holds nothing but a verdict mark is the judge's own way of setting it off, and
    stays.
    """
    text = without_thinking(text)
    if "```" in text:
        text = _FENCE.sub(_blank_fence, text)
    return _QUOTE_LINE.sub(_blank, text) if ">" in text else text


def _blank(match: re.Match[str]) -> str:
    return "\n".join(" " * len(line) for line in match[0].split("\n"))


def _blank_fence(match: re.Match[str]) -> str:
    return match[0] if _ONLY_MARK.match(match[0]) else _blank(match)


def parse_winner(completion: Completion) -> tuple[Winner, float]:
    """The winner of a comparison as it was shown, and P(first preferred) in [0, 1].

    The probability comes from the label token's alternatives where the backend gave them (all
    spellings summed, renormalized over the labels, a tie counted half), else from the verdict: 1,
    0.5 or 0. Lee et al. 2023 (arXiv 2309.00267), section 2.

    Raises:
        VerdictError: the reply was refused, cut off, or holds no verdict.
    """
    winner, p_first, _ = parse_winner_mark(completion)
    return winner, p_first


def parse_winner_mark(completion: Completion) -> tuple[Winner, float, float | None]:
    """As `parse_winner`, and the probability on no label; `None` where tokens tell nothing.

    Raises:
        VerdictError: the reply was refused, cut off, or holds no verdict.
    """
    mark = last_mark(completion, WINNER_MARK)
    winner = _WINNERS[mark[1].lower()]
    if completion.tokens and (place := place_of(completion, mark.start(1))) is not None:
        spread = label_spread(place, mark[1], _NAMES)
        if spread.holds():
            p_first = spread.p.get("A", 0.0) + 0.5 * spread.p.get("tie", 0.0)
            return winner, p_first, spread.missing_mass
    return winner, P_FIRST[winner], None


def parse_label(completion: Completion) -> Label:
    """The last [[label]] of the five.

    Raises:
        VerdictError: the reply was refused, cut off, or holds no label.
    """
    found = "".join(last_mark(completion, LABEL_MARK)[1].upper().split())
    return as_label(found, completion)


def as_label(text: str, completion: Completion) -> Label:
    """The label that `text` spells, from either side: `B<A` is `A>B`.

    Raises:
        VerdictError: it spells none.
    """
    mirrored = text.translate(_MIRROR) if "<" in text else text
    mirrored = "A=B" if mirrored == "B=A" else mirrored
    for label in _LABELS:
        if mirrored == label:
            return label
    raise unreadable(completion, f"{text[:20]!r} is no label")


_LABELS: tuple[Label, ...] = get_args(Label)
_MIRROR = str.maketrans("AB<>", "BA><")


def rationale(completion: Completion) -> str | None:
    """The reply without thinking and verdict marks, or `None` when nothing else was said.

    Of a line such as `clarity: [[4]]` nothing is left.
    """
    text = without_thinking(completion.text)
    if (first := text.find("[[")) >= 0:
        # no line before the first mark's can be one of marks: reasons are long, and searched slowly
        start = text.rfind("\n", 0, first) + 1
        text = text[:start] + _MARK_LINE.sub("", text[start:])
        for mark in (WINNER_MARK, LABEL_MARK, SCORE_MARK) if "[[" in text else ():
            text = mark.sub("", text)
    return text.strip() or None


def check_ended(completion: Completion) -> None:
    """Raise `VerdictError` if the reply was refused or cut off, by the provider's account."""
    if completion.finish_reason == "refusal":
        raise VerdictError("the judge refused", cause="refused", reply=completion.text)
    if completion.finish_reason == "length":
        raise VerdictError("the reply was cut off", cause="truncated", reply=completion.text)


def no_mark(completion: Completion, text: str, message: str) -> VerdictError:
    """The error for a reply without a verdict: a refusal where it opens as one.

    `text` is the reply without what is quoted in it.
    """
    if _REFUSAL.match(text):
        return VerdictError("the judge refused", cause="refused", reply=completion.text)
    if not text.strip():
        said = "the reply is empty" if not completion.text.strip() else "nothing but quoted text"
        return unreadable(completion, f"no verdict mark in the reply: {said}")
    return unreadable(completion, message)


def last_mark(completion: Completion, pattern: re.Pattern[str]) -> re.Match[str]:
    """The last match of `pattern` outside quoted text; its first group tells marks apart.

    Raises:
        VerdictError: the reply was refused, cut off, has no mark, or two different ones on its last
            marked line.
    """
    check_ended(completion)
    text = blank_quoted(completion.text)
    marks = list(pattern.finditer(text))
    if not marks:
        raise no_mark(completion, text, "no verdict mark in the reply")
    last = marks[-1]
    line = text.rfind("\n", 0, last.start())
    said = {m[1].lower() for m in marks if m.start() > line}
    if len(said) > 1:
        message = f"two different verdicts on one line: {', '.join(sorted(said))}"
        raise unreadable(completion, message)
    return last


def unreadable(completion: Completion, message: str) -> VerdictError:
    """The error for a reply that holds no verdict."""
    return VerdictError(message, cause="unreadable", reply=completion.text)
