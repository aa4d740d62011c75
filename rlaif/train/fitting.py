"""Which rows fit a model's window, and why the others do not: TRL would drop them unsaid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from rlaif.train.common import Fitted

Verdict = tuple[str | None, bool]
"""Why a row is left out, if it is, and whether its response is cut."""


def fitting(rows: Any, judge: Callable[[Mapping[str, Any]], Verdict]) -> Fitted:
    """The rows that `judge` keeps, with the others counted by reason."""
    kept: list[int] = []
    dropped: Counter[str] = Counter({"too_long": 0})
    cut = 0
    for place, row in enumerate(rows):
        reason, is_cut = judge(row)
        if reason is None:
            kept.append(place)
            cut += is_cut
        else:
            dropped[reason] += 1
    return Fitted(rows.select(kept), dict(dropped), cut)


def fitting_pairs(rows: Any, tokenizer: Any, most: int, *, whole: bool) -> Fitted:
    """The pairs that something can be learned from.

    Args:
        rows: Of `prompt`, `chosen`, `rejected`.
        tokenizer: Of the model.
        most: Tokens of prompt and response.
        whole: Whether a pair with a longer response is left out, as a reward model's score is that
            of its last token; it is cut at the end otherwise.
    """

    def judge(row: Mapping[str, Any]) -> Verdict:
        if row["chosen"] == row["rejected"]:
            return "identical", False
        sides = (tokens(tokenizer, row["prompt"], row[side]) for side in ("chosen", "rejected"))
        longest = max(sides)
        if longest <= most:
            return None, False
        if whole or tokens(tokenizer, row["prompt"]) >= most:
            return "too_long", False
        return None, True

    return fitting(rows, judge)


def fitting_completions(rows: Any, tokenizer: Any, most: int) -> Fitted:
    """The rows whose prompt leaves room for a completion, which may be cut at the end.

    Args:
        rows: Of `prompt` and `completion`.
        tokenizer: Of the model.
        most: Tokens of prompt and completion.
    """

    def judge(row: Mapping[str, Any]) -> Verdict:
        if tokens(tokenizer, row["prompt"], row["completion"]) <= most:
            return None, False
        fits = tokens(tokenizer, row["prompt"]) < most
        return (None, True) if fits else ("too_long", False)

    return fitting(rows, judge)


def tokens(tokenizer: Any, prompt: Any, response: Any = None) -> int:
    """Tokens of a prompt ready for a response, or of both."""
    if isinstance(prompt, str):
        text = prompt + (response or "")
        return len(tokenizer(text)["input_ids"]) + (response is not None)
    text = tokenizer.apply_chat_template(
        list(prompt) + list(response or []),
        tokenize=False,
        add_generation_prompt=response is None,
    )
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
