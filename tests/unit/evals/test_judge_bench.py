"""Labeled pairs: every set's rows, what is left out, and how the sets sum up."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rlaif.errors import SpecError
from rlaif.evals.judge_bench import (
    FORMATS,
    Format,
    LeftOut,
    check_format,
    chosen_is_a,
    left_out_summary,
    read_set,
)
from rlaif.evals.judge_bench_rules import label_result
from rlaif.types import Comparison, JudgeRef, OrderVerdict, Preference, Sampling, Verdict, Winner
from tests.unit.evals.bench_files import jsonl

HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:"
ROWS: dict[Format, dict] = {
    "llmbar": {"input": "Ask", "output_1": "good", "output_2": "bad", "label": 1},
    "judgebench": {
        "pair_id": "p1",
        "original_id": 7,
        "source": "mmlu-pro-law",
        "question": "Ask",
        "response_model": "gpt-4o",
        "response_A": "bad",
        "response_B": "good",
        "label": "B>A",
    },
    "rewardbench": {
        "id": 3,
        "prompt": "Ask",
        "chosen": "good",
        "chosen_model": "m1",
        "rejected": "bad",
        "rejected_model": "m2",
        "subset": "hep-cpp",
    },
    "rewardbench2": {
        "id": "x",
        "prompt": "Ask",
        "chosen": ["good"],
        "rejected": ["bad", "bad2", "bad3"],
        "num_correct": 1,
        "num_incorrect": 3,
        "models": ["m"],
        "subset": "Math",
    },
    "rm-bench": {
        "id": 5,
        "prompt": "Ask",
        "chosen": ["good", "good+", "good++"],
        "rejected": ["bad", "bad+", "bad++"],
        "domain": "chat",
    },
    "pandalm": {
        "idx": 2,
        "motivation_app": "Grammarly",
        "cmp_key": "llama-7b_opt-7b",
        "instruction": "Ask",
        "input": None,
        "response1": "bad",
        "response2": "good",
        "annotator1": 2,
        "annotator2": 0,
        "annotator3": 2,
    },
    "auto-j": {
        "scenario": "planning",
        "label": 0,
        "prompt": "Ask",
        "response 1": "good",
        "response 2": "bad",
    },
    "hh-rlhf": {"chosen": f"{HH} good", "rejected": f"{HH} bad"},
    "pairs": {"id": "a", "prompt": "Ask", "response_a": "bad", "response_b": "good", "label": "B"},
}


def read(
    folder: Path, name: Format, *rows: dict, limit: int | None = None
) -> tuple[list[Comparison], list[LeftOut]]:
    left: list[LeftOut] = []
    path = jsonl(folder / "natural.jsonl", rows or [ROWS[name]])
    return list(read_set(name, [path], left.append, limit=limit)), left


def better(comparison: Comparison) -> str:
    label = comparison.item.meta["label"]
    return {"A": comparison.a.text, "B": comparison.b.text}[label]


@pytest.mark.parametrize("name", FORMATS)
def test_the_label_names_the_better_response_in_every_format(tmp_path: Path, name: Format) -> None:
    pairs, left = read(tmp_path, name)
    assert not left
    assert pairs
    for pair in pairs:
        assert better(pair).startswith("good")
        assert pair.item.prompt[0].content in {"Ask", "Hi"}
        assert pair.a.text != pair.b.text


def test_where_items_come_from_is_kept(tmp_path: Path) -> None:
    (bar,), _ = read(tmp_path, "llmbar")
    assert (bar.item.id, bar.item.meta["dataset"], bar.item.meta["subset"]) == (
        "natural:0",
        "llmbar",
        "natural",
    )
    (bench,), _ = read(tmp_path, "judgebench")
    assert (bench.item.id, bench.item.meta["source"], bench.item.meta["subset"]) == (
        "p1",
        "mmlu-pro-law",
        "knowledge",
    )
    (panda,), _ = read(tmp_path, "pandalm")
    assert (panda.a.model, panda.b.model) == ("llama-7b", "opt-7b")
    (reward,), _ = read(tmp_path, "rewardbench")
    assert {(reward.a.text, reward.a.model), (reward.b.text, reward.b.model)} == {
        ("good", "m1"),
        ("bad", "m2"),
    }


def test_best_of_n_becomes_the_chosen_against_each_rejected(tmp_path: Path) -> None:
    pairs, _ = read(tmp_path, "rewardbench2")
    assert [p.item.id for p in pairs] == ["Math:x:0:0", "Math:x:0:1", "Math:x:0:2"]
    assert {p.item.meta["question_id"] for p in pairs} == {"Math:x"}
    styles, _ = read(tmp_path, "rm-bench")
    assert Counter(p.item.meta["difficulty"] for p in styles) == {"easy": 3, "normal": 3, "hard": 3}
    hard = next(p for p in styles if p.item.meta["difficulty"] == "hard")
    assert (better(hard), hard.item.meta["styles"]) == ("good", ["concise", "detailed"])


def test_a_conversation_keeps_its_turns_and_an_unequal_one_is_left_out(tmp_path: Path) -> None:
    other = ROWS["hh-rlhf"] | {"rejected": HH.replace("Hello", "Yo") + " bad"}
    same = {"chosen": f"{HH} x", "rejected": f"{HH} x"}
    pairs, left = read(tmp_path, "hh-rlhf", ROWS["hh-rlhf"], other, same)
    assert [(m.role, m.content) for m in pairs[0].item.prompt] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Bye"),
    ]
    assert [row.line for row in left] == [2, 3]
    summary = left_out_summary(left)
    assert summary["n"] == 2
    assert summary["lines"] == {str(tmp_path / "natural.jsonl"): [2, 3]}
    assert set(summary["reasons"]) == {
        "the sides differ before the last response",
        "chosen and rejected are the same",
    }


def test_three_voters_of_three_minds_give_no_label(tmp_path: Path) -> None:
    row = ROWS["pandalm"]
    split = row | {"idx": 3, "annotator1": 0, "annotator2": 1, "annotator3": 2}
    tie = row | {"idx": 4, "annotator1": 0, "annotator3": 0, "input": "text"}
    pairs, left = read(tmp_path, "pandalm", row, split, tie)
    assert [p.item.meta["label"] for p in pairs] == ["B", "tie"]
    assert pairs[1].item.prompt[0].content == "Ask\n\ntext"
    assert [row.line for row in left] == [2]


@pytest.mark.parametrize("name", ["rewardbench", "rewardbench2", "rm-bench"])
def test_equal_responses_cannot_be_told_apart(tmp_path: Path, name: Format) -> None:
    row = ROWS[name]
    row = row | {"rejected": row["chosen"]}
    pairs, left = read(tmp_path, name, row)
    assert left
    assert all(pair.a.text != pair.b.text for pair in pairs)


def test_the_chosen_response_is_on_either_side_by_a_fair_coin(tmp_path: Path) -> None:
    rows = [ROWS["rewardbench"] | {"id": n} for n in range(200)]
    pairs, _ = read(tmp_path, "rewardbench", *rows)
    sides = Counter(pair.item.meta["label"] for pair in pairs)
    assert 70 <= sides["A"] <= 130
    assert all((p.item.meta["label"] == "A") == chosen_is_a(p.item.id) for p in pairs)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llmbar", {"label": 3}, ":1: field 'label': should be 1 or 2"),
        ("llmbar", {"input": " "}, ":1: field 'input'"),
        ("judgebench", {"label": "A=B"}, ":1: field 'label'"),
        ("rewardbench", {"subset": None}, ":1: field 'subset'"),
        ("rewardbench", {"prompt": []}, ":1: field 'prompt': holds no messages"),
        ("rewardbench2", {"rejected": []}, ":1: field 'rejected': is an empty list"),
        ("rm-bench", {"chosen": ["a"]}, ":1: field 'chosen': should hold the three styles"),
        ("pandalm", {"annotator2": 3}, ":1: field 'annotator2'"),
        ("auto-j", {"label": 3}, ":1: field 'label'"),
        ("hh-rlhf", {"chosen": "Hi"}, ":1: field 'chosen': should be a conversation"),
        ("hh-rlhf", {"chosen": HH, "rejected": "\n\nAssistant: x"}, ":1: field 'rejected'"),
        (
            "hh-rlhf",
            {
                "chosen": "\n\nHuman: a\n\nAssistant: b\n\nAssistant: c",
                "rejected": "\n\nHuman: a\n\nAssistant: b\n\nAssistant: d",
            },
            ":1: field 'chosen': has two Assistant turns",
        ),
        ("pairs", {"label": "best"}, ":1: field 'label': should be A, B or tie"),
        ("pairs", {"label": None}, ":1: field 'label'"),
        ("pairs", {"respons_b": "x", "response_b": None}, ":1: field"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_its_place(
    tmp_path: Path, name: Format, change: dict, message: str
) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, name, ROWS[name] | change)
    assert message in str(error.value)


def test_an_id_occurs_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r":2: field 'id': 'a' is also the id of .*:1"):
        read(tmp_path, "pairs", ROWS["pairs"], ROWS["pairs"])


def test_a_plain_file_may_say_winner_and_hold_meta(tmp_path: Path) -> None:
    row = {k: v for k, v in ROWS["pairs"].items() if k not in {"label", "id"}}
    row |= {"winner": "model_b", "subset": "law", "meta": {"level": 2}, "reference": "r"}
    (pair,), _ = read(tmp_path, "pairs", row)
    assert pair.item.meta == {"subset": "law", "level": 2, "label": "B"}
    assert (pair.item.id, pair.item.reference) == ("natural:1", "r")


def test_a_limit_counts_rows_and_a_format_is_known(tmp_path: Path) -> None:
    rows = [ROWS["auto-j"] | {"prompt": f"Ask {n}"} for n in range(5)]
    assert len(read(tmp_path, "auto-j", *rows, limit=2)[0]) == 2
    assert check_format("auto-j") == "auto-j"
    with pytest.raises(SpecError, match="did you mean 'llmbar'"):
        check_format("llmbarr")


def test_a_data_set_array_is_called_after_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "Natural" / "dataset.json"
    path.parent.mkdir()
    path.write_text(json.dumps([ROWS["llmbar"], ROWS["llmbar"]], indent=1))
    pairs = list(read_set("llmbar", [path], lambda row: None))
    assert [pair.item.id for pair in pairs] == ["Natural:0", "Natural:1"]


@pytest.mark.parametrize(
    ("name", "file", "n", "left_out"),
    [
        ("llmbar", "llmbar/natural.jsonl", 100, 0),
        ("llmbar", "llmbar/adversarial_neighbor.jsonl", 134, 0),
        ("judgebench", "judgebench/gpt-4o-2024-05-13.jsonl.gz", 178, 0),
        ("judgebench", "judgebench/claude-3-5-sonnet-20240620.jsonl.gz", 138, 0),
        ("hh-rlhf", "preferences/hh_helpful_base.jsonl.gz", 2219 - 10, 10),
        ("hh-rlhf", "preferences/hh_harmless_base.jsonl.gz", 1137 - 4, 4),
    ],
)
def test_the_published_files_are_read_whole(
    shared_data: Path, name: Format, file: str, n: int, left_out: int
) -> None:
    left: list[LeftOut] = []
    assert len(list(read_set(name, [shared_data / file], left.append))) == n
    assert len(left) == left_out
    if file.endswith("hh_helpful_base.jsonl.gz"):
        differ = [row.line - 1 for row in left if "differ" in row.reason]
        assert differ == [332, 533, 698, 906, 957, 1103, 1238, 1370]


JUDGE = JudgeRef("scripted/judge", "verdict", Sampling())


def judged(comparison: Comparison, winner: Winner | None) -> Verdict:
    sides = (comparison.a, comparison.b)
    name = f"v-{comparison.item.id}"
    if winner is None:
        return Verdict(
            name, "comparison", comparison.item, sides, JUDGE, "no_verdict", cause="refused"
        )
    p_a = {"A": 1.0, "tie": 0.5, "B": 0.0}[winner]
    orders = (OrderVerdict("AB", winner, p_a), OrderVerdict("BA", winner, p_a))
    preference = Preference(winner, p_a, orders, consistent=True)
    return Verdict(name, "comparison", comparison.item, sides, JUDGE, "ok", preference=preference)


def outcome(comparison: Comparison, how: str) -> Winner | None:
    label: Winner = comparison.item.meta["label"]
    wrong: Winner = "B" if label == "A" else "A"
    return {"right": label, "wrong": wrong, "tie": "tie", "none": None}[how]


def result(name: Format, comparisons: list[Comparison], hows: list[str]) -> dict:
    verdicts = [judged(c, outcome(c, how)) for c, how in zip(comparisons, hows, strict=True)]
    return label_result(name, lambda: verdicts)


def test_best_of_four_needs_every_win_and_shares_a_tie(tmp_path: Path) -> None:
    rows = [ROWS["rewardbench2"] | {"id": str(n)} for n in range(5)]
    rows += [ROWS["rewardbench2"] | {"id": "t", "subset": "Ties"}]
    pairs, _ = read(tmp_path, "rewardbench2", *rows)
    hows = ["right"] * 3 + ["right", "right", "tie"] + ["right", "tie", "tie"]
    hows += ["right", "right", "wrong"] + ["right", "right", "none"] + ["right"] * 3
    table = result("rewardbench2", pairs, hows)
    own = table["subsets"]["Math"]["accuracy_own_rule"]
    assert own == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)
    assert table["subsets"]["Math"]["own_rule_n"] == 4
    assert table["subsets"]["Ties"]["accuracy_own_rule"] is None
    assert table["subsets"]["all"]["accuracy_own_rule"] == pytest.approx(own)
    assert table["subsets"]["Math"]["coverage"] == pytest.approx(14 / 15)


def test_rm_bench_is_told_by_difficulty_and_summed_over_domains(tmp_path: Path) -> None:
    rows = [ROWS["rm-bench"], *(ROWS["rm-bench"] | {"id": n, "domain": "code"} for n in (1, 2))]
    pairs, _ = read(tmp_path, "rm-bench", *rows)
    hows = ["wrong" if pair.item.meta["difficulty"] == "hard" else "right" for pair in pairs]
    hows[:9] = ["right"] * 9
    table = result("rm-bench", pairs, hows)["subsets"]
    assert table["easy"]["accuracy"] == 1
    assert table["hard"]["accuracy"] == pytest.approx(1 / 3)
    assert table["chat"]["accuracy_own_rule"] == 1
    assert table["code"]["accuracy_own_rule"] == pytest.approx(2 / 3)
    assert table["all"]["accuracy_own_rule"] == pytest.approx((1 + 2 / 3) / 2)
    assert table["all"]["accuracy"] == pytest.approx((9 + 12) / 27)


def test_rewardbench_is_summed_over_sections_and_mathematics_weighs_as_code(
    tmp_path: Path,
) -> None:
    subsets = ["math-prm"] * 3 + ["hep-cpp", "hep-go"] + ["donotanswer"] * 2
    rows = [ROWS["rewardbench"] | {"id": n, "subset": s} for n, s in enumerate(subsets)]
    pairs, _ = read(tmp_path, "rewardbench", *rows)
    hows = ["right", "right", "right", "right", "wrong", "right", "wrong"]
    table = result("rewardbench", pairs, hows)["subsets"]
    assert table["Reasoning"]["accuracy_own_rule"] == pytest.approx((1 + 0.5) / 2)
    assert table["Reasoning"]["accuracy"] == pytest.approx(4 / 5)
    assert table["Safety"]["accuracy_own_rule"] == pytest.approx(0.5)
    assert table["all"]["accuracy_own_rule"] == pytest.approx((0.75 + 0.5) / 2)
    unknown = [replace(p, item=replace(p.item, meta=p.item.meta | {"subset": "x"})) for p in pairs]
    other = result("rewardbench", unknown, hows)
    assert other["rule"] == "combined"
    assert other["subsets"]["all"]["accuracy_own_rule"] == pytest.approx(5 / 7)
