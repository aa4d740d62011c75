"""One response graded by a rubric: each criterion on its scale, weighted into one score.

judge = PointwiseJudge(backend, load_rubric("helpfulness"), method="expectation")
verdict = await judge.score(item, candidate)
verdict.score.value             # mean of P(level) over the scale's levels
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from rlaif.backends.base import Backend
from rlaif.errors import ConfigError, VerdictError
from rlaif.judge.common import RubricSource, rubric_for, rubric_ref
from rlaif.judge.hearing import (
    REFERENCE_STAND_IN,
    ahead,
    enough,
    hear_reference,
    own_reference,
    together,
)
from rlaif.judge.labels import LEAST_MASS
from rlaif.judge.markers import Markers
from rlaif.judge.record import Record
from rlaif.judge.scales import Aggregate, CriterionScore, aggregate_grades, combined_score
from rlaif.judge.score_form import CriteriaCalls, Graded, ScoreForm, ScoreMethod, parts_of
from rlaif.judge.screening import OnInjection, Screen
from rlaif.judge.settings import MAX_CHARS, ReferenceFrom, Settings, TooLong, check_draws
from rlaif.specs.rubric import Rubric
from rlaif.types import Candidate, Item, JudgeRef, Kind, Request, Sampling, Verdict

_TOP_LOGPROBS = {"verdict": 10, "expectation": 20}
FALLBACK_DRAWS = 10
"""Draws that stand in for probabilities where a backend gives none."""
_MOST_RUBRICS = 1024


class PointwiseJudge:
    """A judge that grades one response on each criterion of a rubric.

    Args:
        backend: The model that judges.
        rubric: What it judges by, or what names the rubric of each item.
        sampling: How it draws its replies; greedy by default.
        top_logprobs: How many token probabilities to ask for, for expected grades; 0 for none. By
            default 10, and 20 where the level is all that is read.
        method: `verdict` asks for grade marks, with reasons where the rubric wants them.
            `expectation` asks for the level alone, one call a criterion, and takes the mean over
            the probabilities of all levels: one prefill, no decoding. Where the backend gives no
            probabilities, it is the mean of `draws` replies.
        draws: Replies per call; the grade is their mean. More than half must be readable. By
            default 1, and 10 for an expectation without probabilities, drawn at temperature 1 where
            `sampling` is greedy.
        criteria_calls: All criteria in `one` call, or one call for `each`, in which the judge sees
            that criterion alone.
        aggregate: The mean of a distribution over levels, or its `mode`.
        reference: `judge` lets the judge answer the prompt itself, before it sees the response,
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
        method: ScoreMethod = "verdict",
        draws: int | None = None,
        criteria_calls: CriteriaCalls | None = None,
        aggregate: Aggregate = "mean",
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
        if method == "expectation" and criteria_calls == "one":
            raise ConfigError("an expectation reads one level a call: ask each criterion by itself")
        if method == "verdict" and least_mass != LEAST_MASS:
            raise ConfigError("least_mass is for the method expectation: a grade is one without")
        if method == "expectation" and structured:
            raise ConfigError("a level alone is no JSON object: choose one")
        if draws is not None:
            check_draws(draws)
        self._backend = backend
        self._rubric = rubric
        self._settings = Settings(
            sampling=sampling or Sampling(),
            top_logprobs=_TOP_LOGPROBS[method] if top_logprobs is None else top_logprobs,
            draws=(draws or 1) if method == "verdict" else 1,
            reask=reask,
            structured=structured,
            reference=reference,
            least_mass=least_mass,
            max_chars=max_chars,
            too_long=too_long,
        )
        self._screen = Screen(self._settings, on_injection, constant)
        self._each = method == "expectation" or criteria_calls == "each"
        self._form = ScoreForm(
            method, self._settings, draws or FALLBACK_DRAWS, markers or Markers()
        )
        self._parts: dict[str, tuple[Rubric, ...]] = {}
        self._aggregate: Aggregate = aggregate
        fixed = rubric if isinstance(rubric, Rubric) else None
        if fixed is not None:
            self._settings.check_rubric(fixed)
        ref = rubric_ref(fixed) if fixed is not None else None
        self.ref = JudgeRef(backend.model, self._name(), self._settings.sampling, ref)

    def _name(self) -> str:
        form = self._form
        words: list[str] = [form.method]
        if form.method == "verdict":
            words += ["one criterion a call"] if self._each else []
        elif form.fallback_draws != FALLBACK_DRAWS:
            words.append(f"or {form.fallback_draws} draws")
        mode = ["mode"] if self._aggregate == "mode" else []
        return ", ".join([*words, *mode, *self._settings.named(), *self._screen.named()])

    def _parts_of(self, rubric: Rubric) -> tuple[Rubric, ...]:
        """The rubrics to ask about, made once: a rubric's digest costs more than a judgment."""
        if (known := self._parts.get(rubric.digest)) is None:
            if len(self._parts) >= _MOST_RUBRICS:
                self._parts.clear()
            known = self._parts[rubric.digest] = parts_of(rubric, self._each)
        return known

    def requests(self, item: Item, candidate: Candidate) -> list[Request]:
        """What grading would ask where every reply can be read, and has probabilities.

        None where the judge is not asked. A reference that the judge has yet to write is stood in
        for.
        """
        rubric, first = rubric_for(self._rubric, item), []
        flags = self._screen.flags(rubric, item, (candidate,))
        if self._screen.objection(item, (candidate,), flags):
            return []
        if self._settings.writes_reference(item):
            first = [own_reference(item, self._settings.sampling)]
            item = replace(item, reference=REFERENCE_STAND_IN)
        candidate = self._settings.fitted(candidate)
        parts = self._parts_of(rubric)
        asks = [self._form.requests(p, item, candidate, parts=len(parts)) for p in parts]
        return [*first, *(request for ask in asks for request in ask)]

    async def score(self, item: Item, candidate: Candidate) -> Verdict:
        """The grade of `candidate`. An empty response is graded like any other, and flagged.

        Raises:
            DataError: the rubric needs a reference and the item has none.
            ConfigError: the judge writes references and the item's rubric shows none.
            BackendError: a fatal failure of the provider.
        """
        record, rubric, why = self.begun("score", item, (candidate,))
        if why is not None:
            return record.nothing(why)
        try:
            if self._settings.writes_reference(item):
                written = await hear_reference(self._backend, item, self._settings.sampling)
                record = record.after(written.calls)
                item = replace(item, reference=written.read())
        except VerdictError as error:
            return record.nothing(error)
        return await self._graded(record, rubric, item, self._settings.fitted(candidate))

    def begun(
        self, kind: Kind, item: Item, candidates: tuple[Candidate, ...]
    ) -> tuple[Record, Rubric, VerdictError | None]:
        """The record, the rubric, and why the judge is not asked, if it is not.

        Raises:
            ConfigError: the judge writes references and the item's rubric shows none.
        """
        rubric, judge = rubric_for(self._rubric, item), self.ref
        if judge.rubric is None:
            self._settings.check_rubric(rubric)
            judge = replace(judge, rubric=rubric_ref(rubric))
        flags = self._screen.flags(rubric, item, candidates)
        record = Record(kind, item, candidates, judge, flags)
        return record, rubric, self._screen.objection(item, candidates, flags)

    async def _graded(
        self, record: Record, rubric: Rubric, item: Item, candidate: Candidate
    ) -> Verdict:
        parts = self._parts_of(rubric)
        asks = [self._form.requests(p, item, candidate, parts=len(parts)) for p in parts]
        jobs = [
            partial(self._form.grade, self._backend, part, requests)
            for part, requests in zip(parts, asks, strict=True)
        ]
        graded = await together(jobs, ahead(self._backend, asks[0][0].shared))
        record = record.after(call for one in graded for call in one.calls)
        found: dict[str, CriterionScore] = {}
        try:
            for part, one in zip(parts, graded, strict=True):
                read = enough(one.heard)
                for criterion in part.criteria:
                    draws = [grades[criterion.name] for grades in read]
                    found[criterion.name] = aggregate_grades(draws, self._aggregate)
        except VerdictError as error:
            return record.nothing(error)
        reasons = _reasons(parts, graded) if self._form.method == "verdict" else None
        return record.verdict(score=combined_score(rubric.criteria, found), rationale=reasons)


def _reasons(parts: Sequence[Rubric], graded: Sequence[Graded]) -> str | None:
    """The reasons of the first draw: of several calls each under its criterion."""
    said = [(p.criteria[0].name, g.heard[0].rationale) for p, g in zip(parts, graded, strict=True)]
    if len(said) == 1:
        return said[0][1]
    return "\n\n".join(f"{name}: {text}" for name, text in said if text) or None
