"""Critique and revision of one prompt: a first response, then round after round.

    reviser = Reviser(actor, critic, Script(constitution), rounds=4)
    made = await reviser.revise(item)
    made.chain.final, made.chain.revised

The supervised phase of Bai et al. 2022 (2212.08073, section 3.1): the revision of one round is the
response of the next. Beyond it, an independent judge can decide what is kept: then a revision
counts only if it is preferred in both orders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from rlaif.backends.base import Backend
from rlaif.canonical import digest
from rlaif.constitutional.faults import (
    Fault,
    FaultError,
    Text,
    read_critique,
    read_response,
    read_revision,
)
from rlaif.constitutional.principles import Draw, drawn_principle
from rlaif.constitutional.records import Chain, ChainCall, Check, Part, Recipe, Round, chain_call
from rlaif.constitutional.refereeing import BROKEN, ComparisonJudge, Referee, When
from rlaif.constitutional.rendering import Script, render_most_violated
from rlaif.errors import BudgetError, ConfigError, VerdictError
from rlaif.judge.common import Asked, ask
from rlaif.judge.markers import Markers
from rlaif.judge.parsing import SCORE_MARK, last_mark
from rlaif.specs.constitution import Principle
from rlaif.types import (
    Call,
    Completion,
    Item,
    Messages,
    Request,
    RubricRef,
    Sampling,
    Verdict,
    as_dict,
)

STAND_IN = "(a text that has yet to be written)"
"""Stands in for replies where requests are only counted."""


@dataclass(frozen=True, slots=True)
class Made:
    """A chain, and what it took: the calls in full and the verdicts of its checks."""

    chain: Chain
    calls: tuple[Call, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(slots=True)
class _Work:
    """A chain under way."""

    item: Item
    standing: str = ""
    rounds: list[Round] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


class Reviser:
    """Makes chains.

    Args:
        actor: The model that answers and rewrites.
        critic: The model that criticizes; may be the actor.
        script: How they are spoken to, and by which constitution.
        rounds: How many rounds at most.
        draw: How the principle of a round is chosen.
        seed: Seed of the draws.
        sampling: How actor and critic draw their replies; at temperature 1, as in the paper.
        judge: Compares revisions, where `check` is not `off`.
        check: When it does.
        chooser: The model that is asked which principle is most violated.
        markers: Where the codes in the tags come from that it sees.

    Raises:
        ConfigError: a check is wanted and there is no judge, `rounds` is not positive, or
            `most-violated` has nobody to ask.
        SpecError: no principle has a critique.
    """

    def __init__(
        self,
        actor: Backend,
        critic: Backend,
        script: Script,
        *,
        rounds: int = 4,
        draw: Draw = "seeded",
        seed: int = 0,
        sampling: Sampling | None = None,
        judge: ComparisonJudge | None = None,
        check: When = "off",
        chooser: Backend | None = None,
        markers: Markers | None = None,
    ) -> None:
        if rounds < 1:
            raise ConfigError(f"rounds is a count from 1 up, not {rounds}")
        if draw == "most-violated" and chooser is None:
            raise ConfigError("most-violated needs a model to ask")
        self._actor, self._critic, self._script = actor, critic, script
        self._rounds, self._draw, self._seed = rounds, draw, seed
        self._sampling = sampling or Sampling(temperature=1.0)
        self._referee = Referee(judge, check, actor.model)
        self._check = check
        self._chooser = chooser
        self._markers = markers or Markers()
        self._principles = script.constitution.critiques
        constitution = script.constitution
        self.recipe = Recipe(
            actor.model,
            critic.model,
            RubricRef(constitution.name, constitution.version, constitution.digest),
            seed,
            draw,
            script.form,
            check,
            judge.ref.model if judge else None,
        )
        self._config: dict[str, Any] = {
            **as_dict(self.recipe),
            "rounds": rounds,
            "sampling": as_dict(self._sampling),
            "examples": script.examples,
            "system": script.system,
            "judge": as_dict(judge.ref) if judge else None,
        }
        self._named = digest(self._config)

    def config(self) -> dict[str, Any]:
        """What decides the chains, for a run folder's configuration."""
        return dict(self._config)

    def requests(self, item: Item) -> Iterator[tuple[Backend | None, Request]]:
        """What a chain asks if nothing breaks it off, and of whom; `None` is the judge.

        Replies that are yet to be written are stood in for.
        """
        yield self._actor, self._request(self._script.first(item), 0)
        for number in range(1, self._rounds + 1):
            if self._chooser is not None and self._draw == "most-violated":
                yield self._chooser, self._choice(item, f"{STAND_IN} {number}")
            principle = drawn_principle(self._principles, "seeded", self._seed, item.id, number)
            text = f"{STAND_IN} {number}"
            asked = self._script.critique(item, text, principle)
            yield self._critic, self._request(asked, number)
            edit = self._script.revision(item, text, principle, STAND_IN)
            yield self._actor, self._request(edit, number)
            if self._check == "per-round" or (self._check == "final" and number == self._rounds):
                before = number - 1 if self._check == "per-round" else 0
                sides = (text, f"{STAND_IN} {number + 1}")
                for request in self._referee.requests(item, (before, number), sides):
                    yield None, request

    async def revise(self, item: Item) -> Made:
        """The chain of one prompt.

        Raises:
            BackendError: a fatal failure of a provider.
        """
        work = _Work(item)
        asked = await ask(self._actor, self._request(self._script.first(item), 0))
        work.calls.append(asked.call)
        try:
            first = read_response(_reply(asked))
        except FaultError as error:
            call = chain_call("response", asked.call, None)
            return self._made(work, None, (call,), error.fault, str(error))
        calls = (chain_call("response", asked.call, first.text),)
        work.standing = first.text
        for number in range(1, self._rounds + 1):
            done = await self._round(work, number)
            work.rounds.append(done)
            if done.fault in BROKEN:
                return self._made(work, first.text, calls, done.fault, done.reason)
            if done.status == "not_preferred":
                break
        if self._check == "final":
            return await self._checked_at_last(work, first.text, calls)
        return self._made(work, first.text, calls)

    def _request(self, messages: Messages, number: int) -> Request:
        # the number of the round is the draw: the same question in two rounds is asked twice
        return Request(messages, sampling=self._sampling, draw=number)

    async def _round(self, work: _Work, number: int) -> Round:
        calls: list[ChainCall] = []
        done = Round(number, "", self._draw, "fault")
        try:
            principle, drawn = await self._principle(work, number, calls)
            done = replace(done, principle=principle.name, drawn=drawn)
            request = self._request(
                self._script.critique(work.item, work.standing, principle), number
            )
            critique = await self._written(work, calls, "critique", self._critic, request)
            done = replace(done, critique=critique.text, flags=critique.flags)
            messages = self._script.revision(work.item, work.standing, principle, critique.text)
            revision = await self._written(
                work, calls, "revision", self._actor, self._request(messages, number), critique.text
            )
            flags = tuple(dict.fromkeys((*critique.flags, *revision.flags)))
            done = replace(done, revision=revision.text, flags=flags, status="unchecked")
        except FaultError as error:
            return replace(
                done, status="fault", fault=error.fault, reason=str(error), calls=tuple(calls)
            )
        done = replace(done, calls=tuple(calls))
        if self._check == "per-round":
            done = await self._checked(work, done)
        if done.status in ("kept", "unchecked"):
            work.standing = revision.text
        return done

    async def _written(
        self,
        work: _Work,
        calls: list[ChainCall],
        part: Part,
        backend: Backend,
        request: Request,
        critique: str | None = None,
    ) -> Text:
        """The critique or revision that a reply holds; the call is kept either way.

        Raises:
            FaultError: it holds none.
        """
        asked = await ask(backend, request)
        work.calls.append(asked.call)
        used: str | None = None
        try:
            reply = _reply(asked)
            if critique is None:
                read = read_critique(reply, work.standing)
            else:
                read = read_revision(reply, work.standing, critique)
            used = read.text
            return read
        finally:
            calls.append(chain_call(part, asked.call, used))

    async def _principle(
        self, work: _Work, number: int, calls: list[ChainCall]
    ) -> tuple[Principle, str]:
        """The principle of a round, and how it was drawn."""
        if self._draw != "most-violated" or self._chooser is None:
            found = drawn_principle(self._principles, self._draw, self._seed, work.item.id, number)
            return found, self._draw
        asked = await ask(self._chooser, self._choice(work.item, work.standing, number))
        work.calls.append(asked.call)
        calls.append(chain_call("draw", asked.call, None))
        try:
            place = float(last_mark(_reply(asked), SCORE_MARK)[1])
        except VerdictError:
            place = 0.0
        if place.is_integer() and 1 <= place <= len(self._principles):
            return self._principles[int(place) - 1], self._draw
        drawn = drawn_principle(self._principles, "seeded", self._seed, work.item.id, number)
        return drawn, "seeded"

    def _choice(self, item: Item, response: str, number: int = 0) -> Request:
        messages = render_most_violated(self._principles, item, response, self._markers)
        code = self._markers.code(item)
        return Request(messages, sampling=Sampling(max_tokens=256), draw=number, code=code)

    async def _checked(self, work: _Work, done: Round) -> Round:
        """The round with what the judge says of its revision."""
        before = next((r.number for r in reversed(work.rounds) if r.status == "kept"), 0)
        assert done.revision is not None
        sides = (work.standing, done.revision)
        found = await self._referee.check(work.item, (before, done.number), sides)
        work.verdicts.append(found.verdict)
        return replace(
            done, status=found.status, check=found.check, fault=found.fault, reason=found.reason
        )

    async def _checked_at_last(self, work: _Work, first: str, calls: tuple[ChainCall, ...]) -> Made:
        last = next((r for r in reversed(work.rounds) if r.revision and not r.fault), None)
        if last is None:
            return self._made(work, first, calls)
        found = await self._referee.check(work.item, (0, last.number), (first, work.standing))
        work.verdicts.append(found.verdict)
        if found.status != "kept":
            work.standing = first
        work.rounds = [
            replace(r, status=found.status) if r.status == "unchecked" else r for r in work.rounds
        ]
        return self._made(work, first, calls, found.fault, found.reason, found.check)

    def _made(
        self,
        work: _Work,
        first: str | None,
        calls: tuple[ChainCall, ...],
        cause: Fault | None = None,
        reason: str | None = None,
        check: Check | None = None,
    ) -> Made:
        written = any(r.revision is not None for r in work.rounds)
        if cause is None and not written:
            faults = Counter(r.fault for r in work.rounds if r.fault)
            cause, _ = max(faults.items(), key=lambda found: (found[1], found[0]))
            reason = next(r.reason for r in work.rounds if r.fault == cause)
        chain = Chain(
            id=digest(["chain", self._named, as_dict(work.item)])[:32],
            item=work.item,
            recipe=self.recipe,
            first=first,
            rounds=tuple(work.rounds),
            final=work.standing if first is not None else None,
            revised=first is not None and work.standing != first,
            cause=cause,
            reason=reason,
            calls=calls,
            check=check,
        )
        return Made(chain, tuple(work.calls), tuple(work.verdicts))


def _reply(asked: Asked) -> Completion:
    """The completion.

    Raises:
        FaultError: the provider failed, or the budget is spent.
    """
    if asked.completion is not None:
        return asked.completion
    broken: Fault = "budget" if isinstance(asked.failure, BudgetError) else "provider_error"
    raise FaultError(broken, str(asked.failure))
