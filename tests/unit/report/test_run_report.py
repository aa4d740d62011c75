"""A run's report: from any run folder, bounded, safe, and true to the records."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from rlaif.canonical import json_line
from rlaif.errors import DataError, SpecError
from rlaif.report.page import render_page
from rlaif.report.run_entries import entry_of
from rlaif.report.run_figures import Reservoir, RunFigures
from rlaif.report.run_report import run_page
from rlaif.types import (
    Call,
    Candidate,
    Item,
    JudgeRef,
    Message,
    OrderVerdict,
    Preference,
    Ranking,
    RubricRef,
    Sampling,
    Score,
    Usage,
    Verdict,
)
from tests.unit.report.test_page import HOSTILE, Reader

JUDGE = JudgeRef("scripted/judge", "verdict", Sampling(), RubricRef("helpfulness", "1.0.0", "d"))
VALUES = {"A": 1.0, "tie": 0.5, "B": 0.0}


def compared(
    n: int,
    winners: tuple[str, ...] | None = ("A", "A"),
    models: tuple[str, str] = ("m1", "m2"),
    *,
    text: str = "",
    **meta: object,
) -> Verdict:
    sides = tuple(
        Candidate(model, (Message("assistant", text or f"answer {model} {n} " + "x" * k),), model)
        for k, model in enumerate(models)
    )
    where = Item(f"i{n}", (Message("user", text or f"question {n}"),), meta=meta)
    calls = tuple(
        Call(f"d{n}", text or f"because [[{shown[0]}]]", Usage(10, 0, 5), 0.5, False, shown, 0.01)
        for shown in ("AB", "BA")
    )
    base = Verdict(f"v{n}", "comparison", where, sides, JUDGE, "no_verdict", calls=calls)
    if winners is None:
        return replace(base, cause="unreadable", rationale="no verdict mark")
    orders = tuple(
        OrderVerdict(shown, winner, VALUES[winner])
        for shown, winner in zip(("AB", "BA"), winners, strict=False)
    )
    p_a = sum(order.p_a for order in orders) / len(orders)
    winner = "A" if p_a > 0.5 else "B" if p_a < 0.5 else "tie"
    preference = Preference(winner, p_a, orders, len(set(winners)) == 1)
    return replace(base, status="ok", preference=preference)


def scored(n: int, value: float | None, model: str = "m1", **meta: object) -> Verdict:
    where = Item(f"i{n}", (Message("user", f"question {n}"),), meta=meta)
    one = Candidate(model, (Message("assistant", f"answer {n}"),), model)
    call = Call(f"d{n}", "fine [[4]]", Usage(), 0.0, True)
    base = Verdict(f"v{n}-{model}", "score", where, (one,), JUDGE, "no_verdict", calls=(call,))
    if value is None:
        return replace(base, cause="truncated")
    details = {"clarity": {"value": value, "min": 1, "max": 10}}
    score = Score(value, 1, 10, {"3": 0.2, "4": 0.8}, details)
    return replace(base, status="ok", score=score)


def run(tmp_path, *verdicts, name="run"):
    folder = tmp_path / name
    folder.mkdir()
    lines = "".join(json_line(v.as_dict()) for v in verdicts)
    (folder / "verdicts.jsonl").write_text(lines, encoding="utf-8")
    return folder


def shown(folder, **options) -> Reader:
    return Reader(render_page(run_page(folder, **options)))


def words(reader: Reader) -> str:
    return " ".join(" ".join(reader.text).split())


MIXED = [
    *(compared(n, ("A", "A"), category="math") for n in range(6)),
    *(compared(n, ("B", "B"), category="art") for n in range(6, 9)),
    compared(9, ("A", "B"), category="art"),
    compared(10, ("tie", "tie"), category="math"),
    compared(11, None, category="math"),
]


def test_a_run_of_comparisons_is_told_in_full(tmp_path) -> None:
    reader = shown(run(tmp_path, *MIXED))
    told = words(reader)
    for part in ("Leaderboard", "Head to head", "By category", "How the judge behaves"):
        assert part in told
    assert "11 of 12 asked, 12 prompts" in told
    assert "91.7%" in told
    assert "1 unreadable" in told
    assert "$0.24" in told
    assert "rubric helpfulness 1.0.0" in told
    assert len(reader.all("details", class_="entry v-failed g1 m0 m1")) == 1


def test_both_orders_stand_side_by_side_with_how_they_were_read(tmp_path) -> None:
    told = words(shown(run(tmp_path, compared(1, ("A", "B")))))
    assert "A shown first" in told
    assert "B shown first" in told
    assert "Read as A wins , P(A) = 1.000." in told
    assert "Read as B wins , P(A) = 0.000." in told
    assert "tie, orders differ" in told


def test_a_failed_verdict_shows_its_replies_and_its_cause(tmp_path) -> None:
    told = words(shown(run(tmp_path, compared(1, None))))
    assert "No verdict at all" in told
    assert "No verdict, unreadable : no verdict mark" in told
    assert "because" in told
    assert "Leaderboard" not in told


def test_a_run_of_scores_is_told_in_full(tmp_path) -> None:
    verdicts = [
        scored(n, 2.0 + n % 7, model, category=("math", "art")[n % 2])
        for n in range(20)
        for model in ("m1", "m2")
    ]
    told = words(shown(run(tmp_path, *verdicts, scored(99, None))))
    assert "mean score" in told
    assert "on 1 to 10" in told
    assert "1 truncated" in told
    assert "clarity" in told
    assert "3: 0.20, 4: 0.80" in told
    assert "Head to head" not in told


def test_a_grade_outside_its_scale_widens_it(tmp_path) -> None:
    odd = scored(1, 12.0)
    figures = RunFigures().read([odd, scored(2, 3.0)])
    assert figures.scale == (1, 12.0)


@pytest.mark.parametrize(
    "verdict", [compared(1), compared(1, None), scored(1, 5.0), scored(1, None)]
)
def test_a_run_of_one_row_has_its_page(tmp_path, verdict) -> None:
    assert "of 1 asked, 1 prompts" in words(shown(run(tmp_path, verdict)))


def test_hostile_text_in_every_field_stays_text(tmp_path) -> None:
    def hostile(text):
        one = compared(1, None, (text, text + "2"), text=text, category=text, subset=text, turn=1)
        other = compared(2, ("A", "B"), (text, text + "2"), text=text, category=text + "2")
        ref = JudgeRef(text, text, Sampling(), RubricRef(text, text, text))
        return [
            replace(v, id=f"{text}{k}", rationale=text, judge=ref, item=replace(v.item, id=text))
            for k, v in enumerate((one, other))
        ]

    safe = HOSTILE.replace("\x00", "").replace("\ud800", "")
    plain = shown(run(tmp_path, *hostile("p" * len(safe)), name="plain"))
    page = shown(run(tmp_path, *hostile(safe), name="hostile"))
    inline = ("code", "strong", "a")
    tags = [tag for tag, _ in page.elements if tag not in inline]
    assert tags == [tag for tag, _ in plain.elements if tag not in inline]
    assert not {"script", "img", "iframe"} & set(tags)
    names = {name for _, found in page.elements for name in found}
    assert not [name for name in names if name.startswith("on") or name in {"style", "src"}]
    assert "<img src=x onerror=alert(1)>" in "".join(page.text)


def test_a_lone_surrogate_in_a_reply_is_shown_by_its_code(tmp_path) -> None:
    assert "⟨U+D800⟩" in words(shown(run(tmp_path, compared(1, text="bad \ud800 end"))))


def test_many_rows_make_a_bounded_page_in_good_time(tmp_path) -> None:
    text = "some words and more " * 120
    rng = random.Random(0)
    rows = (
        compared(
            n,
            rng.choice([("A", "A"), ("B", "B"), ("A", "B"), None]),
            (f"m{n % 40}", f"n{n % 7}"),
            text=f"{n} {text}",
            category=f"c{n % 30}",
        )
        for n in range(10_000)
    )
    folder = run(tmp_path, *rows)
    started = time.perf_counter()
    page = run_page(folder)
    html = render_page(page)
    assert time.perf_counter() - started < 25
    assert len(html) < 6_000_000
    told = words(Reader(html))
    assert (
        "200 of 10,000 verdicts: 100 without a verdict, 50 whose orders disagree, and" not in told
    )
    assert (
        "200 of 10,000 verdicts: 100 without a verdict, 50 whose orders disagree, 50 others" in told
    )
    assert render_page(run_page(folder)) == html


def test_all_failures_are_shown_while_they_fit(tmp_path) -> None:
    rows = [*(compared(n, None) for n in range(150)), *(compared(n + 150) for n in range(20))]
    figures = RunFigures(sample=160).read(rows)
    sample = figures.sample()
    assert len(sample) == 160
    assert sum(v.status == "no_verdict" for v in sample) == 140
    assert [v.status for v in sample][:140] == ["no_verdict"] * 140
    assert RunFigures(sample=0).read(rows).sample() == []


def test_a_reservoir_is_a_fair_sample_in_order() -> None:
    counts = [0] * 20
    for seed in range(2000):
        reservoir: Reservoir[int] = Reservoir(5, seed)
        for value in range(20):
            reservoir.add(value)
        kept = reservoir.values(5)
        assert kept == sorted(kept)
        for value in kept:
            counts[value] += 1
    assert min(counts) > 400
    assert max(counts) < 600


def test_consistency_and_position_come_from_both_orders(tmp_path) -> None:
    always_first = [compared(n, ("A", "B")) for n in range(40)]
    told = words(shown(run(tmp_path, *always_first)))
    assert "The judge leans to the first place" in told
    assert "0.0% same winner in both orders" in told


def test_lone_votes_tell_nothing_of_position(tmp_path) -> None:
    votes = [compared(n, ("A",)) for n in range(10)]
    told = words(shown(run(tmp_path, *votes)))
    assert "Only one order was asked" in told
    assert "consistent" not in told


def test_verdicts_published_combined_tell_their_consistency(tmp_path) -> None:
    rows = [compared(n, ("A",)) for n in range(9)]
    torn = compared(9, ("tie",))
    rows.append(replace(torn, preference=replace(torn.preference, consistent=False)))
    told = words(shown(run(tmp_path, *rows)))
    assert "90.0% same winner in both orders" in told
    assert "recorded combined" in told


@pytest.mark.parametrize("method", ["likelihood (pmi)", "scores, expectation", "checklist"])
def test_a_judge_that_reads_alone_is_not_said_to_be_consistent(tmp_path, method) -> None:
    ref = replace(JUDGE, method=method)
    told = words(shown(run(tmp_path, *(replace(compared(n), judge=ref) for n in range(5)))))
    assert "reads each response by itself" in told
    assert "same winner in both orders" not in told


def test_several_judges_are_pooled_and_one_can_be_kept(tmp_path) -> None:
    other = replace(JUDGE, model="scripted/other")
    folder = run(tmp_path, compared(1), replace(compared(2), judge=other))
    assert "2 judges" in words(shown(folder))
    assert "1 of 1 asked" in words(shown(folder, judge="scripted/other"))
    assert "2 of 2 asked" in words(shown(folder, judge="scripted/*"))
    with pytest.raises(DataError, match="is by 'nobody'"):
        run_page(folder, judge="nobody")


def test_a_model_against_itself_has_no_leaderboard_but_a_page(tmp_path) -> None:
    told = words(shown(run(tmp_path, compared(1, models=("m", "m")))))
    assert "No leaderboard" in told
    assert "Single verdicts" in told


def test_an_audits_run_has_no_leaderboard(tmp_path) -> None:
    asked = {"trial": "pair", "of": "i1", "variant": "", "draw": 0}
    told = words(shown(run(tmp_path, compared(1, audit=asked))))
    assert "This run is an audit" in told
    assert "Head to head" not in told


def test_files_beside_the_page_are_linked(tmp_path) -> None:
    folder = run(tmp_path, compared(1))
    (folder / "summary.json").write_text('{"wall_s": 75.5}')
    reader = shown(folder)
    assert {found["href"] for found in reader.all("a")} == {"./verdicts.jsonl", "./summary.json"}
    assert "76 s" in words(reader)
    assert not shown(folder / "verdicts.jsonl").all("a")


def test_empty_and_missing_runs_are_errors(tmp_path) -> None:
    with pytest.raises(DataError, match="no verdicts"):
        run_page(run(tmp_path))
    with pytest.raises(SpecError, match="No such file"):
        run_page(tmp_path / "nowhere")


def test_a_broken_line_is_named(tmp_path) -> None:
    folder = run(tmp_path, compared(1))
    with (folder / "verdicts.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(SpecError) as caught:
        run_page(folder)
    assert caught.value.line == 2


def test_rankings_are_read_as_the_comparisons_they_imply(tmp_path) -> None:
    ranked = [
        replace(
            compared(n),
            kind="ranking",
            preference=None,
            ranking=Ranking(("m2", "m1"), {"m2": 1.0, "m1": -1.0}, 1),
        )
        for n in range(3)
    ]
    lost = replace(ranked[0], id="lost", status="no_verdict", cause="unreadable", ranking=None)
    folder = run(tmp_path, *ranked, lost)
    page = words(shown(folder))
    assert "Rankings by" in page
    assert "75.0%" in page
    assert "2 responses ranked" in page
    assert "m2 first" in page
    entry = entry_of(ranked[0])
    assert [title for title, _ in entry.sides] == ["1 · m2", "2 · m1"]
    assert ("strengths, nats", "m2 1.00, m1 -1.00") in entry.facts
    assert (entry_of(lost).reading, entry_of(lost).badge) == ("failed", "unreadable")


def test_a_run_of_several_kinds_has_no_report(tmp_path) -> None:
    ranked = replace(
        compared(1),
        kind="ranking",
        preference=None,
        ranking=Ranking(("m1", "m2"), {"m1": 1.0, "m2": -1.0}, 1),
    )
    with pytest.raises(SpecError, match="a ranking in a table of comparisons"):
        run_page(run(tmp_path, compared(2), ranked))


def test_a_conversation_is_shown_with_its_roles() -> None:
    one = compared(1)
    turns = (Message("user", "first"), Message("assistant", "said"), Message("user", "second"))
    assert entry_of(replace(one, item=replace(one.item, prompt=turns))).prompt == (
        "user: first\n\nassistant: said\n\nuser: second"
    )


def test_a_record_without_texts_says_so() -> None:
    one = compared(1, ("A",))
    bare = replace(one, candidates=tuple(replace(c, response=()) for c in one.candidates), calls=())
    entry = entry_of(bare)
    assert entry.sides[0][1] == "(the text is not in this record)"
    assert ("A shown first", "A wins, P(A) = 1.000") in entry.facts


def test_lengths_of_absent_texts_come_from_the_item() -> None:
    one = compared(1, ("A", "A"), lengths={"m1": 100, "m2": 50})
    bare = replace(one, candidates=tuple(replace(c, response=()) for c in one.candidates))
    figures = RunFigures().read([bare])
    assert list(figures.longer.values) == [1.0]
    unknown = replace(bare, item=replace(bare.item, meta={}))
    assert list(RunFigures().read([unknown]).longer.values) == []


def test_the_published_judgments_have_their_page(tmp_path, shared_data) -> None:
    from rlaif.evals.formats import import_verdicts

    files = [shared_data / "mt_bench" / "gpt4_pair_judgments.jsonl"]
    made = run(tmp_path, *import_verdicts("mt-bench-pair", files))
    told = words(shown(made))
    assert "1,200 of 1,200 asked, 40 prompts" in told
    assert "83.8% same winner in both orders" in told


def test_a_judge_that_was_asked_again_is_told_from_its_draws() -> None:
    one = compared(1)
    unread, ab, ba = replace(one.calls[0], reply="hm"), *one.calls
    again = replace(one, calls=(unread, ab, ba))
    told = [(reply.title, reply.read) for reply in entry_of(again).replies]
    assert told == [
        ("A shown first, reply 1 of 2", "Not readable: the judge was asked again."),
        ("A shown first, reply 2 of 2", "Read as **A wins**, P(A) = 1.000."),
        ("B shown first", "Read as **A wins**, P(A) = 1.000."),
    ]
    assert one.preference is not None
    drawn = tuple(replace(order, draws=2) for order in one.preference.orders)
    draws = replace(again, preference=replace(one.preference, orders=drawn))
    assert next(reply.read for reply in entry_of(draws).replies) == ""
