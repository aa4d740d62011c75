"""Which comparisons of a round become training rows, with length held in check.

Rules by pair are those of `rlaif prefer`. Two more look at length: tiers choose the shortest of the
good and the longest of the bad (Wu et al. 2024, "Meta-Rewarding Language Models", 2407.19594,
section 2.1), and a balance holds rows back until chosen and rejected responses are equally long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rlaif.preferences.pairs import HeldBack, Rules, pairs_from
from rlaif.stats.text import words
from rlaif.types import Candidate, Messages, PreferencePair, Verdict

Row = PreferencePair | HeldBack


def select_rows(
    verdicts: Iterable[Verdict],
    rules: Rules,
    *,
    tiers: float | None = None,
    balance: float | None = None,
) -> list[Row]:
    """The rows of a round and what was held back, in the order of the verdicts.

    Args:
        verdicts: Comparisons, those of a prompt together.
        rules: As for `rlaif prefer`.
        tiers: rho of the tiers, 0..0.5; `None` chooses pairs by `rules` alone.
        balance: Most difference in mean words between chosen and rejected, as a share of the mean
            of the rejected; `None` for no balance.
    """
    given = list(verdicts)
    if tiers is None:
        rows = list(pairs_from(given, rules))
    else:
        rows = list(_tiers(given, replace(rules, select="all"), tiers))
    if balance is None:
        return rows
    return _balanced(rows, {verdict.id: verdict for verdict in given}, balance)


def _tiers(verdicts: Sequence[Verdict], rules: Rules, rho: float) -> Iterator[Row]:
    """Of each prompt the comparison between the two that the tiers name; the rest is held back."""
    for _, group in groupby(verdicts, key=lambda verdict: verdict.item.id):
        of_prompt = list(group)
        wanted = _ends(of_prompt, rho)
        for verdict in of_prompt:
            if verdict.preference is None or {c.id for c in verdict.candidates} == wanted:
                yield from pairs_from([verdict], rules)
            else:
                yield HeldBack(verdict, "not_selected")


def _ends(verdicts: Sequence[Verdict], rho: float) -> set[str]:
    """The shortest candidate of the top tier and the longest of the bottom one, by id."""
    met: dict[str, list[float]] = {}
    by_id: dict[str, Candidate] = {}
    for verdict in verdicts:
        if verdict.preference is None:
            continue
        p = verdict.preference.p_a
        for candidate, preferred in zip(verdict.candidates, (p, 1 - p), strict=True):
            met.setdefault(candidate.id, []).append(preferred)
            by_id[candidate.id] = candidate
    if not met:
        return set()
    mean = {name: sum(found) / len(found) for name, found in met.items()}
    best, worst = max(mean.values()), min(mean.values())
    top = [name for name in mean if mean[name] >= (1 - rho) * best + rho * worst]
    bottom = [name for name in mean if mean[name] <= (1 - rho) * worst + rho * best]
    length = {name: len(words(by_id[name].text)) for name in mean}
    # by name after the length: equal ones must not be told apart by the order of a file
    shortest = min(top, key=lambda name: (length[name], -mean[name], name))
    longest = max(bottom, key=lambda name: (length[name], -mean[name], name))
    return {shortest, longest}


def _balanced(rows: list[Row], verdicts: dict[str, Verdict], most: float) -> list[Row]:
    """`rows` with the smallest margins held back until both sides are equally long.

    Only rows that push the difference in the direction it has are held back, and never the last.
    """
    gap = {i: float(_gap(row)) for i, row in enumerate(rows) if isinstance(row, PreferencePair)}
    rejected = {
        i: _count(row.rejected) for i, row in enumerate(rows) if isinstance(row, PreferencePair)
    }
    total, below = sum(gap.values()), sum(rejected.values())
    kept = dict(gap)

    def margin(place: int) -> tuple[float, int]:
        row = rows[place]
        return (row.margin if isinstance(row, PreferencePair) else 0.0), place

    by_margin = sorted(gap, key=margin)
    while True:
        before = len(kept)
        for place in [p for p in by_margin if p in kept]:
            if abs(total) <= most * max(below, 1) or len(kept) == 1:
                break
            # a row that would swing the difference further to the other side stays
            if gap[place] * total > 0 and abs(total - gap[place]) < abs(total):
                total, below = total - gap[place], below - rejected[place]
                del kept[place]
        if len(kept) == before:
            break
    return [
        HeldBack(verdicts[row.verdict_id], "length_suspicious", "held back to balance lengths")
        if isinstance(row, PreferencePair) and place not in kept
        else row
        for place, row in enumerate(rows)
    ]


def _gap(row: PreferencePair) -> int:
    return _count(row.chosen) - _count(row.rejected)


def _count(messages: Messages) -> int:
    return sum(len(words(message.content)) for message in messages)
