"""What an audit asks: each pair as it is, asked again, against itself, dressed up and attacked.

Every trial is a comparison whose item says in `meta["audit"]` what it tries, so the verdicts of an
audit are plain verdict records and all checks are read off them.

    {"trial": "length", "of": "probe-001", "variant": "padding", "draw": 0}

In every trial but `pair` and `repeat`, A is the changed or attacking text and B the plain one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlaif.canonical import digest
from rlaif.evals.audit_texts import Texts, as_list, padded, repetitive_list
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.types import Candidate, Comparison, Item, Message, as_dict

Trial = Literal[
    "pair", "repeat", "identical", "length", "markdown", "verbosity", "null_model", "injection"
]
_UNRELATED = "answer to another prompt"
REPEATS = 2
"""Further draws of every pair."""


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
        asked = trial_of(comparison.item)
        draw = asked.draw if asked else 0
        # swapping identical responses changes nothing: only another draw asks a second time
        same = comparison.a.response == comparison.b.response
        draw += place if same else 0
        return range(draw, draw + 1)


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
