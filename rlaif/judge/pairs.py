"""What a reply says about a pair, as it was shown: winner, P(first preferred), how strongly. Pure.

    reading = PairReader(ties=False).mark(completion)
    reading.winner, reading.p_first, reading.source, reading.missing_mass

Of five verdicts "slightly better" is a preference held with less confidence: it leaves the other
response a quarter of the probability, so that two orders that differ in strength still count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaif.errors import VerdictError
from rlaif.judge.endings import Levels, pair_labels, pair_tokens
from rlaif.judge.labels import LEAST_MASS, Spread, first_place, label_spread, place_of
from rlaif.judge.parsing import (
    check_ended,
    no_mark,
    parse_label,
    parse_winner_mark,
    unreadable,
    without_thinking,
)
from rlaif.judge.structured import parse_object, value_offset
from rlaif.types import Completion, PreferenceSource, Winner

_P_LABEL = {
    "A": 1.0, "tie": 0.5, "B": 0.0,
    "A>>B": 1.0, "A>B": 0.75, "A=B": 0.5, "B>A": 0.25, "B>>A": 0.0,
}  # fmt: skip
_SPELLINGS = {"tie": ("tie", "Tie", "C", "t"), "A": ("A",), "B": ("B",)}
_TURNED = {"A>>B": "B>>A", "A>B": "B>A", "A=B": "A=B", "B>A": "A>B", "B>>A": "A>>B"}


@dataclass(frozen=True, slots=True)
class PairReading:
    """A verdict on a pair as it was shown."""

    winner: Winner
    p_first: float
    """P(first preferred), 0..1."""
    source: PreferenceSource
    level: str | None = None
    """One of five verdicts, where those were asked for."""
    missing_mass: float | None = None
    """Probability on no label, where token probabilities were read."""


def turned(level: str | None) -> str | None:
    """One of five verdicts, seen with the responses the other way round."""
    return _TURNED[level] if level is not None else None


def label_winner(label: str) -> Winner:
    """Who a verdict on a pair names, however strongly."""
    if label in ("tie", "A=B"):
        return "tie"
    return "A" if label[0] == "A" else "B"


@dataclass(frozen=True, slots=True)
class PairReader:
    """Reads replies about pairs by the verdicts that were asked for."""

    ties: bool = True
    levels: Levels = 3
    least_mass: float = LEAST_MASS
    """Probability that must lie on the labels of a reply that is one token."""

    def mark(self, completion: Completion) -> PairReading:
        """The verdict of the last mark.

        Raises:
            VerdictError: the reply was refused, cut off, or holds no verdict that was asked for.
        """
        if self.levels == 5:
            return self._labelled(parse_label(completion), completion)
        winner, p_first, missing = parse_winner_mark(completion)
        if winner == "tie" and not self.ties:
            raise _tie(completion)
        if missing is None:
            return PairReading(winner, p_first, "verdict")
        return PairReading(winner, p_first, "tokens", missing_mass=missing)

    def structured(self, completion: Completion) -> PairReading:
        """The verdict of the JSON object that the reply is, else of its last mark.

        Raises:
            VerdictError: the reply was refused, cut off, or holds no verdict that was asked for.
        """
        check_ended(completion)
        if (found := parse_object(completion)) is None or "verdict" not in found[0]:
            return self.mark(completion)
        fields, start = found
        labels = pair_labels(self.ties, self.levels)
        said = fields["verdict"]
        if said not in labels:
            raise unreadable(completion, f'"verdict" is not one of {", ".join(labels)}')
        spread = self._spread_in(completion, start, said)
        if spread is None or not spread.holds():
            return self._labelled(said, completion)
        return self._soft(said, spread)

    def _spread_in(self, completion: Completion, start: int, said: str) -> Spread | None:
        if self.levels == 5 or not completion.tokens:
            return None
        offset = value_offset(completion, start, "verdict")
        place = place_of(completion, offset) if offset is not None else None
        return label_spread(place, said, _spelled(pair_labels(self.ties, 3))) if place else None

    def token(self, completion: Completion) -> PairReading:
        """The verdict of a reply that is one token, by the probabilities of all that it may be.

        Without token probabilities it is the label that was given. The reply ends at its length as
        a rule, so that is no fault.

        Raises:
            VerdictError: the reply was refused, names no label, or too little of the probability
                lies on labels.
        """
        if completion.finish_reason == "refusal":
            check_ended(completion)
        tokens = pair_tokens(self.ties, self.levels)
        place = first_place(completion)
        if place is None:
            text = without_thinking(completion.text)
            said = text.strip().strip("[]()*\"'.: \n")
            if said not in tokens:
                raise no_mark(completion, text, f"the reply is not one of {', '.join(tokens)}")
            return self._labelled(tokens[said], completion)
        spread = label_spread(place, "", tokens)
        if not spread.holds(self.least_mass):
            message = f"only {1 - spread.missing_mass:.0%} of the probability lies on the labels"
            raise unreadable(completion, message)
        return self._soft(max(spread.p, key=lambda label: spread.p[label]), spread)

    def _soft(self, label: str, spread: Spread) -> PairReading:
        p_first = sum(_P_LABEL[name] * p for name, p in spread.p.items())
        return PairReading(
            label_winner(label), min(p_first, 1.0), "tokens", self._level(label),
            spread.missing_mass,
        )  # fmt: skip

    def _labelled(self, label: str, completion: Completion) -> PairReading:
        if label_winner(label) == "tie" and not self.ties:
            raise _tie(completion)
        return PairReading(label_winner(label), _P_LABEL[label], "verdict", self._level(label))

    def _level(self, label: str) -> str | None:
        return label if self.levels == 5 else None


def rationale_in(completion: Completion) -> str | None:
    """The reasons in a reply that is a JSON object."""
    found = parse_object(completion)
    reasons: Any = found[0].get("rationale") if found else None
    return reasons.strip() or None if isinstance(reasons, str) else None


def _spelled(labels: tuple[str, ...]) -> Mapping[str, str]:
    return {spelling: label for label in labels for spelling in _SPELLINGS[label]}


def _tie(completion: Completion) -> VerdictError:
    return unreadable(completion, "a tie was not among the verdicts")
