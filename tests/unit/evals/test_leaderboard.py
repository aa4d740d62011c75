from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.evals.leaderboard import LeaderboardTable, Settings, compared, leaderboard
from rlaif.evals.length_tables import LengthControl
from rlaif.stats.length_control import LengthWeights
from tests.unit.evals.records import grade, pair, ranked


def rows_of(made):
    return {row["model"]: row for row in made["rows"]}


def season(prompts: int = 30, seed: int = 1, models=("strong", "middle", "weak")):
    """A round robin in which the earlier model wins four times of five."""
    rng = random.Random(seed)
    for n in range(prompts):
        for i, a in enumerate(models):
            for b in models[i + 1 :]:
                winner = "A" if rng.random() < 0.8 else "B"
                yield pair(
                    f"p{n}", a, b, winner, meta={"category": "even" if n % 2 == 0 else "odd"}
                )


def test_win_rates_by_hand() -> None:
    made = leaderboard(
        [
            pair("1", "x", "y", "A", p_a=0.9),
            pair("2", "y", "x", "A", p_a=0.6),
            pair("3", "x", "y", "tie", orders=("A", "B")),
            pair("4", "x", "y", None, cause="truncated"),
        ]
    )
    assert (made["kind"], made["judge"], made["interval_of"]) == ("comparison", "judge", "win_rate")
    x, y = made["rows"]
    assert (x["model"], y["model"]) == ("x", "y")
    assert x["win_rate"] == pytest.approx((0.9 + 0.4 + 0.5) / 3)
    assert x["discrete_win_rate"] == 0.5
    assert (x["wins"], x["ties"], x["losses"]) == (1, 1, 1)
    assert x["swap_rule"]["ties"] == 1
    assert (x["n"], x["coverage"], x["causes"]) == (4, 0.75, {"truncated": 1})
    assert y["win_rate"] == pytest.approx(1 - x["win_rate"])
    values = [0.9, 0.4, 0.5]
    mean = sum(values) / 3
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / 2 / 3)
    assert x["win_rate_se"] == pytest.approx(spread)
    assert made["verdicts"] == {
        "n": 4,
        "coverage": 0.75,
        "causes": {"truncated": 1},
        "ties": 1,
        "inconsistent": 1,
        "own_pairs": 0,
    }
    json.dumps(made, allow_nan=False)


def test_grades_by_turn_and_category() -> None:
    meta = [{"question_id": 81 + n // 2, "turn": 1 + n % 2, "category": "math"} for n in range(4)]
    made = leaderboard(
        [
            *(grade(str(n), "x", n + 1, meta=meta[n]) for n in range(4)),
            *(grade(str(n), "y", None, meta=meta[n]) for n in range(4)),
        ]
    )
    x, y = made["rows"]
    assert (x["score"], x["by"]) == (2.5, {"turn": {"1": 2, "2": 3}, "category": {"math": 2.5}})
    assert x["by_interval"]["turn"]["1"]["n"] == 2
    assert x["low"] < 2.5 < x["high"]
    assert (y["coverage"], y["causes"], y["low"]) == (0.0, {"unreadable": 4}, None)
    assert "score" not in y
    assert made["prompts"] == 2


def test_one_prompt_says_nothing_about_others() -> None:
    row = leaderboard([grade("1", "x", 7)])["rows"][0]
    assert (row["score"], row["low"], row["high"], row["score_se"]) == (7, 1, 10, None)


def test_garbage_changes_no_figure_but_the_coverage() -> None:
    clean = [pair(str(n), "x", "y", "A" if n % 3 else "B") for n in range(40)]
    garbage = [pair(f"g{n}", "x", "y", None) for n in range(10)]
    before, after = leaderboard(clean)["rows"], leaderboard([*clean, *garbage])["rows"]
    for one, two in zip(before, after, strict=True):
        same = {"model", "win_rate", "win_rate_se", "discrete_win_rate", "low", "high", "strength"}
        assert {key: one[key] for key in same} == {key: two[key] for key in same}
        assert (two["n"], two["coverage"], two["causes"]) == (50, 0.8, {"unreadable": 10})


def test_a_baseline_is_the_other_side_and_stands_in_the_table_itself() -> None:
    made = leaderboard(season(), Settings(baseline="middle"))
    rows = rows_of(made)
    assert rows["middle"]["baseline"]
    assert (rows["middle"]["win_rate"], rows["middle"]["win_rate_se"]) == (0.5, 0.0)
    assert rows["strong"]["n"] == rows["weak"]["n"] == rows["middle"]["n"] == 30
    assert rows["strong"]["win_rate"] > 0.5 > rows["weak"]["win_rate"]
    assert [d["a"] for d in made["differences"]] == ["strong"]
    alone = leaderboard([*season(), pair("p0", "new", "weak", "A")], Settings(baseline="middle"))
    assert alone["without_baseline"] == ["new"]
    with pytest.raises(ConfigError, match=r"baseline 'midle': did you mean 'middle'\?"):
        leaderboard(season(), Settings(baseline="midle"))


def test_strengths_order_the_table_and_say_why_there_are_none() -> None:
    made = leaderboard(season(), Settings(by_strength=True, elo=True))
    assert [row["model"] for row in made["rows"]] == ["strong", "middle", "weak"]
    strengths = [row["strength"] for row in made["rows"]]
    assert sum(strengths) == pytest.approx(0, abs=1e-9)
    points = [row["elo"] - 1000 for row in made["rows"]]
    assert points == pytest.approx([400 / math.log(10) * s for s in strengths])
    assert made["rows"][0]["strength_low"] < strengths[0] < made["rows"][0]["strength_high"]
    assert (made["rows"][0]["rank_best"], made["rows"][-1]["rank_worst"]) == (1, 3)
    sweep = [pair(str(n), "x", "y", "A") for n in range(5)]
    assert "x never lost to the rest" in leaderboard(sweep)["strengths"]["unavailable"]
    assert "strength" not in leaderboard(sweep)["rows"][0]
    with pytest.raises(DataError, match="x never lost to the rest"):
        leaderboard(sweep, Settings(by_strength=True))
    with pytest.raises(DataError, match="no comparison of two models has a verdict"):
        leaderboard([pair("1", "x", "y", None)], Settings(ties="davidson"))


def test_a_ranking_counts_as_the_comparisons_it_implies() -> None:
    made = leaderboard([ranked("1", "x", "y", "z"), ranked("2", "y", "x", "z")])
    rates = {row["model"]: (row["n"], row["win_rate"]) for row in made["rows"]}
    assert rates == {"x": (4, 0.75), "y": (4, 0.75), "z": (4, 0.0)}


def test_responses_that_share_a_place_in_a_ranking_tie() -> None:
    from dataclasses import replace

    one = ranked("1", "x", "y", "z")
    shared = replace(one, ranking=replace(one.ranking, strengths={"x": 1, "y": -0.5, "z": -0.5}))
    rates = {row["model"]: row["win_rate"] for row in leaderboard([shared])["rows"]}
    assert rates == {"x": 1.0, "y": 0.25, "z": 0.25}


@given(st.permutations(["strong", "middle", "weak"]))
def test_renaming_models_permutes_their_rows(names) -> None:
    plain = rows_of(leaderboard(season(8)))
    renamed = rows_of(leaderboard(season(8, models=tuple(names))))
    for old, new in zip(("strong", "middle", "weak"), names, strict=True):
        for key in ("win_rate", "low", "high", "strength"):
            if key in plain[old]:
                assert renamed[new][key] == pytest.approx(plain[old][key], abs=1e-9)


def test_a_difference_pairs_prompts_that_two_models_share() -> None:
    """A prompt that is hard for both widens each interval and leaves their difference alone."""
    verdicts = []
    for n in range(40):
        hard = n % 2 == 0
        a, b = (0.3, 0.2) if hard else (0.9, 0.8)
        verdicts += [
            pair(str(n), "x", "base", "A" if a > 0.5 else "B", p_a=a),
            pair(str(n), "y", "base", "A" if b > 0.5 else "B", p_a=b),
        ]
    made = leaderboard(verdicts, Settings(baseline="base"))
    assert made["separability"]["separated"] == 0
    (one,) = made["differences"]
    assert (one["a"], one["b"]) == ("x", "y")
    assert one["difference"] == pytest.approx(0.1)
    assert one["se"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("prompts", "more"), [(2, 5), (5, 2), (7, 0)])
def test_few_prompts_that_all_say_one_thing_separate_nothing(prompts: int, more: int) -> None:
    """By the interval of a win rate: n of n stands clear of one half from 7 prompts on."""
    made = leaderboard(pair(str(n), "x", "y", "A") for n in range(prompts))
    (one,) = made["differences"]
    assert (one["difference"], one["se"], one["more_prompts"]) == (1.0, 0.0, more)
    assert (one["low"] > 0) == (made["separability"]["separated"] == 1) == (more == 0)
    x, y = made["rows"]
    assert one["low"] == pytest.approx(x["low"] - y["high"])
    assert one["high"] == 1.0


def test_models_that_never_differ_need_no_prompts() -> None:
    made = leaderboard(pair(str(n), "x", "y", "tie") for n in range(9))
    (one,) = made["differences"]
    assert one["more_prompts"] is None
    assert one["low"] == -one["high"] < -0.3
    x, y = made["rows"]
    assert x["strength"] == y["strength"] == 0
    assert x["strength_low"] == -x["strength_high"] < -0.4  # nine ties are no proof of a tie


def test_equal_grades_have_an_interval_inside_their_scale() -> None:
    grades = [grade(str(n), "best", 5, scale=(1, 5)) for n in range(6)] + [
        grade(str(n), "good", 4, scale=(1, 5)) for n in range(6)
    ]
    made = leaderboard(grades)
    best, good = made["rows"]
    assert (best["low"], best["high"]) == (pytest.approx(1 + 4 * 6 / (6 + 2.5706**2), abs=1e-3), 5)
    assert 1 < good["low"] < 4 < good["high"] < 5
    (one,) = made["differences"]
    assert one["low"] < 0 < one["difference"] == 1.0 < one["high"]
    assert one["more_prompts"] > 0


def test_an_interval_of_grades_ends_where_their_scale_does() -> None:
    made = leaderboard(grade(str(n), "m", value, scale=(1, 5)) for n, value in enumerate((5, 4, 5)))
    assert made["rows"][0]["high"] == 5
    assert made["rows"][0]["low"] < 4


def test_length_control_by_each_way() -> None:
    rng = random.Random(0)
    verdicts = []
    for n in range(120):
        for model, skill in (("x", 0.3), ("y", -0.5)):
            own, base = rng.randint(50, 150), 100
            chance = 1 / (1 + math.exp(-(skill + 0.02 * (own - base))))
            winner = "A" if rng.random() < chance else "B"
            lengths = {model: own, "base": base}
            verdicts.append(pair(str(n), model, "base", winner, meta={"lengths": lengths}))
    difficulty = {str(n): (n % 7 - 3) / 3 for n in range(120)}
    settings = Settings(rounds=5, length_control=LengthControl("refit"))
    joint = leaderboard(verdicts, settings)  # the only common model is the baseline
    assert joint["baseline"] == "base"
    assert rows_of(joint)["x"]["lc_method"] == "joint"
    assert rows_of(joint)["x"]["avg_length"] == pytest.approx(100, abs=10)
    alone = leaderboard([v for v in verdicts if v.candidates[0].model == "x"], settings)
    assert rows_of(alone)["x"]["lc_method"] == "length only"
    given_ = Settings(rounds=5, length_control=LengthControl("refit", difficulty))
    assert rows_of(leaderboard(verdicts, given_))["y"]["lc_method"] == "refit"
    ratio = Settings(rounds=5, length_control=LengthControl("ratio"))
    assert rows_of(leaderboard(verdicts, ratio))["x"]["lc_method"] == "length ratio"
    weights = {"x": LengthWeights(-1, 0.5, 0.2), "y": LengthWeights(-1, 0.5, -0.4)}
    told = leaderboard(
        verdicts, Settings(length_control=LengthControl("weights", difficulty, weights))
    )
    assert [row["model"] for row in told["rows"]] == ["x", "base", "y"]
    there = told["lc_head_to_head"]["x"]["y"]
    assert there == pytest.approx(1 - told["lc_head_to_head"]["y"]["x"])
    few = LengthControl("weights", difficulty, {"x": weights["x"]})
    with pytest.raises(ConfigError, match="no weights for the model 'y'"):
        leaderboard(verdicts, Settings(length_control=few))
    easy = LengthControl("refit", {"0": 1.0})
    with pytest.raises(DataError, match="119 prompts have no difficulty, the first is '1'"):
        leaderboard(verdicts, Settings(length_control=easy))
    with pytest.raises(DataError, match="length of a response of x or of its opponent is unknown"):
        leaderboard([pair(str(n), "x", "base", "AB"[n % 2]) for n in range(9)], settings)
    with pytest.raises(ConfigError, match="name it with --baseline"):
        leaderboard(season(), settings)


def test_style_control_takes_out_what_lists_are_worth() -> None:
    rng = random.Random(3)
    table = LeaderboardTable(style=True)
    for n in range(200):
        fancy = rng.random() < 0.5
        words = ["word " * rng.randint(3, 30) for _ in "ab"]
        listed = "".join(f"- {word}\n" for word in ("one", "two", "three"))
        texts = (listed + words[0], words[1]) if fancy else (words[0], listed + words[1])
        winner = "A" if (rng.random() < 0.85) == fancy else "B"
        table.add(pair(str(n), "x", "y", winner, texts=texts))
    made = table.result(Settings(baseline="y"))
    assert made["style"]["lists"]["coefficient"] > 0.3
    assert rows_of(made)["x"]["style_win_rate"] == pytest.approx(0.5, abs=0.15)
    assert "style_strength_low" in rows_of(table.result())["y"]
    with pytest.raises(SpecError, match="needs the text of both responses"):
        table.add(pair("bare", "x", "y", "A"))
    assert table.result()["verdicts"]["n"] == 200


def test_leaderboards_are_held_against_one_another() -> None:
    made, other = leaderboard(season(60)), leaderboard(season(60, seed=2))
    held = compared(made, other)
    assert (held["kendall_tau"], held["models"], held["pairs"]) == (pytest.approx(1), 3, 3)
    assert held["brier"] < 0.05
    with pytest.raises(DataError, match="share 0 models"):
        compared(made, leaderboard(season(5, models=("a", "b"))))


def test_what_a_leaderboard_refuses() -> None:
    table = LeaderboardTable()
    with pytest.raises(DataError, match="no verdicts"):
        table.result()
    table.add(pair("1", "x", "x", "A"))
    with pytest.raises(DataError, match="of a model with itself"):
        table.result()
    with pytest.raises(SpecError, match="a score in a table of comparisons"):
        table.add(grade("1", "x", 5))
    with pytest.raises(SpecError, match="names no turn"):
        table.add(pair("2", "x", "y", "A", meta={"turn": ""}))
    with pytest.raises(SpecError, match="a mix of 2 judges, judge, other"):
        leaderboard([pair("1", "x", "y", "A"), pair("1", "x", "y", "A", judge="other")])
    scores = LeaderboardTable()
    scores.add(grade("1", "x", 5))
    scores.add(grade("2", "x", 11, scale=(1, 11)))  # a grade outside its scale widens it
    with pytest.raises(SpecError, match="a scale of 1 to 5 among 1 to 10"):
        scores.add(grade("3", "x", 4, scale=(1, 5)))
    with pytest.raises(ConfigError, match="scores have no opponents"):
        scores.result(Settings(baseline="x"))
    with pytest.raises(DataError, match="no verdict is by nobody"):
        scores.result(judges=["nobody"])
    broken = LeaderboardTable()
    with pytest.raises(SpecError, match="does not name each candidate once"):
        broken.add(_short_ranking())
    with pytest.raises(DataError, match="level"):
        scores.result(Settings(level=1.0))


def _short_ranking():
    from dataclasses import replace

    verdict = ranked("1", "x", "y")
    return replace(verdict, ranking=replace(verdict.ranking, order=("x",)))


def test_two_judges_and_one_picked() -> None:
    verdicts = [pair("1", "x", "y", "A", judge="one"), pair("1", "x", "y", "B", judge="two")]
    made = leaderboard(verdicts, judge="two")
    assert (made["judge"], rows_of(made)["y"]["win_rate"]) == ("two", 1.0)
    pooled = leaderboard(verdicts, judge="*")
    assert (pooled["judge"], rows_of(pooled)["y"]["win_rate"]) == ("2 judges: *", 0.5)
