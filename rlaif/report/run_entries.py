"""Verdict records as entries of the verdict browser."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from rlaif.evals.audit_trials import trial_of
from rlaif.evals.reading import model_of
from rlaif.report.browser import Entry, Reading, Reply
from rlaif.report.run_figures import category_of
from rlaif.types import Call, Candidate, Messages, OrderVerdict, Shown, Verdict

_FIRST: dict[Shown, str] = {"AB": "A", "BA": "B"}


def entry_of(verdict: Verdict) -> Entry:
    """One verdict as a reader sees it."""
    if verdict.kind == "ranking":
        return _ranked(verdict)
    return _scored(verdict) if verdict.kind == "score" else _compared(verdict)


def _ranked(verdict: Verdict) -> Entry:
    ranking = verdict.ranking
    by_id = {candidate.id: candidate for candidate in verdict.candidates}
    names = {name: _name_among(by_id[name], verdict) for name in by_id}
    order = [name for name in ranking.order if name in by_id] if ranking else list(by_id)
    sides = [
        (
            f"{place} · {names[name]}" if ranking else names[name],
            _said(by_id[name].response, by_id[name].text),
        )
        for place, name in enumerate(order, 1)
    ]
    strengths = ranking.strengths if ranking else {}
    told = ", ".join(f"{names[n]} {strengths[n]:.2f}" for n in order if n in strengths)
    read = (
        f"Read as **{' > '.join(names[name] for name in order)}**."
        if ranking
        else _no_reading(verdict)
    )
    facts = (
        [("comparisons", str(ranking.comparisons)), ("strengths, nats", told)] if ranking else []
    )
    return Entry(
        reading="decided" if ranking else "failed",
        badge=f"{names[order[0]]} first" if ranking and order else _cause(verdict),
        color="plain" if ranking else "fail",
        title=f"{len(by_id)} responses ranked" if ranking else f"{len(by_id)} responses",
        figure="",
        prompt=conversation(verdict.item.prompt),
        sides=sides,
        replies=[
            Reply(f"Reply, {call.shown} shown" if call.shown else "Reply", call.reply, "")
            if len(verdict.calls) > 1
            else Reply("Reply", call.reply, read)
            for call in verdict.calls
        ],
        facts=[*_facts(verdict), *facts],
        category=category_of(verdict),
        models=list(dict.fromkeys(model_of(c) for c in verdict.candidates)),
    )


def _name_among(candidate: Candidate, verdict: Verdict) -> str:
    """A candidate's model, or its id where two are by one model."""
    models = [model_of(other) for other in verdict.candidates]
    name = model_of(candidate)
    return name if models.count(name) == 1 else candidate.id


def _compared(verdict: Verdict) -> Entry:
    names = [model_of(c) for c in verdict.candidates]
    if names[0] == names[1] or trial_of(verdict.item) is not None:
        names = [c.id for c in verdict.candidates]
    preference = verdict.preference
    reading: Reading
    if preference is None:
        reading, badge = "failed", _cause(verdict)
    elif preference.winner == "tie":
        reading, badge = "tie", "tie"
    else:
        reading, badge = "decided", f"{preference.winner} wins"
    if preference is not None and not preference.consistent:
        reading, badge = "inconsistent", f"{badge}, orders differ"
    return Entry(
        reading=reading,
        badge=badge,
        color=_color(verdict),
        title=f"{names[0]} vs {names[1]}",
        figure="" if preference is None else f"P(A) {preference.p_a:.2f}",
        prompt=conversation(verdict.item.prompt),
        sides=[
            (f"{letter} · {name}", _said(candidate.response, candidate.text))
            for letter, name, candidate in zip("AB", names, verdict.candidates, strict=True)
        ],
        replies=_order_replies(verdict),
        facts=[*_facts(verdict), *_unheard_orders(verdict)],
        category=category_of(verdict),
        models=[model_of(c) for c in verdict.candidates],
    )


def _color(verdict: Verdict) -> Literal["fail", "a", "b", "plain"]:
    if verdict.status == "no_verdict":
        return "fail"
    winner = verdict.preference.winner if verdict.preference else "tie"
    return "a" if winner == "A" else "b" if winner == "B" else "plain"


def _scored(verdict: Verdict) -> Entry:
    candidate, score = verdict.candidates[0], verdict.score
    name = model_of(candidate)
    if score is None:
        badge, read = _cause(verdict), _no_reading(verdict)
    else:
        badge = f"{score.value:.4g} of {score.max:g}"
        read = f"Read as **{score.value:.4g}** on {score.min:g} to {score.max:g}."
    facts = []
    if score is not None and score.criteria:
        facts = [(name, f"{found.get('value')}") for name, found in score.criteria.items()]
    if score is not None and score.distribution:
        levels = (f"{level}: {p:.2f}" for level, p in score.distribution.items() if p >= 0.005)
        facts.append(("distribution", ", ".join(levels)))
    return Entry(
        reading="failed" if score is None else "decided",
        badge=badge,
        color=_color(verdict),
        title=name,
        figure="",
        prompt=conversation(verdict.item.prompt),
        sides=[(name, _said(candidate.response, candidate.text))],
        replies=[Reply("Reply", call.reply, read) for call in verdict.calls],
        facts=[*_facts(verdict), *facts],
        category=category_of(verdict),
        models=[name],
    )


def _order_replies(verdict: Verdict) -> list[Reply]:
    """The judge's replies, the order each was shown in, and how it was read."""
    orders = {o.shown: o for o in verdict.preference.orders} if verdict.preference else {}
    of_order = Counter(call.shown for call in verdict.calls)
    heard: Counter[str | None] = Counter()
    replies = []
    for call in verdict.calls:
        if call.shown not in _FIRST:
            if call.reply.strip():
                replies.append(Reply("Reply", call.reply, ""))
            continue
        shown: Shown = "AB" if call.shown == "AB" else "BA"
        heard[shown] += 1
        nth, all_ = heard[shown], of_order[shown]
        title = f"{_FIRST[shown]} shown first"
        order = orders.get(shown)
        # what the order came to stands once, under its last reply; of one judge that did not draw
        # several, every reply before that could not be read
        read = _read(verdict, order, call) if nth == all_ else ""
        if not read and order is not None and not order.draws and verdict.members is None:
            read = "Not readable: the judge was asked again."
        numbered = title if all_ == 1 else f"{title}, reply {nth} of {all_}"
        replies.append(Reply(numbered, call.reply, read))
    return replies


def _read(verdict: Verdict, order: OrderVerdict | None, call: Call) -> str:
    if order is None:
        return _no_reading(verdict) if verdict.status == "no_verdict" else "Not read."
    told = f"**{_winner(order)}**, P(A) = {order.p_a:.3f}"
    return f"Read as {told}{', from the store' if call.cached else ''}."


def _winner(order: OrderVerdict) -> str:
    return "tie" if order.winner == "tie" else f"{order.winner} wins"


def _no_reading(verdict: Verdict) -> str:
    reason = f": {verdict.rationale}" if verdict.rationale else ""
    return f"No verdict, **{_cause(verdict)}**{reason}"[:400]


def _cause(verdict: Verdict) -> str:
    return str(verdict.cause).replace("_", " ")


def _unheard_orders(verdict: Verdict) -> list[tuple[str, str]]:
    """Orders whose verdict is known without the judge's words."""
    orders = verdict.preference.orders if verdict.preference else ()
    heard = {call.shown for call in verdict.calls}
    return [
        (f"{_FIRST[o.shown]} shown first", f"{_winner(o)}, P(A) = {o.p_a:.3f}")
        for o in orders
        if o.shown not in heard
    ]


def _facts(verdict: Verdict) -> list[tuple[str, str]]:
    meta = verdict.item.meta
    names = ("category", "subset", "turn", "label", "dataset")
    given = [(name, str(meta[name])) for name in names if isinstance(meta.get(name), str | int)]
    reason = [("why", _no_reading(verdict))] if verdict.status == "no_verdict" else []
    cost = sum(call.cost_usd or 0.0 for call in verdict.calls)
    tried = trial_of(verdict.item)
    return [
        ("item", tried.of if tried else verdict.item.id),
        ("trial", f"{tried.trial.replace('_', ' ')} {tried.variant}" if tried else ""),
        ("judge", verdict.judge.model),
        *given,
        *(reason if not verdict.calls else []),
        ("cost", f"${cost:.4f}" if cost else ""),
        ("verdict", verdict.id),
    ]


def conversation(messages: Messages) -> str:
    """The text of a prompt: a lone message bare, several each under its role."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{m.role}: {m.content}" for m in messages)


def _said(response: Messages, text: str) -> str:
    if not response:
        return "(the text is not in this record)"
    return text if len(response) == 1 else conversation(response)
