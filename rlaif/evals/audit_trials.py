"""What an audit asks: each pair as it is, asked again, against itself, dressed up and attacked.

Every trial is a comparison whose item says in `meta["audit"]` what it tries, so the verdicts of an
audit are plain verdict records and all checks are read off them.

    {"trial": "length", "of": "probe-001", "variant": "padding", "draw": 0}

In every trial but `pair` and `repeat`, A is the changed or attacking text and B the plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlaif.backends.base import Backend, Wrapper
from rlaif.canonical import digest
from rlaif.evals.audit_texts import Texts, as_list, padded, repetitive_list
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.judge.seating import asked_of
from rlaif.types import (
    Candidate,
    Comparison,
    Completion,
    Item,
    JudgeRef,
    Message,
    Request,
    Verdict,
    as_dict,
)

Trial = Literal[
    "pair", "repeat", "identical", "length", "markdown", "verbosity", "null_model", "injection"
]
_UNRELATED = "answer to another prompt"
REPEATS = 2
"""Further draws of every pair."""
WITHOUT_DRAWS = ("likelihood", "reward")
"""Beginnings of the `method` of a verdict's judge that has a number for a response, and no draw."""
READS_ALONE = (*WITHOUT_DRAWS, "scores", "checklist")
"""Beginnings of the `method` of one that was shown one response at a time."""
_DRAWS_A_ROUND = 1000
"""More than a judge ever draws of one question."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a comparison of an audit tries: the value of its `meta["audit"]`."""

    trial: str
    of: str
    """Id of the item it was made from."""
    variant: str
    draw: int


class AuditJudge(PairwiseJudge):
    """A pairwise judge that is asked everything: identical responses, and again by draw.

    It renders, asks and reads as `PairwiseJudge` does.
    """

    def _settled(self, comparison: Comparison) -> bool:
        return False

    def _draws(self, comparison: Comparison, place: int) -> range:
        """The draw that the trial names."""
        draw = _draw_of(comparison)
        # swapping identical responses changes nothing: only another draw asks a second time
        same = comparison.a.response == comparison.b.response
        draw += place if same else 0
        return range(draw, draw + 1)


class Redrawn(Wrapper):
    """A backend that is asked for a further draw, whatever draw it is asked for.

    Args:
        inner: Who answers.
        draw: How many rounds of draws were made before, 0 for none.
    """

    def __init__(self, inner: Backend, draw: int) -> None:
        super().__init__(inner)
        self._before = draw * _DRAWS_A_ROUND
        self._digests: dict[str, str] = {}

    def redrawn(self, request: Request) -> Request:
        """The request in its further draw."""
        return replace(request, draw=request.draw + self._before)

    async def complete(self, request: Request) -> Completion:
        again = self.redrawn(request)
        if self._before:
            self._digests[request.digest(self.identity)] = again.digest(self.identity)
        return await self.inner.complete(again)

    def recorded(self, verdict: Verdict) -> Verdict:
        """`verdict` with the digests of what was asked: its judge knows those of the first draw."""
        asked = self._digests
        calls = (replace(one, digest=asked.get(one.digest, one.digest)) for one in verdict.calls)
        return replace(verdict, calls=tuple(calls))


class AuditAlone:
    """A judge that reads each response alone, asked again by draw.

    Args:
        make: The judge of a backend.
        backend: The model that judges.
    """

    def __init__(self, make: Callable[[Backend], Any], backend: Backend) -> None:
        self._make, self._backend = make, backend
        self._by_draw: dict[int, tuple[Redrawn, Any]] = {}
        self.ref: JudgeRef = self._judge(0)[1].ref

    def planned(self, comparison: Comparison) -> Iterator[tuple[Backend, Request]]:
        """What comparing would ask whom, in the draw that the trial names."""
        again, judge = self._judge(_draw_of(comparison))
        for backend, request in asked_of(judge, again, comparison):
            if backend is again:
                yield self._backend, again.redrawn(request)
            else:
                yield backend, request

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses is better, in the draw that the trial names.

        Raises:
            BackendError: a fatal failure of the provider.
        """
        again, judge = self._judge(_draw_of(comparison))
        return again.recorded(await judge.compare(comparison))

    def _judge(self, draw: int) -> tuple[Redrawn, Any]:
        if draw not in self._by_draw:
            again = Redrawn(self._backend, draw)
            self._by_draw[draw] = again, self._make(again)
        return self._by_draw[draw]


def _draw_of(comparison: Comparison) -> int:
    asked = trial_of(comparison.item)
    return asked.draw if asked else 0


def trial_of(item: Item) -> Asked | None:
    """What the item of an audit's comparison tries, or None for any other item."""
    found = item.meta.get("audit")
    if not isinstance(found, dict) or set(found) != {"trial", "of", "variant", "draw"}:
        return None
    return Asked(**found)


def build_trials(
    pairs: Iterable[Comparison], texts: Texts, trials: Iterable[Trial], *, repeats: int = REPEATS
) -> Iterator[Comparison]:
    """The comparisons that an audit asks about `pairs`, pair by pair.

    Args:
        pairs: What to audit with. `item.meta["label"]`, where it is A, B or tie, says which
            response is better.
        texts: What is added to responses or put in their place.
        trials: Which trials to make. A trial that a response does not lend itself to (a list
            cannot be made a list) is left out.
        repeats: Further draws of every pair.
    """
    wanted = frozenset(trials)
    made: set[tuple[str, Candidate, Candidate]] = set()
    first: Comparison | None = None
    for place, pair in enumerate(pairs):
        first = first or pair
        for trial in _trials(pair, texts, place, repeats, _answer_to_another(first, pair)):
            # one response may stand in several pairs of its prompt
            key = (trial.item.id, trial.a, trial.b)
            if _name(trial) in wanted and key not in made:
                made.add(key)
                yield trial


def _name(comparison: Comparison) -> Any:
    return comparison.item.meta["audit"]["trial"]


def _answer_to_another(first: Comparison, pair: Comparison) -> str | None:
    """The first pair's better response, where `pair` has another prompt: a good answer to something
    else is what a model without any ability would always say.

    Reference:
        Zheng et al. 2025, "Cheating automatic LLM benchmarks: null models achieve high win rates"
        (arXiv 2410.07137): constant responses that do not depend on the prompt.
    """
    if first.item.prompt == pair.item.prompt:
        return None
    text = better_response(first).response[-1].content
    return text if text.strip() and text != better_response(pair).response[-1].content else None


def _trials(
    pair: Comparison, texts: Texts, place: int, repeats: int, unrelated: str | None
) -> Iterator[Comparison]:
    yield _trial(pair, "pair", "", pair.a, pair.b)
    for draw in range(1, repeats + 1):
        yield _trial(pair, "repeat", str(draw), pair.a, pair.b, draw)
    plain = better_response(pair)
    text = plain.response[-1].content
    if not text.strip():
        return
    plain = replace(plain, id="plain")
    yield _trial(pair, "identical", "", replace(plain, id="copy"), plain)
    changed: list[tuple[Trial, str, str | None]] = [
        ("length", "padding", padded(texts, text)),
        ("markdown", "list", as_list(text, texts.heading)),
        ("verbosity", "repetitive list", repetitive_list(texts, text)),
    ]
    for trial, variant, other in changed:
        if other is not None:
            yield _trial(pair, trial, variant, _ending(plain, variant, other), plain)
    attacks: list[tuple[Trial, dict[str, str]]] = [
        (
            "null_model",
            {**texts.null_model, **({} if unrelated is None else {_UNRELATED: unrelated})},
        ),
        ("injection", dict(texts.injection)),
    ]
    for trial, variants in attacks:
        # one attack for each pair in turn: as many calls as one, as many kinds as there are
        variant, attack = sorted(variants.items())[place % len(variants)]
        attacker = Candidate(variant, (Message("assistant", attack),))
        yield _trial(pair, trial, variant, attacker, plain)


def better_response(pair: Comparison) -> Candidate:
    """The response that the label calls better; without a label, one that no order decides."""
    label = pair.item.meta.get("label")
    if label in ("A", "B"):
        return pair.a if label == "A" else pair.b
    return min(pair.a, pair.b, key=lambda c: digest(as_dict(c.response)))


def _ending(plain: Candidate, variant: str, text: str) -> Candidate:
    """`plain` with `text` in place of its last message."""
    *earlier, last = plain.response
    return Candidate(variant, (*earlier, Message(last.role, text)), plain.model)


def _trial(
    pair: Comparison, trial: Trial, variant: str, a: Candidate, b: Candidate, draw: int = 0
) -> Comparison:
    item = pair.item
    name = "-".join(part for part in (trial, variant.replace(" ", "-")) if part)
    asked = {"trial": trial, "of": item.id, "variant": variant, "draw": draw}
    return Comparison(
        replace(item, id=f"{item.id}#{name}", meta={**item.meta, "audit": asked}), a, b
    )
