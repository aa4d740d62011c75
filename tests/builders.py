"""Small values for tests."""

from __future__ import annotations

from rlaif.specs.rubric import Criterion, Rubric, Scale
from rlaif.types import (
    Candidate,
    Comparison,
    Item,
    JudgeRef,
    Message,
    OrderVerdict,
    Preference,
    Sampling,
    Verdict,
)


def item(name: str = "i1", prompt: str = "What is the capital of France?", **more: object) -> Item:
    return Item(name, (Message("user", prompt),), **more)  # type: ignore[arg-type]


def candidate(name: str, text: str, model: str | None = None) -> Candidate:
    return Candidate(name, (Message("assistant", text),), model)


def comparison(a: str = "Paris.", b: str = "Lyon.", **more: object) -> Comparison:
    return Comparison(item(**more), candidate("a", a, "m1"), candidate("b", b, "m2"))  # type: ignore[arg-type]


def criterion(name: str = "quality", low: int = 1, high: int = 5, weight: float = 1.0) -> Criterion:
    anchors = {low: "poor", high: "excellent"}
    return Criterion(name, weight, f"How good is the {name}?", Scale(low, high, anchors))


def rubric(*criteria: Criterion, **more: object) -> Rubric:
    return Rubric(
        name="test",
        version="1.0.0",
        description="for tests",
        source="ours",
        criteria=criteria or (criterion(),),
        **more,  # type: ignore[arg-type]
    )


def verdict(
    name: str = "v1",
    p_a: float | None = 0.9,
    *,
    a: str = "Paris is the capital.",
    b: str = "It might be Lyon, I think.",
    item_id: str = "i1",
    prompt: str = "What is the capital of France?",
    consistent: bool = True,
    ids: tuple[str, str] = ("a", "b"),
) -> Verdict:
    """A comparison with `p_a`, or without a verdict where that is None."""
    judge = JudgeRef("scripted/judge", "verdict", Sampling())
    sides = (candidate(ids[0], a, "m1"), candidate(ids[1], b, "m2"))
    what = item(item_id, prompt)
    if p_a is None:
        return Verdict(name, "comparison", what, sides, judge, "no_verdict", cause="unreadable")
    winner = "A" if p_a > 0.5 else "B" if p_a < 0.5 else "tie"
    orders = (OrderVerdict("AB", winner, p_a), OrderVerdict("BA", winner, p_a))
    preference = Preference(winner, p_a, orders, consistent)
    return Verdict(name, "comparison", what, sides, judge, "ok", preference=preference)
