from __future__ import annotations

import math
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlaif.evals import leaderboard_counts
from rlaif.evals.leaderboard import LeaderboardTable, Settings, leaderboard
from rlaif.evals.leaderboard_counts import (
    SCORED,
    JudgmentCounts,
    entries_by_model,
    outcome_of,
    question_key,
    without_verdict,
)
from tests.unit.evals.records import grade, pair

judgments = st.tuples(
    st.integers(0, 1),  # judge
    st.sampled_from(["p1", "p2", "p3", "\ud800"]),
    st.sampled_from([(0, 1), (1, 0), (0, 2), (2, 1)]),
    st.integers(0, SCORED + 6),
    st.integers(-1, 2),  # stratum
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from([10.0, 20.0, math.nan]),
)


@given(st.lists(judgments, min_size=1, max_size=60), st.integers(1, 9))
def test_counting_at_once_is_counting_one_by_one(rows, fold_at) -> None:
    counts = JudgmentCounts(("turn",))
    counts._most_waiting = fold_at
    for judge, question, models, outcome, stratum, value, length in rows:
        key = question_key(question)
        counts.add(judge, key, models, outcome, (stratum,), (value, length, 7.0))
        counts._most_waiting = fold_at
    found = counts.columns([0, 1], ["x", "y", "z"], {"turn": ["1", "2", "3"]})
    kinds = Counter((judge, q, pair, out, s) for judge, q, pair, out, s, _, _ in rows)
    assert found.n.sum() == len(rows)
    assert sorted(found.n.tolist()) == sorted(kinds.values())
    assert found.total.sum() == sum(row[5] for row in rows)
    assert found.length_b.sum() == 7.0 * len(rows)
    unknown = any(math.isnan(row[6]) for row in rows)
    assert math.isnan(found.length_a.sum()) == unknown
    assert found.question.max() + 1 == len({row[1] for row in rows})
    mine = [row for row in rows if row[0] == 1]
    assert counts.columns([1], ["x", "y", "z"], {"turn": []}).n.sum() == len(mine)


@given(st.lists(judgments, min_size=1, max_size=40))
def test_each_side_of_a_comparison_sees_the_other_side(rows) -> None:
    counts = JudgmentCounts(())
    for _, question, models, outcome, _, value, _ in rows:
        won = outcome % SCORED  # winners alone
        counts.add(0, question_key(question), models, won, (), (value, 1.0, 2.0))
    columns = counts.columns([0], ["x", "y", "z"], {})
    sides = entries_by_model(columns).values()
    assert sum(int(side.n.sum()) for side in sides) == 2 * len(rows)
    assert math.isclose(sum(float(side.total.sum()) for side in sides), len(rows))
    assert sum(float((side.hard * side.n).sum()) for side in sides) == len(rows)
    assert sum(float(side.length.sum()) for side in sides) == 3.0 * len(rows)


def test_outcomes_are_numbers_that_tell_everything() -> None:
    counts = JudgmentCounts(())
    outcomes = [outcome_of(w, consistent=c) for w in ("A", "tie", "B") for c in (False, True)]
    outcomes += [SCORED, without_verdict("refused")]
    for outcome in outcomes:
        counts.add(0, 1, (0, 1), outcome, (), (0.0, 0.0, 0.0))
    columns = counts.columns([0], ["x", "y"], {})
    by_outcome = dict(zip(columns.outcome.tolist(), range(columns.n.size), strict=True))
    rows = [by_outcome[outcome] for outcome in outcomes]
    assert columns.hard[rows[:6]].tolist() == [1, 1, 0.5, 0.5, 0, 0]
    assert columns.consistent[rows].tolist() == [False, True] * 3 + [True, True]
    assert columns.ok[rows].tolist() == [True] * 7 + [False]
    assert columns.cause[rows].tolist() == [-1] * 7 + [1]
    assert columns.present() == ["x", "y"]


def test_memory_follows_pairs_on_prompts_and_not_verdicts(monkeypatch) -> None:
    monkeypatch.setattr(leaderboard_counts, "_FEWEST_WAITING", 100)
    table = LeaderboardTable()
    for n in range(5000):
        winner = "A" if n % 3 else "B"
        table.add(pair(f"p{n % 10}", "xyz"[n % 3], "base", winner, judge="j", p_a=None))
    made = table.result(Settings(baseline="base"))
    assert made["verdicts"]["n"] == 5000
    assert table._counts._n.size <= 10 * 3 * 2
    assert table._counts._waiting == 0


def test_questions_have_numbers_that_no_process_changes() -> None:
    assert question_key("q1") == 7530267129497158631
    names = [f"q{n}" for n in range(2000)]
    assert len({question_key(name) for name in names}) == 2000


def test_rows_that_share_a_mixed_number_are_counted_apart_and_lose_nothing(monkeypatch) -> None:
    verdicts = [pair(f"p{n % 7}", "x", "y", "AB"[n % 3 == 0]) for n in range(60)]
    verdicts += [pair(f"p{n % 7}", "y", "z", "AB"[n % 4 == 0]) for n in range(60)]
    plain = leaderboard(verdicts)
    monkeypatch.setattr(
        leaderboard_counts, "_mixed", lambda keys: np.zeros(keys[0].size, dtype=np.uint64)
    )
    crowded = leaderboard(verdicts)
    for one, two in zip(plain["rows"], crowded["rows"], strict=True):
        for key in ("n", "wins", "losses"):
            assert one[key] == two[key]
        for key in ("win_rate", "win_rate_se", "low", "high", "strength", "strength_se"):
            assert math.isclose(one[key], two[key], rel_tol=1e-9)


def test_scores_are_summed() -> None:
    made = leaderboard([grade(f"p{n % 4}", "x", 1 + n % 5) for n in range(20)])
    assert made["rows"][0]["score"] == 3.0
    assert made["rows"][0]["n"] == 20
