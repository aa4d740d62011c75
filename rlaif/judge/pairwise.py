"""Two responses compared by a rubric, each pair asked in both orders.

judge = PairwiseJudge(backend, load_rubric("helpfulness"))
verdict = await judge.compare(Comparison(item, a, b))
verdict.preference.p_a          # P(a preferred), mean over both orders
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

from rlaif.backends.base import Backend
from rlaif.canonical import digest
from rlaif.errors import ConfigError, VerdictError
from rlaif.judge.common import RubricSource, rubric_for, rubric_ref
from rlaif.judge.endings import Levels
from rlaif.judge.hearing import (
    REFERENCE_STAND_IN,
    hear_all,
    hear_reference,
    own_reference,
)
from rlaif.judge.labels import LEAST_MASS
from rlaif.judge.markers import Markers
from rlaif.judge.pair_form import PairForm, PairMethod, combine_orders, order_verdict
from rlaif.judge.record import Record
from rlaif.judge.rendering import render_orders
from rlaif.judge.screening import OnInjection, Screen
from rlaif.judge.settings import MAX_CHARS, ReferenceFrom, Settings, TooLong
from rlaif.specs.rubric import Rubric
from rlaif.types import Comparison, JudgeRef, Preference, Request, Sampling, Shown, Verdict

Orders = Literal["both", "AB", "random"]
Ties = Literal["allowed", "forced"]

_TOP_LOGPROBS = {"verdict": 5, "token": 20}

__all__ = ["Orders", "PairwiseJudge", "Ties", "combine_orders"]


class PairwiseJudge:
    """A judge that compares two responses by a rubric.

    Args:
        backend: The model that judges.
        rubric: What it judges by, or what names the rubric of each item.
        sampling: How it draws its replies; greedy by default.
        top_logprobs: How many token probabilities to ask for, for a soft p(A); 0 for none. By
            default 5, and 20 where one token is all that is read.
        method: `verdict` asks for a verdict mark, with reasons where the rubric wants them. `token`
            asks for one token and reads the probabilities of all labels: one prefill, no decoding.
        orders: Both, always; or, to do as older tools did, AB alone or one order drawn by `seed`.
            With one order position bias goes unseen, and `consistent` says nothing.
        seed: Draws the order where `orders` is `random`.
        draws: Replies per order; p_a is their mean. More than half must be readable.
        ties: Whether the judge may call a tie. Two forced orders that disagree are one still.
        levels: Three verdicts, or five from A>>B to B>>A. "Slightly" leaves the other response a
            quarter of p.
        reference: `judge` lets the judge answer the prompt itself, before it sees the responses,
            where the item brings no reference: one call a prompt, kept in the reply store.
        reask: Whether a judge whose reply cannot be read is told so, once.
        structured: Ask for a JSON object, held to a schema where the backend can.
        least_mass: Probability that must lie on the labels where one token is all that is read;
            with less there is no verdict. Weak models may need less; `missing_mass` says how much.
        max_chars, too_long: A longer response is refused (no verdict, `truncated`) before any call,
            or cut in the middle where the judge sees it.
        markers: Where the codes in the tags around judged text come from. Give one with a key where
            responses may come from somebody who wants to win.
        on_injection: Whether an attempt on the judge is a flag beside the verdict, or leaves none.
        constant: Fingerprints of responses that recur over prompts, from
            `rlaif.judge.detect.constant_responses`.

    Raises:
        ConfigError: options contradict each other.
    """

    def __init__(
        self,
        backend: Backend,
        rubric: RubricSource,
        *,
        sampling: Sampling | None = None,
        top_logprobs: int | None = None,
        method: PairMethod = "verdict",
        orders: Orders = "both",
        seed: int = 0,
        draws: int = 1,
        ties: Ties = "allowed",
        levels: Levels = 3,
        reference: ReferenceFrom = "given",
        reask: bool = True,
        structured: bool = False,
        least_mass: float = LEAST_MASS,
        max_chars: int = MAX_CHARS,
        too_long: TooLong = "refuse",
        markers: Markers | None = None,
        on_injection: OnInjection = "flag",
        constant: Collection[int] = (),
    ) -> None:
        self._backend = backend
        self._rubric = rubric
        self._markers = markers or Markers()
        self._settings = Settings(
            sampling=sampling or Sampling(),
            top_logprobs=_TOP_LOGPROBS[method] if top_logprobs is None else top_logprobs,
            draws=draws,
            reask=reask,
            structured=structured,
            reference=reference,
            least_mass=least_mass,
            max_chars=max_chars,
            too_long=too_long,
        )
        if method == "verdict" and least_mass != LEAST_MASS:
            raise ConfigError("least_mass is for the method token: a verdict's mark is one without")
        if method == "token" and structured:
            raise ConfigError("a verdict of one token is no JSON object: choose one")
        self._screen = Screen(self._settings, on_injection, constant)
        self._form = PairForm(method, ties == "allowed", levels, self._settings)
        self._orders: Orders = orders
        self._seed = seed
        fixed = rubric if isinstance(rubric, Rubric) else None
        if fixed is not None:
            self._settings.check_rubric(fixed)
        extras = [*self._order_words(), *self._settings.named(), *self._screen.named()]
        name = ", ".join([*self._form.named(), *extras])
        ref = rubric_ref(fixed) if fixed is not None else None
        self.ref = JudgeRef(backend.model, name, self._settings.sampling, ref)

    def _order_words(self) -> list[str]:
        if self._orders == "both":
            return []
        return ["order AB"] if self._orders == "AB" else [f"random order, seed {self._seed}"]

    def requests(self, comparison: Comparison) -> list[Request]:
        """What comparing would ask where every reply can be read.

        None for identical responses, and where the judge is not asked. A reference that the judge
        has yet to write is stood in for.
        """
        item, candidates = comparison.item, (comparison.a, comparison.b)
        rubric, first = rubric_for(self._rubric, item), []
        flags = self._screen.flags(rubric, item, candidates)
        if self._settled(comparison) or self._screen.objection(item, candidates, flags):
            return []
        if self._settings.writes_reference(item):
            first = [own_reference(item, self._settings.sampling)]
            comparison = _with_reference(comparison, REFERENCE_STAND_IN)
        return [*first, *(request for _, request in self._asks(rubric, comparison))]

    def _settled(self, comparison: Comparison) -> bool:
        """Whether there is nothing to ask: the responses are the same."""
        return comparison.a.response == comparison.b.response

    def _draws(self, comparison: Comparison, place: int) -> range:
        """The numbers of the draws, in the order at this place."""
        del comparison, place
        return range(self._settings.draws)

    def _shown(self, comparison: Comparison) -> tuple[Shown, ...]:
        if self._orders == "both":
            return ("AB", "BA")
        if self._orders == "AB":
            return ("AB",)
        key = [self._seed, comparison.item.id, comparison.a.id, comparison.b.id]
        return ("AB",) if int(digest(key)[:8], 16) % 2 else ("BA",)

    def _asks(self, rubric: Rubric, comparison: Comparison) -> list[tuple[Shown, Request]]:
        """The requests, the draws of one order together."""
        settings, form = self._settings, self._form
        orders = self._shown(comparison)
        ending = form.ending(rubric.reasoning)
        a, b = settings.fitted(comparison.a), settings.fitted(comparison.b)
        pair = Comparison(comparison.item, a, b)
        seen = render_orders(rubric, pair, orders, ending=ending, markers=self._markers)
        return [
            (shown, form.request(said, rubric.reasoning, draw, seen.shared, seen.code))
            for place, (shown, said) in enumerate(zip(orders, seen.messages, strict=True))
            for draw in self._draws(comparison, place)
        ]

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses is better, asked in both orders.

        Identical responses are a tie without a call. An empty response is judged like any other,
        and flagged. If either order cannot be read, there is no verdict: half an answer would carry
        the judge's position bias.

        Raises:
            DataError: the rubric needs a reference and the item has none.
            ConfigError: the judge writes references and the item's rubric shows none.
            BackendError: a fatal failure of the provider.
        """
        item, candidates = comparison.item, (comparison.a, comparison.b)
        rubric = rubric_for(self._rubric, item)
        judge = self.ref
        if judge.rubric is None:
            self._settings.check_rubric(rubric)
            judge = replace(judge, rubric=rubric_ref(rubric))
        flags = self._screen.flags(rubric, item, candidates)
        record = Record("comparison", item, candidates, judge, flags)
        if self._settled(comparison):
            return record.verdict(preference=Preference("tie", 0.5, (), consistent=True))
        if (why := self._screen.objection(item, candidates, flags)) is not None:
            return record.nothing(why)
        try:
            if self._settings.writes_reference(item):
                written = await hear_reference(self._backend, item, self._settings.sampling)
                record = record.after(written.calls)
                comparison = _with_reference(comparison, written.read())
            return await self._judged(record, rubric, comparison)
        except VerdictError as error:
            return record.nothing(error)

    async def _judged(self, record: Record, rubric: Rubric, comparison: Comparison) -> Verdict:
        asks = self._asks(rubric, comparison)
        read, correct = self._form.read, self._form.correct()
        heard = await hear_all(self._backend, asks, read, correct=correct)
        record = record.after(call for one in heard for call in one.calls)
        draws = self._settings.draws
        try:
            orders = [
                order_verdict(asks[start][0], heard[start : start + draws])
                for start in range(0, len(asks), draws)
            ]
        except VerdictError as error:
            return record.nothing(error)
        reasons = heard[0].rationale if self._form.method == "verdict" else None
        return record.verdict(preference=combine_orders(orders), rationale=reasons)


def _with_reference(comparison: Comparison, reference: str) -> Comparison:
    """The comparison as the judge sees it. The record keeps the item as it came."""
    return replace(comparison, item=replace(comparison.item, reference=reference))
