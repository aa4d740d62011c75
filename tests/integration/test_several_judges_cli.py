"""Panels, cascades and rankings by lists, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.command import Result, rlaif, rows, write_rows

GOOD, BAD = "A full and careful answer.", "No idea."


def script(name: str, *lines: tuple[str, object]) -> str:
    """The address of a scripted judge: what it says where a text is shown."""
    made = [
        {"match": match, "reply": said} if isinstance(said, str) else {"match": match, **said}  # type: ignore[dict-item]
        for match, said in lines
    ]
    return f"scripted/{write_rows(Path(f'{name}.jsonl'), *made)}"


def fair(name: str) -> str:
    """A judge that knows the good answer wherever it stands."""
    return script(name, (f"_a>\n{GOOD}", "[[A]]"), (f"_b>\n{GOOD}", "[[B]]"))


@pytest.fixture
def first() -> str:
    return script("first", ("", "[[A]]"))


@pytest.fixture
def mute() -> str:
    return script("mute", ("", "Hm."))


def compare(*words: object, data: object = "pairs.jsonl", run: str = "run") -> Result:
    return rlaif("judge", "compare", data, *words, "-o", run)


def models(*addresses: str) -> list[str]:
    return [word for address in addresses for word in ("-m", address)]


def test_a_panel_compares_and_says_what_it_is_worth(pairs: Path, first: str) -> None:
    done = compare(*models(fair("one"), fair("two"), first), "--json")
    assert done.code == 0, done.err
    panel = done.json["panel"]
    assert (panel["judges"], panel["coverages"]) == (3, [1.0, 1.0, 1.0])
    # two copies that vary, and one that never says anything else
    assert panel["effective_judges"] == pytest.approx(1.5, abs=0.6)
    assert panel["basis"] == "verdicts"
    found = rows(Path("run/verdicts.jsonl"))
    assert [v["preference"]["winner"] for v in found] == ["A", "B"] * 3
    assert found[0]["preference"]["p_a"] == pytest.approx(2.5 / 3)
    assert [len(v["members"]) for v in found] == [3] * 6
    assert len(found[0]["judge"]["members"]) == 3
    again = compare(*models(fair("one"), fair("two"), first))
    assert again.code == 0
    assert "judges" in again.out
    assert json.loads(Path("run/summary.json").read_text())["calls_cached"] == 36


def test_weights_vote_quorum_and_substitutes(pairs: Path, first: str, mute: str) -> None:
    done = compare(*models(fair("one"), first), "--weights", "3,1", "--panel", "mean")
    assert done.code == 0, done.err
    assert rows(Path("run/verdicts.jsonl"))[0]["preference"]["p_a"] == pytest.approx(0.875)
    lost = compare(*models(fair("one"), first, mute), "--min-valid", "3", run="lost")
    assert lost.code == 1
    assert {v["cause"] for v in rows(Path("lost/verdicts.jsonl"))} == {"unreadable"}
    words = ["--min-valid", "3", "--substitute", fair("two"), "--json"]
    replaced = compare(*models(fair("one"), first, mute), *words, run="whole")
    assert replaced.code == 0, replaced.err
    assert replaced.json["panel"]["replaced"] == 6


def test_weights_estimated_from_the_run_s_own_votes(pairs: Path) -> None:
    contrary = script("contrary", (f"_a>\n{GOOD}", "[[B]]"), (f"_b>\n{GOOD}", "[[A]]"))
    members = models(fair("one"), fair("two"), fair("three"), contrary)
    done = compare(*members, "--weights", "estimated", "--json")
    assert done.code == 0, done.err
    weights = done.json["panel"]["weights"]
    assert weights[3] == 0
    assert min(weights[:3]) > 1
    found = rows(Path("run/verdicts.jsonl"))
    assert [v["preference"]["p_a"] for v in found] == pytest.approx([1.0, 0.0] * 3)
    before = Path("run/verdicts.jsonl").read_bytes()
    assert compare(*members, "--weights", "estimated").code == 0
    assert len(rows(Path("run/verdicts.jsonl"))) == len(before.splitlines())
    alike = compare(
        *models(*(script(k, ("", "[[tie]]")) for k in "abc")), "--weights", "estimated", run="t"
    )
    assert "note: all judges count alike" in alike.err


def test_several_rubrics_are_several_judges(pairs: Path) -> None:
    done = compare("-m", fair("one"), "-r", "helpfulness", "-r", "honesty")
    assert done.code == 0, done.err
    judge = rows(Path("run/verdicts.jsonl"))[0]["judge"]
    assert [m["rubric"]["name"] for m in judge["members"]] == ["helpfulness", "honesty"]
    assert "rubric" not in judge


def test_a_panel_scores() -> None:
    write_rows(Path("data.jsonl"), {"id": "q", "prompt": "Q?", "response": GOOD})
    graders = [script(f"g{n}", ("", f"helpfulness: [[{n}]]")) for n in (2, 3, 5)]
    for rule, value in (("mean", 10 / 3), ("median", 3)):
        words = [*models(*graders), "--panel", rule, "-o", rule]
        assert rlaif("judge", "score", "data.jsonl", *words).code == 0
        (verdict,) = rows(Path(rule) / "verdicts.jsonl")
        assert verdict["score"]["value"] == pytest.approx(value)
        assert [m["score"]["value"] for m in verdict["members"]] == [2, 3, 5]


def test_a_cascade_asks_the_large_judge_where_the_small_one_is_in_doubt(
    pairs: Path, first: str
) -> None:
    rest = [f"Question {n}?" for n in (0, 1, 2, 3)]
    small = script("small", *((text, "[[tie]]") for text in rest), ("", "[[tie]]"))
    good = fair("large")
    done = compare(*models(first, good), "--cascade", "0.8", "--json")
    assert done.code == 0, done.err
    cascade = done.json["cascade"]
    assert [s["asked"] for s in cascade["stages"]] == [6, 6]
    assert (cascade["escalated"], cascade["calls_saved"]) == (0, 0)
    sure = compare(*models(good, first), "--cascade", "0.8", run="sure")
    assert sure.code == 0
    assert "12 calls" in sure.out
    assert rows(Path("sure/escalate.jsonl")) == []
    doubtful = compare(*models(first, small), "--cascade", "0.8", "--json", run="doubt")
    assert doubtful.json["cascade"]["escalated"] == 6
    left = rows(Path("doubt/escalate.jsonl"))
    assert len(left) == 6
    assert left[0]["meta"]["judged"] == "tie"
    # what is left is data for a further judge
    further = compare("-m", good, data="doubt/escalate.jsonl", run="further")
    assert further.code == 0, further.err


def test_scores_that_nobody_is_sure_of_are_data_for_a_further_judge() -> None:
    write_rows(Path("data.jsonl"), {"id": "q", "prompt": "Q?", "response": GOOD})
    graders = [script(f"g{n}", ("", f"helpfulness: [[{n}]]")) for n in (2, 3)]
    words = ["judge", "score", "data.jsonl", *models(*graders), "--cascade", "0.9", "-o", "run"]
    assert rlaif(*words).code == 0
    (row,) = rows(Path("run/escalate.jsonl"))
    assert (row["meta"]["judged"], row["response"][0]["content"]) == (3.0, GOOD)
    again = rlaif("judge", "score", "run/escalate.jsonl", "-m", graders[0], "-o", "again")
    assert again.code == 0, again.err


def test_what_stands_in_gives_grades_too() -> None:
    rewards = Path("rewards")
    rewards.mkdir()
    (rewards / "config.json").write_text('{"architectures": ["XForSequenceClassification"]}')
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (rewards / name).touch()
    write_rows(Path("data.jsonl"), {"prompt": "Q?", "response": GOOD})
    words = ["judge", "score", "data.jsonl", *models(fair("one"), fair("two")), "-o", "run"]
    done = rlaif(*words, "--substitute", f"reward/{rewards.absolute()}")
    assert done.code == 2
    assert "rewards and checklists are no grades to combine" in done.err


def ranking_data() -> Path:
    made = [{"id": f"q{n}", "prompt": f"Q{n}?", "responses": ["one", "two", "three"]} for n in "ab"]
    return write_rows(Path("rank.jsonl"), *made)


def test_lists_are_ranked_by_place_as_equal() -> None:
    judge = script("places", ("", "Because.\n[[A > B > C]]"))
    words = ["judge", "rank", ranking_data(), "-m", judge, "--method", "listwise", "-o", "run"]
    done = rlaif(*words, "--json")
    assert done.code == 0, done.err
    assert done.json["rankings"]["settled"] == 0
    assert done.json["rankings"]["unsettled_neighbors"] == 4
    assert done.json["calls"] == 8
    found = rows(Path("run/verdicts.jsonl"))
    assert list(found[0]["ranking"]["strengths"].values()) == pytest.approx([0, 0, 0])
    assert len({call["shown"] for call in found[0]["calls"]}) == 4
    told = rlaif(*words)
    assert "0 of 2 rankings" in told.out
    assert "cycles" in told.out
    plan = rlaif(*words[:-1], "other", "--shuffles", "2", "--dry-run", "--json")
    assert plan.json["rows"][0]["requests"] == 4


def test_rankings_become_preferences_and_a_table() -> None:
    rank = script(
        "alphabet",
        ("_a>\nthree", "[[A]]"),
        ("_b>\nthree", "[[B]]"),
        ("_a>\ntwo", "[[A]]"),
        ("", "[[B]]"),
    )
    words = ["judge", "rank", ranking_data(), "-m", rank, "--method", "round-robin", "-o", "run"]
    assert rlaif(*words).code == 0
    done = rlaif("prefer", "run", "-o", "set", "--test-share", "0", "--json")
    assert done.code == 0, done.err
    assert done.json["rows"] == {"train": 6}
    near = rlaif(
        *("prefer", "run", "-o", "near", "--ranked-pairs", "adjacent", "--test-share", "0"),
        "--json",
    )
    assert near.json["rows"] == {"train": 4}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--panel", "median"], "--panel is for several judges"),
        (["--cascade", "0.8"], "--cascade is for several judges"),
        (["-m", "JUDGE"], "is given twice"),
        (["-r", "honesty", "-r", "honesty"], "-r honesty is given twice"),
        (["-m", "FIRST", "--min-valid", "3"], "3 verdicts of 2 judges"),
        (["-m", "FIRST", "--weights", "1"], "as many weights"),
        (["-m", "FIRST", "--weights", "a,b"], "numbers such as 2,1,1"),
        (["-m", "FIRST", "--weights", "estimated"], "need three judges"),
        (["-m", "FIRST", "--cascade", "0.8", "--weights", "1,1"], "takes no --weights"),
        (["-m", "FIRST", "--cascade", "0.5"], "confidence above 0.5"),
        (
            ["-m", "FIRST", "-r", "honesty", "-r", "helpfulness", "--cascade", "0.8"],
            "--cascade takes one rubric",
        ),
    ],
)
def test_judges_that_do_not_fit_together_are_refused(
    pairs: Path, first: str, words: list[str], message: str
) -> None:
    one = fair("one")
    named = [{"JUDGE": one, "FIRST": first}.get(word, word) for word in words]
    done = compare("-m", one, *named)
    assert done.code == 2
    assert message in done.error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shuffles", "2"], "--shuffles is for --method listwise"),
        *(
            (["--method", "listwise", *words], f"takes no {words[0]}")
            for words in [
                ["--draws", "2"],
                ["--least-mass", "0.1"],
                ["--compare-by", "verdict"],
                ["--levels", "5"],
                ["--orders", "AB"],
                ["--questions-by", "FIRST"],
                ["--aggregate", "mode"],
                ["--criteria-calls", "each"],
            ]
        ),
        (["--method", "listwise", "--comparisons", "2", "--settle", "top1"], "--comparisons, --se"),
        (["--cascade", "0.8", "-m", "FIRST"], "for judge score and judge compare"),
    ],
)
def test_rankings_refuse_what_they_have_no_use_for(
    first: str, words: list[str], message: str
) -> None:
    named = [{"FIRST": first}.get(word, word) for word in words]
    done = rlaif("judge", "rank", ranking_data(), "-m", fair("one"), *named, "-o", "run")
    assert done.code == 2
    assert message in done.error


def test_a_list_of_too_many_responses_is_refused_before_anything_is_asked(first: str) -> None:
    many = [f"response {n}" for n in range(27)]
    data = write_rows(Path("many.jsonl"), {"id": "q", "prompt": "Q?", "responses": many})
    done = rlaif("judge", "rank", data, "-m", first, "--method", "listwise", "-o", "run")
    assert done.code == 2
    assert "a list holds 26 at most" in done.error
    assert not Path("run").exists()


def test_a_panel_ranks_by_pairs_and_by_lists(first: str) -> None:
    other = script("other", ("", "[[B]]"))
    words = ["judge", "rank", ranking_data(), *models(first, other)]
    done = rlaif(*words, "--method", "round-robin", "-o", "pairs", "--json")
    assert done.code == 0, done.err
    assert done.json["panel"]["judges"] == 2
    lists = [script(k, ("", f"[[{said}]]")) for k, said in (("x", "A > B > C"), ("y", "C > B > A"))]
    words = ["judge", "rank", ranking_data(), *models(*lists)]
    done = rlaif(*words, "--method", "listwise", "-o", "lists", "--json")
    assert done.code == 0, done.err
    (one, _) = rows(Path("lists/verdicts.jsonl"))
    assert len(one["members"]) == 2
    plan = rlaif(*words, "--method", "listwise", "-o", "plan", "--dry-run", "--json")
    assert [row["requests"] for row in plan.json["rows"]] == [8, 8]
