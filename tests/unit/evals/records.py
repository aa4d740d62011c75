"""Small verdicts for tests of tables, and files of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaif.canonical import json_line
from rlaif.types import (
    Candidate,
    Item,
    JudgeRef,
    Message,
    OrderVerdict,
    Preference,
    Ranking,
    Sampling,
    Score,
    Verdict,
)

P_A = {"A": 1.0, "tie": 0.5, "B": 0.0}


def candidate(model: str, text: str | None = None) -> Candidate:
    response = () if text is None else (Message("assistant", text),)
    return Candidate(model, response, model)


def judge_of(name: str) -> JudgeRef:
    return JudgeRef(name, "verdict", Sampling())


def pair(
    item: str,
    a: str,
    b: str,
    winner: str | None,
    *,
    judge: str = "judge",
    p_a: float | None = None,
    orders: tuple[str, ...] | None = None,
    texts: tuple[str | None, str | None] = (None, None),
    meta: Mapping[str, Any] | None = None,
    cause: str = "unreadable",
) -> Verdict:
    """A comparison of two models; `orders` are the winners as given and swapped."""
    sides = (candidate(a, texts[0]), candidate(b, texts[1]))
    name = f"{item}/{a}/{b}/{judge}/{meta}"
    what, who = Item(item, (), meta=meta or {}), judge_of(judge)
    if winner is None:
        return Verdict(name, "comparison", what, sides, who, "no_verdict", cause=cause)  # type: ignore[arg-type]
    shown = ("AB", "BA")
    played = tuple(
        OrderVerdict(order, said, P_A[said])  # type: ignore[arg-type]
        for order, said in zip(shown, (winner, winner) if orders is None else orders, strict=False)
    )
    consistent = len({order.winner for order in played}) <= 1
    preference = Preference(winner, P_A[winner] if p_a is None else p_a, played, consistent)  # type: ignore[arg-type]
    return Verdict(name, "comparison", what, sides, who, "ok", preference=preference)


def grade(
    item: str,
    model: str,
    value: float | None,
    *,
    judge: str = "judge",
    scale: tuple[float, float] = (1, 10),
    meta: Mapping[str, Any] | None = None,
) -> Verdict:
    name, what = f"{item}/{model}/{judge}", Item(item, (), meta=meta or {})
    sides, who = (candidate(model),), judge_of(judge)
    if value is None:
        return Verdict(name, "score", what, sides, who, "no_verdict", cause="unreadable")
    return Verdict(name, "score", what, sides, who, "ok", score=Score(value, *scale))


def ranked(item: str, *models: str) -> Verdict:
    """A ranking, the best first; the candidates stand in alphabetical order."""
    strengths = {model: float(-place) for place, model in enumerate(models)}
    ranking = Ranking(models, strengths, 1)
    sides = tuple(candidate(model) for model in sorted(models))
    return Verdict(item, "ranking", Item(item, ()), sides, judge_of("judge"), "ok", ranking=ranking)


def write_run(folder: Path, verdicts: Iterable[Verdict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json_line(verdict.as_dict()) for verdict in verdicts)
    (folder / "verdicts.jsonl").write_text(lines, encoding="utf-8")
    return folder
