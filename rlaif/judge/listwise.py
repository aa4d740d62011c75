"""N responses ranked in one prompt that shows them all, shuffled several times over.

    judge = ListwiseJudge(backend, load_rubric("helpfulness"), shuffles=4)
    verdict = await judge.rank(item, candidates)
    verdict.ranking.order           # candidate ids, best first
    verdict.ranking.pairs           # of each pair, the share of the lists with the first one before

Shuffles come in pairs, one the other backwards, so that every two responses stand in either order
equally often: a judge that ranks by place alone finds all equal. Which shuffles are drawn depends
on the responses and the seed, not on the ids, the models or the order in which candidates come.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from rlaif.backends.base import Backend
from rlaif.errors import ConfigError, DataError, VerdictError
from rlaif.judge.common import RubricSource, rubric_for, rubric_ref
from rlaif.judge.hearing import (
    REFERENCE_STAND_IN,
    Correct,
    Heard,
    ahead,
    hear,
    hear_reference,
    own_reference,
    together,
)
from rlaif.judge.list_form import (
    MOST_RESPONSES,
    ListForm,
    Tiers,
    list_correction,
    places,
    stood_before,
    without_marks,
)
from rlaif.judge.markers import Markers
from rlaif.judge.pairwise import Ties
from rlaif.judge.ranking import distinct_players, drawn, pooled_ranking, shared_place
from rlaif.judge.record import Record
from rlaif.judge.rendering import render_ranking, shared_length
from rlaif.judge.screening import OnInjection, Screen
from rlaif.judge.settings import MAX_CHARS, ReferenceFrom, Settings, TooLong
from rlaif.specs.rubric import Rubric
from rlaif.stats.pair_choice import Floats
from rlaif.types import Candidate, Completion, Item, JudgeRef, Request, Sampling, Verdict

SHUFFLES = 4
"""How often the list is shown by default."""

Shuffle = tuple[int, ...]
"""Numbers of the players in the order in which they are shown."""


class ListwiseJudge:
    """A judge that ranks N responses by seeing them all at once, in several orders.

    Args:
        backend: The model that judges.
        rubric: What it judges by, or what names the rubric of each item.
        sampling: How it draws its replies; greedy by default.
        shuffles: How often the list is shown, in another order each time; no more than there are
            orders. An odd number leaves one shuffle without its reverse.
        seed: Draws the shuffles.
        confidence: Level of the strengths' intervals, and of what is settled.
        ties: Whether the judge may call responses equal.
        reference, reask, structured, max_chars, too_long, markers, on_injection, constant: As for
            `rlaif.judge.pairwise.PairwiseJudge`.

    Raises:
        ConfigError: an option is wrong.

    Reference:
        All responses in one shuffled prompt: Cui et al. 2023, "UltraFeedback" (2310.01377).
    """

    def __init__(
        self,
        backend: Backend,
        rubric: RubricSource,
        *,
        sampling: Sampling | None = None,
        shuffles: int = SHUFFLES,
        seed: int = 0,
        confidence: float = 0.95,
        ties: Ties = "allowed",
        reference: ReferenceFrom = "given",
        reask: bool = True,
        structured: bool = False,
        max_chars: int = MAX_CHARS,
        too_long: TooLong = "refuse",
        markers: Markers | None = None,
        on_injection: OnInjection = "flag",
        constant: Collection[int] = (),
    ) -> None:
        if shuffles < 1:
            raise ConfigError(f"shuffles is a count from 1 up, not {shuffles}")
        if not 0 < confidence < 1:
            raise ConfigError(f"confidence lies between 0 and 1, not at {confidence}")
        self._backend = backend
        self._rubric = rubric
        self._markers = markers or Markers()
        self._settings = Settings(
            sampling=sampling or Sampling(),
            top_logprobs=0,
            reask=reask,
            structured=structured,
            reference=reference,
            max_chars=max_chars,
            too_long=too_long,
        )
        self._screen = Screen(self._settings, on_injection, constant)
        self._form = ListForm(ties == "allowed", structured)
        self._shuffles, self._seed, self._confidence = shuffles, seed, confidence
        fixed = rubric if isinstance(rubric, Rubric) else None
        if fixed is not None:
            self._settings.check_rubric(fixed)
        words = [
            f"listwise, {shuffles} shuffles",
            *([] if ties == "allowed" else ["ties forced"]),
            *([] if confidence == 0.95 else [f"intervals at {confidence:g}"]),
            *([f"seed {seed}"] if seed else []),
            *self._settings.named(),
            *self._screen.named(),
        ]
        ref = rubric_ref(fixed) if fixed is not None else None
        self.ref = JudgeRef(backend.model, ", ".join(words), self._settings.sampling, ref)

    def requests(self, item: Item, candidates: Sequence[Candidate]) -> list[Request]:
        """What ranking would ask where every reply can be read.

        None for identical responses, and where the judge is not asked. A reference that the judge
        has yet to write is stood in for.

        Raises:
            DataError: as for `rank`.
        """
        players, rubric, first = self._players(item, candidates), rubric_for(self._rubric, item), []
        flags = self._screen.flags(rubric, item, candidates)
        if len(players) == 1 or self._screen.objection(item, candidates, flags):
            return []
        if self._settings.writes_reference(item):
            first = [own_reference(item, self._settings.sampling)]
            item = replace(item, reference=REFERENCE_STAND_IN)
        asks = self._asks(rubric, item, players)
        return [*first, *(request for _, request in asks)]

    async def rank(self, item: Item, candidates: Sequence[Candidate]) -> Verdict:
        """The order of the candidates, best first, with their strengths.

        Identical responses share a place, and are shown once. A reply that does not name each
        response exactly once is asked for again, once, and then is no verdict. A shuffle counts
        only with its reverse, as half of it would carry the judge's bias for places; more than half
        of them must have been read.

        Raises:
            DataError: there are fewer than two candidates, or more than 26 different ones, or two
                share an id; or the rubric needs a reference and the item has none.
            ConfigError: the judge writes references and the item's rubric shows none.
            BackendError: a fatal failure of the provider.
        """
        field, rubric, judge = tuple(candidates), rubric_for(self._rubric, item), self.ref
        players = self._players(item, field)
        if judge.rubric is None:
            self._settings.check_rubric(rubric)
            judge = replace(judge, rubric=rubric_ref(rubric))
        flags = self._screen.flags(rubric, item, field)
        record = Record("ranking", item, field, judge, flags)
        if len(players) == 1:
            return record.verdict(ranking=shared_place(field))
        if (why := self._screen.objection(item, field, flags)) is not None:
            return record.nothing(why)
        try:
            if self._settings.writes_reference(item):
                written = await hear_reference(self._backend, item, self._settings.sampling)
                record = record.after(written.calls)
                item = replace(item, reference=written.read())
        except VerdictError as error:
            return record.nothing(error)
        return await self._ranked(record, rubric, item, players)

    async def _ranked(
        self, record: Record, rubric: Rubric, item: Item, players: Sequence[Candidate]
    ) -> Verdict:
        n, asks = len(players), self._asks(rubric, item, players)
        read, correct = self._read(n), self._correct(n)
        jobs = [
            partial(
                hear,
                self._backend,
                request,
                read,
                correct=correct,
                shown=", ".join(players[k].id for k in shuffle),
            )
            for shuffle, request in asks
        ]
        heard = await together(jobs, ahead(self._backend, asks[0][1].shared))
        record = record.after(call for one in heard for call in one.calls)
        try:
            tables = _readable([shuffle for shuffle, _ in asks], heard)
        except VerdictError as error:
            return record.nothing(error)
        ranking = pooled_ranking(
            np.asarray(np.mean(tables, axis=0)),
            len(tables),
            players,
            record.candidates,
            self._confidence,
        )
        return record.verdict(ranking=ranking, rationale=without_marks(heard[0].rationale))

    def _players(self, item: Item, candidates: Sequence[Candidate]) -> list[Candidate]:
        players = distinct_players(item, candidates)
        if len(players) > MOST_RESPONSES:
            raise DataError(
                f"item {item.id!r} has {len(players)} different responses, and a list holds "
                f"{MOST_RESPONSES} at most: compare them in pairs"
            )
        return players

    def _asks(
        self, rubric: Rubric, item: Item, players: Sequence[Candidate]
    ) -> list[tuple[Shuffle, Request]]:
        settings, form = self._settings, self._form
        ending = form.ending(rubric.reasoning, len(players))
        seen = [settings.fitted(player) for player in players]
        shuffles = drawn_shuffles(len(players), self._shuffles, drawn(self._seed, item, players))
        messages = [
            render_ranking(
                rubric, item, [seen[k] for k in shuffle], ending=ending, markers=self._markers
            )
            for shuffle in shuffles
        ]
        shared = shared_length(messages[0], item, markers=self._markers)
        code = self._markers.code(item)
        schema = form.schema(rubric.reasoning)
        return [
            (
                shuffle,
                Request(said, settings.sampling, json_schema=schema, shared=shared, code=code),
            )
            for shuffle, said in zip(shuffles, messages, strict=True)
        ]

    def _read(self, n: int) -> partial[Tiers]:
        return partial(_read_list, self._form, n)

    def _correct(self, n: int) -> Correct | None:
        if not self._settings.reask:
            return None
        return lambda error: list_correction(error, self._form.ending("none", n))


def drawn_shuffles(n: int, count: int, rng: np.random.Generator) -> list[Shuffle]:
    """Up to `count` different orders of `n`; each odd one is the one before it backwards.

    Args:
        n: How many there are to order, 2 or more.
        count: How many orders; all of them where there are no more.
        rng: Draws every other one.
    """
    wanted = min(count, math.factorial(n))
    found: list[Shuffle] = []
    while len(found) < wanted:
        shuffle = tuple(int(k) for k in rng.permutation(n))
        if shuffle not in found:
            found += [shuffle, shuffle[::-1]]
    return found[:wanted]


def _read_list(form: ListForm, n: int, completion: Completion) -> Tiers:
    return form.read(completion, n)


def _readable(shuffles: Sequence[Shuffle], heard: Sequence[Heard[Tiers]]) -> list[Floats]:
    """Who stood before whom in each list that could be read together with its reverse.

    Raises:
        VerdictError: half of the lists or fewer are left: the first failure.
    """
    tables: list[Floats] = []
    for start in range(0, len(heard), 2):
        two = heard[start : start + 2]
        if all(one.value is not None for one in two):
            for shuffle, one in zip(shuffles[start : start + 2], two, strict=True):
                tables.append(_table(shuffle, one.read()))
    if 2 * len(tables) <= len(heard):
        next(one for one in heard if one.value is None).read()
    return tables


def _table(shuffle: Shuffle, tiers: Tiers) -> Floats:
    """Shape (n, n), by the numbers of the players."""
    place = [0.0] * len(shuffle)
    for player, at in zip(shuffle, places(tiers), strict=True):
        place[player] = at
    return stood_before(place)
