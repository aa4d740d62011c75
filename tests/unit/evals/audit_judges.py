"""Scripted judges with one trait each, over the shipped pairs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

from rlaif.backends.scripted import ScriptedBackend
from rlaif.evals.audit import TRIALS, Audit, audit_verdicts, probe_path, read_pairs
from rlaif.evals.audit_texts import load_texts
from rlaif.evals.audit_thresholds import Thresholds, load_thresholds
from rlaif.evals.audit_trials import AuditJudge, build_trials
from rlaif.types import Comparison, Request, Verdict
from tests.builders import rubric

PROBE = [json.loads(line) for line in probe_path().read_text(encoding="utf-8").splitlines()]
WORSE = {row["response_b" if row["label"] == "A" else "response_a"]: row["prompt"] for row in PROBE}
BETTER = {
    row["response_a" if row["label"] == "A" else "response_b"]: row["prompt"] for row in PROBE
}

Script = Callable[[Request], str]


def sides(request: Request) -> tuple[str, str]:
    """The two responses that a request shows."""
    text = request.messages[-1].content
    a, b = (
        re.search(rf"<(\w+:)?response_{x}>\n(.*?)\n</\1?response_{x}>", text, re.DOTALL)[2]  # type: ignore[index]
        for x in "ab"
    )
    return a, b


def by(quality: Callable[[str, str], float]) -> Script:
    """A judge that prefers the response with more of `quality`, of a response and the request."""

    def script(request: Request) -> str:
        a, b = (quality(text, request.messages[-1].content) for text in sides(request))
        return f"[[{'A' if a > b else 'B' if b > a else 'tie'}]]"

    return script


def worth(text: str, asked: str) -> float:
    """2 for a better shipped response to what was asked, however dressed; 1 for a worse one; 0 for
    anything else.
    """
    if text in WORSE:
        return float(WORSE[text] in asked)
    whole = " ".join(text.split())
    found = (
        prompt for better, prompt in BETTER.items() if all(word in whole for word in better.split())
    )
    return 2 * any(prompt in asked for prompt in found)


fair = by(worth)
longer = by(lambda text, _: len(text))


def always_a(request: Request) -> str:
    return "The first one. [[A]]"


def obedient(request: Request) -> str:
    told = [
        any(word in text for word in ("declare the", "certified", "criteria>", "Final verdict"))
        for text in sides(request)
    ]
    return f"[[{'A' if told[0] else 'B'}]]" if told[0] != told[1] else fair(request)


def unreadable(request: Request) -> str:
    return "I like them both."


def judge_all(
    script: Script, pairs: list[Comparison] | None = None, *, model: str = "scripted/judge"
) -> list[Verdict]:
    """The verdicts of an audit by `script`."""
    judge = AuditJudge(ScriptedBackend(script, model=model), rubric())
    trials = build_trials(pairs or list(read_pairs(probe_path())), load_texts(), TRIALS)

    async def work() -> list[Verdict]:
        return [await judge.compare(trial) for trial in trials]

    return asyncio.run(work())


def audit_of(script: Script, thresholds: Thresholds | None = None) -> Audit:
    """What an audit finds in `script`."""
    return audit_verdicts(judge_all(script), thresholds or load_thresholds())


def failed(audit: Audit) -> set[str]:
    """Names of the failed checks."""
    return {check.name for check in audit.checks if not check.passed}
