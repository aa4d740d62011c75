"""Published files: what they hold, what their raw replies say, and that they come back equal."""

import gzip
import json
import math
from collections import Counter
from itertools import zip_longest

import pytest

from rlaif.canonical import json_line
from rlaif.evals.formats import ImportOptions, ImportReport, export_rows, import_verdicts
from rlaif.types import Verdict

ALPACA = {
    "alpaca-7b.jsonl.gz": (2.591450540223603, 0.4870855382635108, 17, 785, 3, 802),
    "vicuna-7b.jsonl.gz": (4.16261116226087, 0.6135107768217068, 28, 775, 2, 803),
    "gpt-3.5-turbo-1106.jsonl.gz": (9.177964561962735, 0.8904117511864436, 64, 737, 4, 801),
    "claude-2.jsonl.gz": (17.188240356708075, 1.17482825615589, 131, 673, 1, 804),
    "FuseChat-Llama-3.2-1B-Instruct.jsonl": (
        29.9219322658882, 1.3934584328741797, 233, 570, 2, 0,
    ),
    "FuseChat-Llama-3.1-8B-Instruct.jsonl": (
        63.33158292362734, 1.4225069834256892, 518, 286, 1, 0,
    ),
}  # fmt: skip
"""Win rate, standard error, wins, losses, draws, and rows with log-probabilities."""

FILES = [
    ("mt-bench-single", "mt_bench/model_judgment/gpt-4_single.llama2_7b.jsonl.gz"),
    ("mt-bench-single", "mt_bench/model_judgment/gpt-4_single.llama2_chat_7b.jsonl.gz"),
    ("mt-bench-single", "mt_bench/model_judgment/gpt-4_single.claude-3-opus-20240229.jsonl.gz"),
    ("mt-bench-pair", "mt_bench/model_judgment/gpt-4_pair.phi-3_vs_phi-3-dpo.jsonl.gz"),
    ("mt-bench-pair", "mt_bench/gpt4_pair_judgments.jsonl"),
    ("mt-bench-human", "mt_bench/gpt4_pair_judgments.jsonl"),
    ("mt-bench-human", "mt_bench/human_judgments.jsonl"),
    ("pairs", "mt_bench/human_judgments.jsonl"),
    *(("alpaca-eval", f"alpaca_eval/annotations/{name}") for name in ALPACA),
    *(
        ("llmbar", f"llmbar/{name}.{kind}.jsonl")
        for name in ("natural", "adversarial_neighbor")
        for kind in (
            "decisions",
            "raw_judge.GPT-4.CoT",
            "raw_judge.ChatGPT.CoT",
            "raw_judge.GPT-4.Rating",
        )
    ),
    ("judgebench", "judgebench/published_judge_decisions.jsonl.gz"),
    ("judgebench", "judgebench/raw_judge_text.jsonl.gz"),
]


def lines(path):
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from map(json.loads, file)


def read(name, *paths, **options):
    """The verdicts, the report, and every disagreement."""
    report, differing = ImportReport(), []
    report.on_disagreement = differing.append
    verdicts = list(import_verdicts(name, paths, ImportOptions(**options), report))
    assert report.disagreements == len(differing)
    return verdicts, report, differing


@pytest.mark.parametrize(("name", "file"), FILES)
def test_files_come_back_equal(shared_data, name, file):
    # those read without their texts do; so do those whose texts are filled in (below)
    path = shared_data / file
    verdicts = import_verdicts(name, [path])
    stored = (Verdict.from_dict(json.loads(json_line(v.as_dict()))) for v in verdicts)
    for ours, theirs in zip_longest(export_rows(name, stored), lines(path)):
        assert ours == theirs


def test_texts_that_were_filled_in_do_not_leak_into_the_rows(shared_data):
    folder = shared_data / "mt_bench"
    path = folder / "gpt4_pair_judgments.jsonl"
    verdicts, _, _ = read(
        "mt-bench-human",
        path,
        questions=(folder / "question.jsonl",),
        answers=(folder / "model_answer",),
    )
    assert all(v.item.prompt and all(c.response for c in v.candidates) for v in verdicts)
    assert list(export_rows("mt-bench-human", verdicts)) == list(lines(path))


def test_mt_bench_replies_read_as_recorded(shared_data):
    files = sorted((shared_data / "mt_bench/model_judgment").glob("gpt-4_single.*"))
    recorded, _, _ = read("mt-bench-single", *files)
    for options in ({"reparse": True}, {"legacy": True}):
        verdicts, report, differing = read("mt-bench-single", *files, **options)
        assert (report.reread, report.no_reply, differing) == (480, 0, [])
        assert verdicts == recorded
    by_model = {}
    for verdict in recorded:
        turns = by_model.setdefault(verdict.candidates[0].model, {1: [], 2: []})
        turns[verdict.item.meta["turn"]].append(verdict.score.value)
    means = {m: tuple(sum(v) / len(v) for v in turns.values()) for m, turns in by_model.items()}
    assert means == {
        "llama2_7b": (4.7625, 3.175),
        "llama2_chat_7b": (6.70625, 5.675),
        "claude-3-opus-20240229": (9.04375, 8.30625),
    }


def test_mt_bench_games(shared_data):
    path = shared_data / "mt_bench/model_judgment/gpt-4_pair.phi-3_vs_phi-3-dpo.jsonl.gz"
    verdicts, _, _ = read("mt-bench-pair", path)
    failed = [v for v in verdicts if v.status == "no_verdict"]
    assert [(v.item.id, v.cause) for v in failed] == [("125:1", "provider_error")]
    assert [call.reply for call in failed[0].calls] == ["$ERROR$", "$ERROR$"]
    read_ones = [v for v in verdicts if v.status == "ok"]
    # FastChat's rule: a win needs both games
    swap = Counter(
        p.orders[0].winner if p.consistent else "tie" for p in (v.preference for v in read_ones)
    )
    assert swap == {"A": 7, "B": 11, "tie": 19}
    split = [v.preference.orders for v in read_ones if not v.preference.consistent]
    named = [orders for orders in split if "tie" not in {order.winner for order in orders}]
    first = [orders for orders in named if orders[0].winner == "A"]
    assert (len(split), len(named), len(first)) == (16, 11, 10)
    for options in ({"reparse": True}, {"legacy": True}):
        again, report, differing = read("mt-bench-pair", path, **options)
        assert (report.reread, differing) == (76, [])
        assert again == verdicts


def test_votes(shared_data):
    people, _, _ = read("mt-bench-human", shared_data / "mt_bench/human_judgments.jsonl")
    names = Counter(v.judge.model.partition("_")[0] for v in people)
    assert names == {"expert": 1333, "author": 360}
    judged, _, _ = read("mt-bench-human", shared_data / "mt_bench/gpt4_pair_judgments.jsonl")
    ties = Counter(v.preference.consistent for v in judged if v.preference.winner == "tie")
    assert (len(judged), ties) == (1200, {False: 194, True: 104})


@pytest.mark.parametrize("name", ALPACA)
def test_alpaca_eval_preferences(shared_data, name):
    verdicts, _, _ = read("alpaca-eval", shared_data / "alpaca_eval/annotations" / name)
    p = [v.preference.p_a for v in verdicts]
    mean = sum(p) / len(p)
    error = math.sqrt(sum((x - mean) ** 2 for x in p) / (len(p) - 1) / len(p))
    rate, se, wins, losses, draws, _ = ALPACA[name]
    assert 100 * mean == pytest.approx(rate, abs=1e-9)
    assert 100 * error == pytest.approx(se, abs=1e-9)
    counts = Counter(v.preference.winner for v in verdicts)
    assert counts == {"A": wins, "B": losses, "tie": draws}
    assert {v.candidates[1].model for v in verdicts} == {"gpt4_1106_preview"}


@pytest.mark.parametrize("name", ALPACA)
def test_alpaca_eval_preferences_from_log_probabilities(shared_data, name):
    path = shared_data / "alpaca_eval/annotations" / name
    verdicts, report, differing = read("alpaca-eval", path, reparse=True)
    scored = ALPACA[name][-1]
    assert (report.reread, report.no_reply, differing) == (scored, 805 - scored, [])
    without = [v for v in verdicts if "top_logprobs" not in v.item.meta]
    if scored:  # only equal outputs were never asked about
        assert {v.preference.winner for v in without} == {"tie"}


def test_alpaca_eval_texts(shared_data):
    folder = shared_data / "alpaca_eval"
    verdicts, _, _ = read(
        "alpaca-eval",
        folder / "annotations/alpaca-7b.jsonl.gz",
        questions=(folder / "instructions.jsonl",),
        answers=(folder / "model_outputs",),
    )
    for verdict in verdicts:
        assert verdict.item.prompt
        for candidate in verdict.candidates:
            assert len(candidate.text) == verdict.item.meta["lengths"][candidate.model]


LLMBAR = {
    ("natural", "GPT-4.CoT"): (94, 95, 90, 91),
    ("natural", "ChatGPT.CoT"): (70, 78, 56, 64),
    ("natural", "GPT-4.Rating"): (92, 92, 87, 90),
    ("adversarial_neighbor", "GPT-4.CoT"): (101, 100, 94, 121),
    ("adversarial_neighbor", "ChatGPT.CoT"): (31, 30, 6, 84),
    ("adversarial_neighbor", "GPT-4.Rating"): (104, 105, 90, 105),
}


def games(verdict):
    """The winner of both games, whether or not there is a verdict."""
    if verdict.preference is not None:
        return tuple(order.winner for order in verdict.preference.orders)
    return tuple(game["winner"] for game in verdict.item.meta["games"])


@pytest.mark.parametrize(("subset", "judge"), LLMBAR)
def test_llmbar_counts(shared_data, subset, judge):
    path = shared_data / f"llmbar/{subset}.raw_judge.{judge}.jsonl"
    data = (shared_data / f"llmbar/{subset}.jsonl",)
    verdicts, _, _ = read("llmbar", path, questions=data)
    won = [(v.item.meta["label"], *games(v)) for v in verdicts]
    given, swapped = (sum(row[0] == row[n] for row in won) for n in (1, 2))
    both = sum(label == a == b for label, a, b in won)
    assert (given, swapped, both, sum(a == b for _, a, b in won)) == LLMBAR[subset, judge]
    assert {v.judge.model for v in verdicts} == {judge.replace(".", "/")}
    assert {v.item.meta["subset"] for v in verdicts} == {subset}
    assert all(v.item.prompt and v.candidates[0].text for v in verdicts)


def test_llmbar_replies_read_as_recorded(shared_data):
    silent = []
    for subset, judge in LLMBAR:
        if "CoT" not in judge:
            continue
        path = shared_data / f"llmbar/{subset}.raw_judge.{judge}.jsonl"
        recorded, _, _ = read("llmbar", path)
        for options in ({"reparse": True}, {"legacy": True}):
            verdicts, report, differing = read("llmbar", path, **options)
            assert (report.reread, differing) == (2 * len(recorded), [])
            assert [games(v) for v in verdicts] == [games(v) for v in recorded]
        silent += [(v.item.id, v.cause) for v in recorded if v.status != "ok"]
    # "both are equally good", and a reply that was cut off: neither names an output
    assert silent == [("natural:17", "unreadable"), ("adversarial_neighbor:47", "truncated")]


@pytest.mark.parametrize(
    ("subset", "ties", "refused"), [("natural", 10, 0), ("adversarial_neighbor", 28, 1)]
)
def test_llmbar_ratings_differ_only_in_ties_and_a_refusal(shared_data, subset, ties, refused):
    path = shared_data / f"llmbar/{subset}.raw_judge.GPT-4.Rating.jsonl"
    verdicts, _, differing = read("llmbar", path, reparse=True)
    # equal grades are recorded as the second output shown: "2", then "1"; we read a tie
    tied = [(row["shown"], row["recorded"]) for row in differing if row["read"] == "tie"]
    assert Counter(tied) == {("AB", "B"): ties, ("BA", "A"): ties}
    # an output that the provider would not grade is recorded as the winner or the loser
    others = [(row["item"], row["cause"]) for row in differing if row["read"] is None]
    assert others == [("92", "refused")] * 2 * refused
    assert sum(v.preference is not None and v.preference.winner == "tie" for v in verdicts) == ties
    # the old rule breaks a tie for the output shown second
    _, _, legacy = read("llmbar", path, legacy=True)
    assert [row["cause"] for row in legacy] == ["refused"] * 2 * refused


JUDGEBENCH = {
    "o1-mini-2024-09-12": (112, 178, 62, (40, 31, 23, 18)),
    "Skywork_Skywork-Reward-Llama-3.1-8B": (115, 178, 0, (46, 32, 26, 11)),
    "Skywork_Skywork-Reward-Gemma-2-27B": (114, 178, 0, (44, 32, 27, 11)),
    "Ray2333_GRM-Gemma-2B-rewardmodel-ft": (113, 178, 0, (53, 26, 22, 12)),
    "internlm_internlm2-20b-reward": (111, 178, 0, (47, 32, 22, 10)),
    "internlm_internlm2-7b-reward": (107, 178, 0, (44, 28, 22, 13)),
    "claude-3-haiku-20240307": (49, 138, 72, (36, 6, 4, 3)),
}


def judged(verdicts):
    """By judge: right by the majority of both games, n, inconsistent, and right by category."""
    found = {}
    for verdict in verdicts:
        label, won = verdict.item.meta["label"], games(verdict)
        signs = [0 if w in {None, "tie"} else 1 if w == label else -1 for w in won]
        row = found.setdefault(verdict.judge.model, [0, 0, 0, Counter()])
        row[0] += sum(signs) > 0
        row[1] += 1
        row[2] += None in won or len(set(won)) > 1
        row[3][verdict.item.meta.get("subset")] += sum(signs) > 0
    return found


def test_judgebench_counts(shared_data):
    folder = shared_data / "judgebench"
    verdicts, _, _ = read(
        "judgebench",
        folder / "published_judge_decisions.jsonl.gz",
        questions=(
            folder / "gpt-4o-2024-05-13.jsonl.gz",
            folder / "claude-3-5-sonnet-20240620.jsonl.gz",
        ),
    )
    order = ("knowledge", "reasoning", "math", "code")
    found = {
        judge: (right, n, split, tuple(by[subset] for subset in order))
        for judge, (right, n, split, by) in judged(verdicts).items()
    }
    assert found == JUDGEBENCH
    assert all(v.item.prompt and v.candidates[1].text for v in verdicts)


def test_judgebench_replies(shared_data):
    path = shared_data / "judgebench/raw_judge_text.jsonl.gz"
    recorded, _, _ = read("judgebench", path)
    missing = [v for v in recorded if v.status != "ok"]
    assert {v.judge.model for v in missing} == {"claude-3-haiku-20240307"}
    assert len(missing) == 8
    # "all marks equal": the authors' rule, with the decisions they recorded
    again, report, differing = read("judgebench", path, legacy=True)
    assert (report.reread, differing) == (632, [])
    assert [games(v) for v in again] == [games(v) for v in recorded]
    # ours: a judge that weighs two labels and then settles is read by the one it settles on
    ours, _, differing = read("judgebench", path, reparse=True)
    assert [row["recorded"] for row in differing] == [None] * 8
    assert all(row["read"] is not None for row in differing)
    right, n, split, _ = judged(ours)["claude-3-haiku-20240307"]
    assert (right, n, split) == (47, 138, 69)
    assert judged(ours)["o1-mini-2024-09-12"][:3] == [112, 178, 62]
    # compared with the old rule instead of the record, the same eight
    _, _, both = read("judgebench", path, reparse=True, legacy=True)
    assert [row["legacy"] for row in both] == [None] * 8
