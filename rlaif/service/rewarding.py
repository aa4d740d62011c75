"""Rewards in the protocols of trainers: our own, OpenRLHF's, and groups as NeMo Gym sends them.

Our own, `/v1/rewards`, says `null` where there is no verdict. The others have no word for that: the
whole batch is answered 503 with the causes, unless the configuration sets a neutral reward.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from statistics import fmean, pstdev
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlaif.canonical import json_bytes
from rlaif.errors import SpecError
from rlaif.rewards.frameworks import response_in
from rlaif.rewards.judge_reward import By, JudgeReward, Step
from rlaif.rewards.texts import candidate_of, item_of
from rlaif.service.accounts import Caller
from rlaif.service.bodies import JSON, count_of, list_of, only, read_json, text_of
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.judges import Seat
from rlaif.service.state import Service, service_of
from rlaif.specs.describe import describe

_MOST_OPPONENTS = 10_000
_REMEMBERED = 200_000
"""Rewards that a process remembers, 32 bytes of key each: a trainer sends the same again."""


class ServedReward(JudgeReward):
    """A judge's rewards on the server's own event loop, where its connections live."""

    async def judged(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        references: Sequence[Any] | None = None,
    ) -> Step:
        given = references if references is not None else [None] * len(prompts)
        items = [item_of(p, r) for p, r in zip(prompts, given, strict=True)]
        candidates = [candidate_of(completion) for completion in completions]
        work = self._scored if self.by == "score" else self._compared
        return await work(items, candidates)


class Remembered:
    """Rewards of responses that were judged before, by what was sent; the oldest are forgotten."""

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._kept: OrderedDict[bytes, float] = OrderedDict()
        self._most = most

    def get(self, keys: Iterable[bytes]) -> list[float | None]:
        """The reward under each key, None where it is not remembered."""
        return list(map(self._kept.get, keys))

    def put(self, key: bytes, reward: float) -> None:
        """Remember a reward."""
        self._kept[key] = reward
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


async def rewards(request: Request) -> Response:
    """The reward of each completion, in [-1, 1], `null` where there is no verdict."""
    service, caller = service_of(request), caller_of(request, "judge")
    body = await read_json(request)
    only(body, "prompts", "completions", "references", "judge", "rubric", "by", "opponents")
    prompts = _bounded(service, list_of(body, "prompts"), "prompts")
    completions = list_of(body, "completions", len(prompts))
    references = body.get("references")
    if references is not None:
        references = list_of(body, "references", len(prompts))
    seat = _seat(service, caller, text_of(body, "judge"), text_of(body, "rubric"))
    by = _by(body.get("by", "score"))
    opponents = count_of(body, "opponents", _MOST_OPPONENTS, "a count")
    step = await _reward(seat, by, opponents).judged(prompts, completions, references)
    service.judged(step.verdicts)
    calls = [call for verdict in step.verdicts for call in verdict.calls]
    paid = sum(call.cost_usd or 0.0 for call in calls if not call.cached)
    answer = {"rewards": step.rewards, "causes": step.causes, "cost_usd": paid}
    return Response(json_bytes(answer), media_type=JSON)


async def get_reward(request: Request) -> Response:
    """OpenRLHF's remote reward: `query`, `prompts` and `labels` to `rewards` and `scores`."""
    service, caller = service_of(request), caller_of(request, "judge")
    body = await read_json(request)
    queries = _bounded(service, list_of(body, "query"), "query")
    prompts = list_of(body, "prompts", len(queries))
    labels = body.get("labels")
    labels = [None] * len(queries) if labels is None else list_of(body, "labels", len(queries))
    for name, texts in (("query", queries), ("prompts", prompts)):
        if set(map(type, texts)) != {str}:
            raise SpecError("should hold texts", field=name)
    known = _remembered(request)
    labels = [one if isinstance(one, str) else None for one in labels]
    keys = _keys(caller, queries, prompts, labels)
    found = known.get(keys)
    causes: list[str | None] = [None] * len(keys)
    # by comparison a reward depends on the rest of its group, so it is worked out anew
    single = service.config.reward.by == "score"
    left = [place for place, reward in enumerate(found) if reward is None or not single]
    if left:
        seat = _seat(service, caller, service.config.reward.judge, None)
        step = await _reward(
            seat, service.config.reward.by, service.config.reward.opponents
        ).judged(
            [prompts[place] for place in left],
            [response_in(queries[place], prompts[place]) for place in left],
            [labels[place] for place in left],
        )
        service.judged(step.verdicts)
        for place, reward, cause in zip(left, step.rewards, step.causes, strict=True):
            found[place], causes[place] = reward, cause
            if reward is not None and single:
                known.put(keys[place], reward)
    filled = _filled(service, found, causes)
    answer = {
        "rewards": filled,
        "scores": [(reward + 1.0) / 2.0 for reward in filled],
        "extra_logs": {"no_verdict": [float(cause is not None) for cause in causes]},
    }
    return Response(json_bytes(answer), media_type=JSON)


async def compare_group(request: Request) -> Response:
    """NeMo Gym's groupwise reward: a conversation and the responses to it, compared in pairs."""
    service, caller = service_of(request), caller_of(request, "judge")
    body = await read_json(request)
    history = _bounded(service, list_of(body, "conversation_history"), "conversation_history")
    objects = _bounded(service, list_of(body, "response_objs"), "response_objs")
    if len(objects) < 2:
        raise SpecError("needs two responses or more", field="response_objs")
    completions = [_output_text(one, place) for place, one in enumerate(objects)]
    principle = text_of(body, "principle")
    if principle is not None:
        history = [{"role": "system", "content": f"Judge by this: {principle}"}, *history]
    config = service.config.reward
    seat = _seat(service, caller, config.judge, None)
    step = await _reward(seat, "comparison", config.opponents).judged(
        [history] * len(objects), completions
    )
    service.judged(step.verdicts)
    filled = _filled(service, step.rewards, step.causes)
    places: dict[str, list[int]] = {}
    for place, text in enumerate(completions):
        places.setdefault(candidate_of(text).id, []).append(place)
    results = [row for verdict in step.verdicts for row in _outcomes(verdict, places)]
    metrics = {
        "mean_individual_score": fmean(filled),
        "std_individual_score": pstdev(filled),
        "tiebreak_usage_rate": 0.0,
        "no_verdict": float(sum(verdict.status != "ok" for verdict in step.verdicts)),
    }
    answer = {"rewards": filled, "comparison_results": results, "metrics": metrics}
    return Response(json_bytes(answer), media_type=JSON)


def _outcomes(verdict: Any, places: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """One comparison as NeMo Gym tells it, scores on 1 to 5 and the ranking on 1 to 6."""
    if verdict.preference is None:
        return []
    p = verdict.preference.p_a
    first, second = (places[candidate.id][0] for candidate in verdict.candidates)
    return [
        {
            "response_i": first,
            "response_j": second,
            "judge_idx": 0,
            "score_1": 1.0 + 4.0 * p,
            "score_2": 1.0 + 4.0 * (1.0 - p),
            "ranking": 6.0 - 5.0 * p,
        }
    ]


def _output_text(value: Any, place: int) -> str:
    """The text of a response object: of its messages, the text parts.

    One that only reasoned, or was cut off before it said anything, said nothing, and is judged so.
    """
    output = value.get("output") if isinstance(value, Mapping) else None
    if not isinstance(output, list):
        raise SpecError("has no list output", field=f"response_objs.{place}")
    texts = [
        part["text"]
        for message in output
        if isinstance(message, Mapping) and message.get("type") == "message"
        for part in _listed(message.get("content"))
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    ]
    return "".join(texts)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _filled(
    service: Service, rewards: Sequence[float | None], causes: Sequence[str | None]
) -> list[float]:
    """The rewards, the neutral one where there is none.

    Raises:
        Problem: one is missing, and no neutral reward is configured.
    """
    neutral = service.config.reward.neutral
    if neutral is not None:
        return [neutral if reward is None else reward for reward in rewards]
    filled = [reward for reward in rewards if reward is not None]
    if len(filled) < len(rewards):
        why = Counter(cause or "unread" for cause in causes if cause is not None)
        told = ", ".join(f"{count} {cause}" for cause, count in sorted(why.items()))
        raise Problem(503, f"no verdict for {told}", retry_after_s=1, causes=dict(why))
    return filled


def _seat(service: Service, caller: Caller, judge: str | None, rubric: str | None) -> Seat:
    return service.bench.seat(judge or "default", rubric, caller.id, service.budget(caller))


def _reward(seat: Seat, by: By, opponents: int | None) -> ServedReward:
    judge = seat.pointwise if by == "score" else seat.pairwise
    return ServedReward(judge, by=by, opponents=opponents, on_outage="mask")


def _by(value: object) -> By:
    if value not in ("score", "comparison"):
        raise SpecError(f"is 'score' or 'comparison', not {describe(value)}", field="by")
    return value


def _bounded(service: Service, values: list[Any], name: str) -> list[Any]:
    if not values:
        raise SpecError("is empty", field=name)
    if len(values) > service.config.limits.batch:
        raise Problem(413, f"{name} may have {service.config.limits.batch:,} entries")
    return values


def _remembered(request: Request) -> Remembered:
    found: Remembered = request.app.state.remembered
    return found


def _keys(
    caller: Caller, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]
) -> list[bytes]:
    """What responses are remembered under: their texts with their lengths, so that none can pass
    for another, and the caller, whose rewards are nobody else's.
    """
    who = caller.id
    return [
        sha256(f"{who} {len(q)} {len(p)} {type(x) is str} {q}{p}{x}".encode()).digest()
        for q, p, x in zip(queries, prompts, labels, strict=True)
    ]
