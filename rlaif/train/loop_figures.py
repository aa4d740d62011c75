"""The figures of a finished round: what its folders say, as one row of `loop.json`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaif.errors import DataError
from rlaif.stats.text import words
from rlaif.stats.win_rate import WinRate, win_rate
from rlaif.store.runs import read_candidates, read_json, read_rows, read_verdicts
from rlaif.train.alarms import Measure
from rlaif.train.drift import (
    Responses,
    entropy_measure,
    kl_measures,
    length_measures,
    rise,
    text_measures,
)
from rlaif.train.judged import (
    gold_measures,
    gold_trend,
    judge_histogram,
    judge_measures,
    length_corrected,
)
from rlaif.train.loop_round import POLICY, START
from rlaif.types import Verdict

_OUTCOMES = {"A": 1.0, "tie": 0.5, "B": 0.0}


def round_figures(folder: Path, before: Path | None, *, seed: int = 0) -> dict[str, Any]:
    """What a finished round came to.

    Args:
        folder: The round.
        before: The round before it, for trends.
        seed: Seed of what is drawn.

    Returns:
        `reward` and `gold` (P(policy preferred over the start) by the training judge and by the
        held-out judge), `win_rate` (ties half), each with its interval by prompt; `measures`, the
        list that alarms are read from; `judge_histogram`; `words` and `words_p95` of policy and
        start; `rows`, `cost_usd`, `coverage`.

    Raises:
        DataError: a judge has no verdict at all.
    """
    judged = list(read_verdicts(folder / "6-evaluation"))
    gold = list(read_verdicts(folder / "7-held-out-judge"))
    preferred = [v.preference for v in judged if v.preference is not None]
    prompts = [v.item.id for v in judged if v.preference is not None]
    if not preferred or not any(v.preference for v in gold):
        raise DataError(f"{folder} has no verdict on the held-out responses")
    by_judge, by_gold = _by_prompt(judged), _by_prompt(gold)
    p = [found.p_a for found in preferred]
    sides = _responses(folder / "5-held-out")
    lengths = [_lengths(v) for v in judged if v.preference is not None]
    measures = [
        *_likelihood_measures(folder / "8-likelihoods" / "likelihoods.jsonl"),
        *length_measures(sides[POLICY], sides[START]),
        *length_corrected(
            p, [ours for ours, _ in lengths], [theirs for _, theirs in lengths], prompts, seed=seed
        ),
        *text_measures(sides[POLICY], sides[START]),
        _unfinished(folder / "5-held-out"),
        *judge_measures(p, prompts, [found.consistent for found in preferred], len(judged)),
        *gold_measures(by_judge, by_gold),
        *_trend(before, by_judge, by_gold),
    ]
    return {
        "reward": _interval(win_rate(p, prompts)),
        "gold": _interval(_gold_rate(gold)),
        "win_rate": _interval(win_rate([_OUTCOMES[f.winner] for f in preferred], prompts)),
        "words": _words(sides),
        "judge_histogram": judge_histogram(p),
        "measures": [_plain(measure) for measure in measures],
        **_totals(folder),
    }


def read_measures(rows: Iterable[Mapping[str, Any]]) -> list[Measure]:
    """The measures of a round's row."""
    return [Measure(r["name"], r["value"], r.get("low"), r.get("high")) for r in rows]


def _plain(measure: Measure) -> dict[str, Any]:
    known = {"low": measure.low, "high": measure.high}
    return {
        "name": measure.name,
        "value": measure.value,
        **{k: v for k, v in known.items() if v is not None},
    }


def _interval(rate: WinRate) -> dict[str, float]:
    return {"value": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}


def _by_prompt(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Mean P(policy preferred over the start) of each prompt with a verdict."""
    found: dict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.preference is not None:
            found[verdict.item.id].append(verdict.preference.p_a)
    return {prompt: sum(p) / len(p) for prompt, p in found.items()}


def _gold_rate(verdicts: Iterable[Verdict]) -> WinRate:
    known = [(v.preference.p_a, v.item.id) for v in verdicts if v.preference is not None]
    return win_rate([p for p, _ in known], [prompt for _, prompt in known])


def _trend(
    before: Path | None, judge: Mapping[str, float], gold: Mapping[str, float]
) -> list[Measure]:
    if before is None:
        return []
    earlier = [_by_prompt(read_verdicts(before / f)) for f in ("6-evaluation", "7-held-out-judge")]
    found = gold_trend(judge, earlier[0], gold, earlier[1])
    return [] if found is None else [found]


def _responses(folder: Path) -> dict[str, Responses]:
    """What policy and start said to the held-out prompts."""
    texts: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for item, candidates in read_candidates(folder):
        prompt = "\n".join(message.content for message in item.prompt)
        for candidate in candidates:
            texts[candidate.model or ""].append((prompt, candidate.text))
    return {
        model: Responses([prompt for prompt, _ in pairs], [text for _, text in pairs])
        for model, pairs in texts.items()
    }


def _lengths(verdict: Verdict) -> tuple[int, int]:
    """Words of the policy's response and of the start's."""
    ours, theirs = (len(words(candidate.text)) for candidate in verdict.candidates)
    return ours, theirs


def _words(sides: Mapping[str, Responses]) -> dict[str, dict[str, float]]:
    import numpy as np

    found = {}
    for name, side in (("policy", sides[POLICY]), ("start", sides[START])):
        counts = [len(words(text)) for text in side.texts]
        found[name] = {"mean": float(np.mean(counts)), "p95": float(np.quantile(counts, 0.95))}
    return found


def _likelihood_measures(path: Path) -> list[Measure]:
    rows = [row for _, row in read_rows(path)]
    ours = [row for row in rows if row["model"] == POLICY and row["policy"]]
    theirs = [row["start"] for row in rows if row["model"] == START and row["start"]]
    if not ours:
        return []
    ratios = [[a - b for a, b in zip(row["policy"], row["start"], strict=True)] for row in ours]
    found = kl_measures(ratios, [row["item"] for row in ours])
    if theirs:
        found.append(entropy_measure([row["policy"] for row in ours], theirs))
    return found


def _unfinished(folder: Path) -> Measure:
    """The rise of the share of responses that ran into the token limit."""
    ends: dict[str, tuple[list[str], list[float]]] = {POLICY: ([], []), START: ([], [])}
    for _, row in read_rows(folder / "candidates.jsonl"):
        for draw in row["draws"]:
            model = str(draw.get("candidate") or "").rpartition("#")[0]
            if model in ends:
                ends[model][0].append(row["id"])
                ends[model][1].append(float(draw["finish_reason"] == "length"))
    return rise("unfinished", *ends[POLICY], *ends[START])


def _totals(folder: Path) -> dict[str, Any]:
    summaries = {
        path.parent.name: read_json(path) for path in sorted(folder.glob("*/summary.json"))
    }
    judged = [s for s in summaries.values() if "coverage" in s]
    data = summaries.get("3-dataset")
    return {
        "train": summaries["4-model"],
        "coverage": min(float(s["coverage"]) for s in judged),
        "cost_usd": sum(float(s.get("cost_usd", 0.0)) for s in judged),
        **({"rows": sum(data["rows"].values()), "held_back": data["held_back"]} if data else {}),
        **({"longer_chosen_share": data["longer_chosen_share"]} if data else {}),
    }
