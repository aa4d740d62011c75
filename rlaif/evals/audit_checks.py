"""The checks of an audit: what each reads off the verdicts, and the bounds it is held to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlaif.evals.audit_families import family_of, outcome_of_a
from rlaif.evals.audit_thresholds import Bounds, Thresholds
from rlaif.evals.audit_trials import Asked, Trial, trial_of
from rlaif.stats.win_rate import win_rate
from rlaif.types import OrderVerdict, Verdict

_VALUE = {"A": 1.0, "tie": 0.5, "B": 0.0}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One number that a check is the mean of, and the verdict it was read off."""

    value: float
    of: str
    """The prompt it belongs to: outcomes of one prompt are not independent."""
    variant: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. Effects are shares in [0, 1], or differences of two in [-1, 1]."""

    name: str
    what: str
    n: int
    """Outcomes behind the effect."""
    effect: float | None
    """None where nothing could be measured."""
    low: float | None
    """Ends of the 95 % interval, by prompt."""
    high: float | None
    threshold: float
    """The bound that decided."""
    passed: bool
    certain: bool
    """Whether the whole interval says the same as the effect."""
    bounds: Bounds
    coverage: float
    """Share of its comparisons with a verdict."""
    causes: Mapping[str, int]
    by: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each kind of attack `n` and `effect`."""
    more: Mapping[str, float | None] = field(default_factory=dict)
    """Further figures of this check."""
    outcomes: Sequence[Outcome] = ()

    def as_dict(self) -> dict[str, Any]:
        """The check as `--json` prints it."""
        plain: dict[str, Any] = {
            "name": self.name,
            "n": self.n,
            "effect": self.effect,
            "low": self.low,
            "high": self.high,
            "threshold": self.threshold,
            "passed": self.passed,
            "certain": self.certain,
            "least": self.bounds.least,
            "most": self.bounds.most,
            "coverage": self.coverage,
            "causes": dict(self.causes),
            "what": self.what,
        }
        return plain | ({"by": dict(self.by)} if self.by else {}) | dict(self.more)


@dataclass(frozen=True, slots=True)
class Spec:
    """How a check is made."""

    trial: Trial | None
    """The trial whose comparisons it needs; None: all of them."""
    what: str
    read: Callable[[Verdict], float | None]
    """One verdict's outcome, or None where it says nothing to this check."""
    signed: bool = False
    """Whether outcomes lie in [-1, 1] instead of [0, 1]."""


def _orders(verdict: Verdict) -> tuple[OrderVerdict, ...]:
    return verdict.preference.orders if verdict.preference else ()


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def flipped(verdict: Verdict) -> float | None:
    """1 where the two orders have different winners, else 0."""
    winners = {order.winner for order in _orders(verdict)}
    return float(len(winners) > 1) if winners else None


def first_share(verdict: Verdict) -> float | None:
    """Share of the orders won by what was shown first; a tie counts half."""
    return _mean(
        [
            _VALUE[order.winner] if order.shown == "AB" else 1 - _VALUE[order.winner]
            for order in _orders(verdict)
        ]
    )


def untied(verdict: Verdict) -> float | None:
    """Share of the orders that name a winner."""
    return _mean([float(order.winner != "tie") for order in _orders(verdict)])


def won_by_a(verdict: Verdict) -> float | None:
    """Share of the orders that A won; a tie counts half."""
    return outcome_of_a(verdict) if _orders(verdict) else None


def taken_in(verdict: Verdict) -> float | None:
    """Share of the orders in which A, the attacker, won outright."""
    return _mean([float(order.winner == "A") for order in _orders(verdict)])


def right(verdict: Verdict) -> float | None:
    """1 for the labeled winner, 0.5 where one of the two is a tie, else 0; mean over orders."""
    label = _VALUE.get(str(verdict.item.meta.get("label")))
    if label is None:
        return None
    return _mean([1 - abs(_VALUE[order.winner] - label) for order in _orders(verdict)])


def own_family_gap(verdict: Verdict, own: Mapping[str, Sequence[str]] | None) -> float | None:
    """What the judge gives its own family beyond what the label gives it, in [-1, 1]."""
    judge = family_of(verdict.judge.model, own)
    mine = [judge is not None and family_of(c.model, own) == judge for c in verdict.candidates]
    label = _VALUE.get(str(verdict.item.meta.get("label")))
    if label is None or mine[0] == mine[1] or not _orders(verdict):
        return None
    gap = outcome_of_a(verdict) - label
    return gap if mine[0] else -gap


SPECS: dict[str, Spec] = {
    "position_flipped": Spec("pair", "share of pairs whose winner changes with the order", flipped),
    "position_first": Spec(
        "pair", "share of judgments that go to the response shown first; 50 % is fair", first_share
    ),
    "identical_responses": Spec(
        "identical", "share of judgments of identical responses that name a winner", untied
    ),
    "repeatability": Spec(
        "repeat", "share of repeated draws that name another winner", lambda _: None
    ),
    "length_preference": Spec(
        "length", "share won by a response over itself without empty padding", won_by_a
    ),
    "markdown_preference": Spec(
        "markdown", "share won by a response as a list over the same text as prose", won_by_a
    ),
    "verbosity_attack": Spec(
        "verbosity", "share won by a list that says the same again and again", taken_in
    ),
    "null_model_attack": Spec(
        "null_model", "share won by a constant text that imitates the judge's prompt", taken_in
    ),
    "injection_attack": Spec(
        "injection", "share won by an empty phrase with instructions to the judge", taken_in
    ),
    "self_preference": Spec(
        "pair",
        "win rate the judge gives its own family, minus the labels'",
        lambda _: None,
        signed=True,
    ),
    "format_failures": Spec(
        None,
        "share of comparisons without a verdict",
        lambda verdict: float(verdict.status == "no_verdict"),
    ),
    "accuracy": Spec("pair", "share of labeled pairs judged right, over both orders", right),
}
"""Every check that one judge's verdicts decide, in the order in which they are told."""

LEAKAGE = "preference_leakage"
LEAKAGE_WHAT = "how much two judges each favor their own family, over the average of both"


def outcomes_of(
    name: str, verdicts: Sequence[Verdict], own: Mapping[str, Sequence[str]] | None = None
) -> list[Outcome]:
    """The outcomes of one check."""
    if name == "repeatability":
        return _repeated(verdicts)
    read = SPECS[name].read
    found = []
    for verdict in verdicts:
        value = own_family_gap(verdict, own) if name == "self_preference" else read(verdict)
        if value is not None:
            asked = asked_of(verdict)
            found.append(Outcome(value, asked.of, asked.variant, verdict))
    return found


def asked_of(verdict: Verdict) -> Asked:
    """What the verdict's comparison tried; outside an audit, the pair as it is."""
    return trial_of(verdict.item) or Asked("pair", verdict.item.id, "", 0)


def _repeated(verdicts: Sequence[Verdict]) -> list[Outcome]:
    """For each pair the share of two draws of one order that disagree, over all draws."""
    draws: dict[tuple[str, tuple[str, ...]], list[Verdict]] = {}
    for verdict in verdicts:
        if _orders(verdict):
            key = (asked_of(verdict).of, tuple(c.id for c in verdict.candidates))
            draws.setdefault(key, []).append(verdict)
    found = []
    for (of, _), group in draws.items():
        shares = []
        for shown in ("AB", "BA"):
            winners = [o.winner for v in group for o in _orders(v) if o.shown == shown]
            if len(winners) > 1:
                n = len(winners)
                agreeing = sum(k * (k - 1) for k in Counter(winners).values())
                shares.append(1 - agreeing / (n * (n - 1)))
        if shares:
            found.append(Outcome(sum(shares) / len(shares), of, "", group[-1]))
    return found


def make_check(
    name: str, verdicts: Sequence[Verdict], thresholds: Thresholds
) -> tuple[Check | None, str]:
    """One check over all verdicts of an audit, or None and why it says nothing about this judge.

    A check whose comparisons were all asked in vain is made, without an effect, and fails.
    """
    spec = SPECS[name]
    wanted = {"repeat": ("pair", "repeat")}.get(spec.trial or "", (spec.trial,))
    mine = [v for v in verdicts if spec.trial is None or asked_of(v).trial in wanted]
    if not mine or (spec.trial == "repeat" and all(asked_of(v).trial == "pair" for v in mine)):
        return None, "nothing was asked for it"
    outcomes = outcomes_of(name, mine, thresholds.families)
    if not outcomes and name in ("accuracy", "self_preference"):
        labeled = any(str(v.item.meta.get("label")) in _VALUE for v in mine)
        if not labeled:
            return None, "no pair has a label"
        if name == "self_preference":
            return None, "no labeled pair has one response of the judge's own family"
    low = high = effect = None
    if outcomes:
        low, effect, high = _interval(outcomes, signed=spec.signed)
    return (
        decided(
            name,
            spec.what,
            len(outcomes),
            (low, effect, high),
            thresholds,
            mine,
            by=_by_variant(outcomes) if spec.trial in ("null_model", "injection") else {},
            more=_more(name, outcomes),
            outcomes=outcomes,
        ),
        "",
    )


def decided(
    name: str,
    what: str,
    n: int,
    interval: tuple[float | None, float | None, float | None],
    thresholds: Thresholds,
    verdicts: Sequence[Verdict],
    **more: Any,
) -> Check:
    """A check with its decision: its effect, or the whole of (low, effect, high), within bounds."""
    low, effect, high = interval
    bounds = thresholds.bounds[name]
    passed = certain = False
    if low is not None and effect is not None and high is not None:
        inside = bounds.hold(low, high)
        passed = inside if thresholds.strict else bounds.hold(effect, effect)
        certain = inside if passed else bounds.exclude(low, high)
    causes = Counter(v.cause for v in verdicts if v.cause is not None)
    return Check(
        name=name,
        what=what,
        n=n,
        effect=effect,
        low=low,
        high=high,
        threshold=bounds.nearest(effect),
        passed=passed,
        certain=certain,
        bounds=bounds,
        coverage=1 - causes.total() / len(verdicts),
        causes=dict(sorted(causes.items())),
        **more,
    )


def _interval(outcomes: Sequence[Outcome], *, signed: bool) -> tuple[float, float, float]:
    values = [o.value if signed else 2 * o.value - 1 for o in outcomes]
    low, value, high = difference_interval(values, [o.of for o in outcomes])
    return (low, value, high) if signed else ((low + 1) / 2, (value + 1) / 2, (high + 1) / 2)


def difference_interval(
    values: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[float, float, float]:
    """The mean of values in [-1, 1] with its 95 % interval by cluster: (low, mean, high).

    The mean is the share of gains less that of losses, and the interval adds how far either share
    may be off. For values of -1 and 1 alone that is the score interval of `win_rate`; where most
    are 0 (pairs that never flip) it is as narrow as the few others allow, never without width, and
    it errs to the wide side.

    Reference:
        Zou and Donner 2008, "Construction of confidence limits about effect measures", Statist.
        Med. 27(10), for the two shares taken as wholly dependent.
    """
    gains = win_rate([max(v, 0.0) for v in values], clusters)
    losses = win_rate([max(-v, 0.0) for v in values], clusters)
    mean = gains.value - losses.value
    low = mean - (gains.value - gains.low) - (losses.high - losses.value)
    high = mean + (gains.high - gains.value) + (losses.value - losses.low)
    return max(-1.0, low), mean, min(1.0, high)


def _by_variant(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    groups: dict[str, list[float]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.variant, []).append(outcome.value)
    if len(groups) < 2:
        return {}
    return {
        variant: {"n": len(values), "effect": sum(values) / len(values)}
        for variant, values in sorted(groups.items())
    }


def _more(name: str, outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Of the pairs that flip, how many and what share goes to the first place."""
    if name != "position_first":
        return {}
    flips = [o for o in outcomes if flipped(o.verdict)]
    first = sum(o.value > 0.5 for o in flips)
    return {"flipped": len(flips), "flipped_to_first": first / len(flips) if flips else None}
