"""Scores of the responses that stood after each round, by an independent judge, with intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rlaif.constitutional.records import Chain
from rlaif.stats.means import mean_interval
from rlaif.types import Candidate, Item, Message, Verdict


def standing_responses(chains: Iterable[Chain], rounds: int) -> Iterator[tuple[Item, Candidate]]:
    """Each prompt with the response that stood after each round, 0 to `rounds`.

    A chain that ended early stands as it ended. Its candidates are called `round-N`, and so are
    their models: a leaderboard of the verdicts has the rounds as its rows.
    """
    for chain in chains:
        if chain.first is None:
            continue
        texts = chain.standing()
        for number in range(rounds + 1):
            text = texts[min(number, len(texts) - 1)]
            name = f"round-{number}"
            yield chain.item, Candidate(name, (Message("assistant", text),), name)


def last_round(chains: Iterable[Chain]) -> int:
    """The most rounds that a chain has."""
    return max((len(chain.rounds) for chain in chains), default=0)


@dataclass(slots=True)
class RoundScores:
    """Scores by rubric and round, as verdicts bring them."""

    _scores: dict[str, dict[str, dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    _causes: dict[tuple[str, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    _asked: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count one verdict."""
        rubric = verdict.judge.rubric
        name = rubric.name if rubric else verdict.judge.model
        place = verdict.candidates[0].id
        self._asked[name, place] += 1
        if verdict.score is None:
            self._causes[name, place][str(verdict.cause)] += 1
        else:
            self._scores[name][place][verdict.item.id] = verdict.score.value

    def rows(self) -> list[dict[str, Any]]:
        """A row for each rubric and round: the mean with its 95 % interval, and its gain.

        `gain` is over the first response, prompt by prompt, of prompts that have both scores.
        """
        found = []
        for name, place in sorted(self._asked, key=lambda key: (key[0], _number(key[1]))):
            scores, n = self._scores[name][place], self._asked[name, place]
            first = self._scores[name]["round-0"]
            gains = [scores[item] - first[item] for item in scores if item in first]
            found.append(
                {
                    "rubric": name,
                    "round": _number(place),
                    "n": n,
                    "coverage": len(scores) / n,
                    "causes": dict(sorted(self._causes[name, place].items())),
                    "score": _interval(list(scores.values())),
                    "gain": _interval(gains) if place != "round-0" else None,
                }
            )
        return found


def _number(place: str) -> int:
    return int(place.rpartition("-")[2])


def _interval(values: list[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return {"value": values[0], "n": 1} if values else None
    found = mean_interval(values)
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
