"""From a judge's reply to its verdict. Pure, and never a guess.

The last mark outside quoted text counts. A reply without one, with two different marks on its
last marked line, cut off by length or refused has no verdict: `VerdictError` says which.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from rlaif.errors import VerdictError
from rlaif.specs.rubric import Criterion
from rlaif.types import Completion, TokenLogprob, Winner

_WINNER_MARK = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_SCORE_MARK = re.compile(r"\[\[\s*(-?\d+)\s*\]\]")
_FENCE = re.compile(r"^```.*?(?:^```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_ONLY_MARK = re.compile(r"^```\w*\s*\[\[[^\[\]\n]*\]\]\s*```\s*$")
_QUOTE_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_THINKING = re.compile(r"^\s*<think(?:ing)?>.*?(</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(?:I(?:'|\u2019)m (?:very )?sorry|I am (?:very )?sorry|sorry,|I can(?:'|\u2019)?t |"
    r"I cannot |I can not |I won(?:'|\u2019)t |I(?:'|\u2019)m (?:not able|unable) to|"
    r"I am (?:not able|unable) to)",
    re.IGNORECASE,
)
_LABELS: dict[str, Winner] = {"a": "A", "b": "B", "c": "tie", "tie": "tie"}
_MIN_MASS = 0.5
"""Least probability that must lie on the labels for token probabilities to be a verdict."""


def blank_quoted(text: str) -> str:
    """`text` with thinking, fenced code and quoted lines blanked out; every offset is kept.

    A fence that holds nothing but a verdict mark is the judge's own way of setting it off, and
    stays.
    """

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    def blank_fence(match: re.Match[str]) -> str:
        return match[0] if _ONLY_MARK.match(match[0]) else blank(match)

    return _QUOTE_LINE.sub(blank, _FENCE.sub(blank_fence, _THINKING.sub(blank, text)))


def parse_winner(completion: Completion) -> tuple[Winner, float]:
    """The winner of a comparison as it was shown, and P(first preferred) in [0, 1].

    The probability comes from the label token's alternatives where the backend gave them (both
    spellings summed, renormalized over the labels, a tie counted half), else from the verdict: 1,
    0.5 or 0. Lee et al. 2023 (arXiv 2309.00267), section 2.

    Raises:
        VerdictError: the reply was refused, cut off, or holds no verdict.
    """
    mark = last_mark(completion, _WINNER_MARK)
    winner = _LABELS[mark[1].lower()]
    token = _token_at(completion, mark.start(1))
    if token is not None and (soft := _label_probability(token)) is not None:
        return winner, soft
    return winner, {"A": 1.0, "tie": 0.5, "B": 0.0}[winner]


def parse_score(
    completion: Completion, criteria: Iterable[Criterion]
) -> dict[str, tuple[float, dict[str, float] | None]]:
    """For each criterion its value and, where token probabilities tell, P(level).

    The value is the mean of the distribution where there is one, else the grade that was given.
    Liu et al. 2023 (arXiv 2303.16634), eq. (1).

    Raises:
        VerdictError: the reply was refused, cut off, or lacks a grade inside a criterion's scale.
    """
    criteria = list(criteria)
    found = {}
    for criterion in criteria:
        before = rf"(?im)^[^\n]*?{re.escape(criterion.name)}[^\n\[]*" if len(criteria) > 1 else ""
        mark = last_mark(completion, re.compile(before + _SCORE_MARK.pattern))
        grade, scale = int(mark[1]), criterion.scale
        if not scale.min <= grade <= scale.max:
            raise _unreadable(completion, f"grade {grade} is outside {scale.min}..{scale.max}")
        token = _token_at(completion, mark.start(1))
        levels = [str(level) for level in range(scale.min, scale.max + 1)]
        spread = _distribution(token, {level: level for level in levels}) if token else None
        value = sum(float(k) * p for k, p in spread.items()) if spread else float(grade)
        found[criterion.name] = (value, spread)
    return found


def rationale(completion: Completion) -> str | None:
    """The reply without its verdict marks, or `None` when nothing else was said."""
    text = _THINKING.sub("", completion.text)
    text = _SCORE_MARK.sub("", _WINNER_MARK.sub("", text)).strip()
    return text or None


def last_mark(completion: Completion, pattern: re.Pattern[str]) -> re.Match[str]:
    """The last match of `pattern` outside quoted text; its first group tells marks apart.

    Raises:
        VerdictError: the reply was refused, cut off, has no mark, or two different ones on its last
            marked line.
    """
    if completion.finish_reason == "refusal":
        raise VerdictError("the judge refused", cause="refused", reply=completion.text)
    if completion.finish_reason == "length":
        raise VerdictError("the reply was cut off", cause="truncated", reply=completion.text)
    text = blank_quoted(completion.text)
    marks = list(pattern.finditer(text))
    if not marks:
        if _REFUSAL.match(text):
            raise VerdictError("the judge refused", cause="refused", reply=completion.text)
        raise _unreadable(completion, "no verdict mark in the reply")
    last = marks[-1]
    same_line = [m for m in marks if "\n" not in text[m.end() : last.start()]]
    if len({m[1].lower() for m in same_line}) > 1:
        raise _unreadable(completion, "two different verdicts on one line")
    return last


def _unreadable(completion: Completion, message: str) -> VerdictError:
    return VerdictError(message, cause="unreadable", reply=completion.text)


def _token_at(completion: Completion, offset: int) -> TokenLogprob | None:
    """The token whose text covers the character at `offset`, if the tokens spell the reply."""
    position = 0
    for token in completion.tokens:
        position += len(token.token)
        if position > offset:
            return token if token.top else None
    return None


def _label_probability(token: TokenLogprob) -> float | None:
    names = {"A": "A", "B": "B", "C": "tie", "tie": "tie", "Tie": "tie", "t": "tie", "T": "tie"}
    spread = _distribution(token, names)
    return None if spread is None else spread.get("A", 0.0) + 0.5 * spread.get("tie", 0.0)


def _distribution(token: TokenLogprob, labels: Mapping[str, str]) -> dict[str, float] | None:
    """P(label) over the labels, spellings with and without spaces summed.

    `None` when the labels hold too little of the probability, as when the token that was drawn
    holds more than the label and its alternatives say nothing.
    """
    mass: dict[str, float] = {}
    for text, logprob in token.top:
        if (label := labels.get(text.strip())) is not None:
            mass[label] = mass.get(label, 0.0) + math.exp(logprob)
    total = sum(mass.values())
    if total < _MIN_MASS:
        return None
    return {label: p / total for label, p in mass.items()}
