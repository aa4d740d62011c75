"""MT-Bench: agreement with people, strengths, win rates and grades, from the published files."""

from __future__ import annotations

import gzip
import json

import pytest

TURNS = ("1", "2")

AGREED = {
    "expert": {"1": ((423, 671), (345, 416)), "2": ((432, 662), (353, 424))},
    "author": {"1": ((121, 181), (95, 105)), "2": ((115, 179), (88, 103))},
    "": {"1": ((544, 852), (440, 521)), "2": ((547, 841), (441, 527))},
}
"""GPT-4 against every vote: how many agree, of how many, in S1 and in S2."""

STRENGTHS = {
    "gpt-4": (1.7795, 0.149, 0.9840, 0.144, 0.9849),
    "claude-v1": (0.9511, 0.197, 0.6119, 0.166, 0.6032),
    "gpt-3.5-turbo": (0.4893, 0.123, 0.4812, 0.091, 0.4948),
    "vicuna-13b-v1.2": (-0.1068, 0.108, -0.0702, 0.087, -0.0481),
    "alpaca-13b": (-1.1645, 0.162, -0.6859, 0.157, -0.7274),
    "llama-13b": (-1.9486, 0.205, -1.3211, 0.135, -1.3074),
}
"""GPT-4's verdicts, error clustered by question, experts' votes, their error, all votes."""

DAVIDSON = {
    "gpt-4": (3.1725, 1.4123),
    "claude-v1": (1.6997, 0.8813),
    "gpt-3.5-turbo": (0.8791, 0.6915),
    "vicuna-13b-v1.2": (-0.1841, -0.0973),
    "alpaca-13b": (-2.0815, -0.9797),
    "llama-13b": (-3.4857, -1.9080),
}

WIN_RATES = {
    "gpt-4": (0.8550, 0.818, 0.891, 0.7218, 0.660, 0.779),
    "claude-v1": (0.7000, 0.640, 0.758, 0.6496, 0.567, 0.730),
    "gpt-3.5-turbo": (0.6013, 0.556, 0.645, 0.6293, 0.581, 0.676),
    "vicuna-13b-v1.2": (0.4700, 0.430, 0.511, 0.4937, 0.446, 0.540),
    "alpaca-13b": (0.2525, 0.211, 0.298, 0.3014, 0.233, 0.374),
    "llama-13b": (0.1213, 0.086, 0.160, 0.1780, 0.137, 0.222),
}

GRADES = {
    "llama2_7b": (4.7625, 3.1750, 3.96875, 5.55, 4.8, 4.0, 1.4, 1.4, 1.8, 6.2, 6.6),
    "llama2_chat_7b": (6.70625, 5.6750, 6.190625, 8.8, 7.35, 4.5, 2.4, 3.05, 5.5, 8.375, 9.55),
    "claude-3-opus-20240229": (
        9.04375, 8.30625, 8.675, 9.25, 9.525, 7.55, 7.0, 7.4, 9.4, 9.825, 9.45,
    ),
}  # fmt: skip
CATEGORIES = (
    "writing",
    "roleplay",
    "reasoning",
    "math",
    "coding",
    "extraction",
    "stem",
    "humanities",
)


@pytest.fixture(scope="module")
def judged(published, imported):
    return imported("mt-bench-human", published / "mt_bench" / "gpt4_pair_judgments.jsonl")


@pytest.fixture(scope="module")
def people(published, imported):
    return imported("mt-bench-human", published / "mt_bench" / "human_judgments.jsonl")


@pytest.fixture(scope="module")
def with_experts(judged, people, agreement):
    return agreement(judged, "--with", people, "--voters", "expert")


def _counts(made, turn):
    """Agreements and comparisons of one turn, in S1 and in S2."""
    setups = made["by"]["turn"][turn]
    assert set(setups) == {"S1", "S2"}
    for row in setups.values():
        assert row["agreement"] == pytest.approx(row["agreed"] / row["n"], abs=1e-12)
        assert (row["coverage"], row["causes"]) == (1.0, {})
    return tuple((round(row["agreed"]), row["n"]) for row in setups.values())


@pytest.mark.parametrize("voters", AGREED)
def test_agreement_of_gpt4_with_people(judged, people, agreement, voters) -> None:
    made = agreement(judged, "--with", people, "--voters", voters, "--rounds", 10)
    assert {turn: _counts(made, turn) for turn in TURNS} == AGREED[voters]


def test_agreement_among_experts(people, agreement) -> None:
    made = agreement(people, "--with", people, "--voters", "expert")
    assert _counts(made, "1") == ((220, 369), (186, 237))
    assert _counts(made, "2") == ((232, 361), (175, 216))
    kappas = [made["by"]["turn"][turn]["S1"]["kappa"] for turn in TURNS]
    assert kappas == pytest.approx([0.3768, 0.4602], abs=1e-4)
    both = made["setups"]["S1"]
    assert (both["agreement"], both["kappa"]) == pytest.approx((0.6192, 0.4195), abs=1e-4)
    assert both["n"] == 730


def test_agreement_of_authors_with_experts(people, agreement) -> None:
    made = agreement(
        people, "--with", people, "--judge", "author*", "--voters", "expert", "--rounds", 10
    )
    assert _counts(made, "1") == ((142, 227), (110, 135))
    assert _counts(made, "2") == ((135, 221), (108, 127))


def test_agreement_with_the_experts_majority(judged, people, agreement) -> None:
    made = agreement(judged, "--with", people, "--voters", "expert", "--majority")
    found = {
        turn: [(round(s["agreement"], 4), s["n"]) for s in made["by"]["turn"][turn].values()]
        for turn in TURNS
    }
    assert found == {
        "1": [(0.6536, 408), (0.8377, 268)],
        "2": [(0.6874, 402), (0.8495, 279)],
    }
    assert made["ceiling"]["S1"] == pytest.approx(0.8717, abs=0.005)


def test_kappa_and_its_interval(with_experts) -> None:
    by, both = with_experts["by"]["turn"], with_experts["setups"]
    assert [by[t]["S1"]["kappa"] for t in TURNS] == pytest.approx([0.4359, 0.4684], abs=1e-4)
    assert [by[t]["S2"]["kappa"] for t in TURNS] == pytest.approx([0.6570, 0.6651], abs=1e-4)
    assert (both["S1"]["n"], both["S2"]["n"]) == (1333, 840)
    assert both["S1"]["agreement"] == pytest.approx(0.6414, abs=1e-4)
    assert both["S1"]["kappa"] == pytest.approx(0.4523, abs=1e-4)
    assert both["S2"]["agreement"] == pytest.approx(0.8310, abs=1e-4)
    assert both["S2"]["kappa"] == pytest.approx(0.6616, abs=1e-4)
    ends = [both["S1"]["low"], both["S1"]["high"], both["S2"]["low"], both["S2"]["high"]]
    assert ends == pytest.approx([0.598, 0.683, 0.786, 0.871], abs=0.01)
    kappa = both["S1"]["kappa_low"], both["S1"]["kappa_high"]
    assert kappa == pytest.approx((0.390, 0.512), abs=0.015)


def test_order_inconsistent_verdicts(with_experts, judged, people, agreement) -> None:
    assert with_experts["verdicts"]["n"] == 1200
    assert with_experts["verdicts"]["inconsistent"] == 194
    assert with_experts["verdicts"]["ties"] == 194 + 104
    made = agreement(
        judged, "--with", people, "--voters", "expert", "--consistent", "--max-failures", 0.2
    )
    rows = [made["by"]["turn"][turn]["S1"] for turn in TURNS] + [made["setups"]["S1"]]
    found = [(row["agreement"], row["kappa"], row["coverage"]) for row in rows]
    told = [(0.6863, 0.4989, 0.8361), (0.6998, 0.5148, 0.8353), (0.6930, 0.5071, 0.8357)]
    assert [x for row in found for x in row] == pytest.approx(
        [x for row in told for x in row], abs=1e-4
    )
    assert set(made["setups"]["S1"]["causes"]) == {"inconsistent"}


def test_strengths_of_gpt4s_verdicts(judged, leaderboard) -> None:
    made = leaderboard(judged, "--bradley-terry")
    assert [row["model"] for row in made["rows"]] == list(STRENGTHS)
    for row in made["rows"]:
        strength, error, *_ = STRENGTHS[row["model"]]
        assert row["strength"] == pytest.approx(strength, abs=1e-3)
        assert row["strength_se"] == pytest.approx(error, abs=1e-3)
    assert made["strengths"]["log_likelihood"] == pytest.approx(-526.546, abs=1e-3)


@pytest.mark.parametrize(
    ("voters", "place", "log_likelihood"), [("expert*", 2, -746.087), ("*", 4, -946.118)]
)
def test_strengths_of_peoples_votes(people, leaderboard, voters, place, log_likelihood) -> None:
    made = leaderboard(people, "--judge", voters)
    for row in made["rows"]:
        assert row["strength"] == pytest.approx(STRENGTHS[row["model"]][place], abs=1e-3)
        if voters == "expert*":
            assert row["strength_se"] == pytest.approx(STRENGTHS[row["model"]][3], abs=1e-3)
    assert made["strengths"]["log_likelihood"] == pytest.approx(log_likelihood, abs=1e-3)


@pytest.mark.parametrize(
    ("source", "place", "nu", "log_likelihood"),
    [("judged", 0, 1.4745, -840.619), ("people", 1, 0.8112, -1189.997)],
)
def test_strengths_with_ties_of_their_own(
    request, leaderboard, source, place, nu, log_likelihood
) -> None:
    pooled = ("--judge", "expert*") if source == "people" else ()
    made = leaderboard(request.getfixturevalue(source), "--ties", "davidson", *pooled)
    assert made["strengths"]["nu"] == pytest.approx(nu, abs=1e-3)
    assert made["strengths"]["log_likelihood"] == pytest.approx(log_likelihood, abs=1e-3)
    for row in made["rows"]:
        assert row["strength"] == pytest.approx(DAVIDSON[row["model"]][place], abs=1e-3)


def test_win_rates_and_what_they_separate(judged, people, leaderboard) -> None:
    ours = leaderboard(judged, "--reference", people, "--reference-judge", "expert*")
    theirs = leaderboard(people, "--judge", "expert*")
    for made, place in ((ours, 0), (theirs, 3)):
        for row in made["rows"]:
            rate, low, high = WIN_RATES[row["model"]][place : place + 3]
            assert row["win_rate"] == pytest.approx(rate, abs=1e-4)
            assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.01)
    assert (ours["separability"]["separated"], ours["separability"]["pairs"]) == (14, 15)
    assert theirs["separability"]["separated"] in {11, 12, 13}
    held = ours["reference"]
    assert held["kendall_tau"] == pytest.approx(1.0)
    assert held["agreement_with_confidence"] == pytest.approx(0.80, abs=1 / 15 + 1e-9)
    assert held["brier"] < 1e-4


def test_grades_by_turn_and_category(published, imported, leaderboard) -> None:
    files = published / "mt_bench"
    run = imported(
        "mt-bench-single",
        *sorted((files / "model_judgment").glob("gpt-4_single.*.jsonl.gz")),
        "--questions",
        files / "question.jsonl",
    )
    made = leaderboard(run)
    assert (made["kind"], made["judge"], made["interval_of"]) == ("score", "gpt-4", "score")
    assert {row["model"] for row in made["rows"]} == set(GRADES)
    for row in made["rows"]:
        first, second, both, *by_category = GRADES[row["model"]]
        assert (row["n"], row["coverage"], row["causes"]) == (160, 1.0, {})
        assert row["score"] == pytest.approx(both, abs=1e-9)
        assert row["by"]["turn"] == pytest.approx({"1": first, "2": second}, abs=1e-9)
        told = dict(zip(CATEGORIES, by_category, strict=True))
        assert row["by"]["category"] == pytest.approx(told, abs=1e-9)
        assert row["low"] < row["score"] < row["high"]


def test_a_failed_pair_is_no_verdict_and_the_swap_rule_is_the_old_tools(
    published, imported, leaderboard
) -> None:
    files = published / "mt_bench" / "model_judgment"
    made = leaderboard(imported("mt-bench-pair", *files.glob("gpt-4_pair.*.jsonl.gz")))
    assert made["verdicts"]["inconsistent"] == 16
    row = next(row for row in made["rows"] if row["model"] == "phi-3")
    assert (row["n"], row["causes"]) == (38, {"provider_error": 1})
    assert row["coverage"] == pytest.approx(37 / 38)
    rule = row["swap_rule"]
    assert (rule["wins"], rule["losses"], rule["ties"]) == (7, 11, 19)
    assert rule["win_rate"] == pytest.approx(0.1892, abs=5e-5)
    assert rule["win_rate_adjusted"] == pytest.approx(0.4459, abs=5e-5)


def test_a_fifth_of_garbage_moves_no_grade_of_the_rest_and_ends_with_code_1(
    published, imported, leaderboard, tmp_path
) -> None:
    source = published / "mt_bench" / "model_judgment" / "gpt-4_single.llama2_7b.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    kept = [row for n, row in enumerate(rows) if n % 5]
    for row in rows[::5]:
        row.update(score=-1, judgment="no mark in here")
    path = tmp_path / "spoiled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = leaderboard(imported("mt-bench-single", path, "--max-failures", 1), code=1)["rows"]
    assert row["score"] == pytest.approx(sum(r["score"] for r in kept) / len(kept), abs=1e-9)
    assert (row["n"], row["coverage"], row["causes"]) == (160, 0.8, {"unreadable": 32})
