"""What rlaif ships to judge by and to try it with: valid, varied, balanced and our own."""

import json
import re
from collections import Counter
from itertools import combinations, product

import pytest

from rlaif.specs.constitution import load_constitution, shipped_constitutions
from rlaif.specs.items import read_data, read_prompts
from rlaif.specs.lint import lint_constitution, lint_rubric
from rlaif.specs.rubric import load_rubric, shipped_rubrics
from rlaif.specs.shipped import shipped_dir

CONSTITUTIONS = ("customer-service", "harmlessness", "helpfulness", "honesty")
RUBRICS = (
    "chat-quality",
    "code",
    "conciseness",
    "correctness",
    "creative-writing",
    "dialogue",
    "harmlessness",
    "helpfulness",
    "honesty",
    "instruction-following",
    "mathematics",
    "summary-quality",
    "truthfulness",
)


def rows(name):
    lines = (shipped_dir("quickstart") / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def words(text):
    return re.findall(r"[a-z0-9']+", text.lower())


def five_grams(text):
    found = words(text)
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


def overlap(first, second):
    return len(first & second) / len(first | second)


def test_the_rubrics_and_constitutions_are_there():
    assert tuple(shipped_rubrics()) == RUBRICS
    assert tuple(shipped_constitutions()) == CONSTITUTIONS


@pytest.mark.parametrize("name", RUBRICS)
def test_rubrics_are_sourced_fully_anchored_and_free_of_warnings(name):
    rubric = load_rubric(name)
    assert rubric.name == name
    assert re.fullmatch(r"\d+\.\d+\.\d+", rubric.version)
    assert rubric.description
    assert "wording our own" in rubric.source
    for criterion in rubric.criteria:
        assert list(criterion.scale.anchors) == list(criterion.scale.levels)
    assert lint_rubric(rubric) == []


def test_what_single_rubrics_promise():
    correctness = load_rubric("correctness")
    assert correctness.reference == "required"
    assert list(correctness.criteria[0].scale.levels) == [0, 1]
    assert len(load_rubric("chat-quality").criteria) >= 4
    assert load_rubric("truthfulness").reference == "required"
    summary = {c.name for c in load_rubric("summary-quality").criteria}
    assert summary == {"coherence", "consistency", "fluency", "relevance"}


def test_no_level_of_a_rubric_asks_for_length():
    longer = re.compile(r"\b(?:longer|lengthy|long enough|detailed|more words|in depth)\b")
    for name in RUBRICS:
        for criterion in load_rubric(name).criteria:
            assert not [text for text in criterion.scale.anchors.values() if longer.search(text)]


@pytest.mark.parametrize(
    ("name", "least"),
    [("harmlessness", 16), ("helpfulness", 8), ("honesty", 8), ("customer-service", 5)],
)
def test_constitutions_are_sourced_and_free_of_warnings(name, least):
    constitution = load_constitution(name)
    assert constitution.name == name
    assert re.search("wording our own|[Oo]ur own, as an example", constitution.source)
    assert constitution.critiques == constitution.comparisons == constitution.principles
    assert all(example.principle for example in constitution.critique_examples)
    assert len(constitution.principles) >= least
    assert constitution.critique_examples
    assert constitution.comparison_examples
    assert lint_constitution(constitution) == []


def test_harmlessness_holds_against_dodging_and_preaching():
    names = {principle.name for principle in load_constitution("harmlessness").principles}
    assert {"evasiveness", "preachiness"} <= names
    assert len(load_constitution("harmlessness").critique_examples) >= 2


def test_quickstart_prompts_are_short_and_split():
    items = list(read_prompts(shipped_dir("quickstart") / "prompts.jsonl"))
    assert Counter(item.meta["split"] for item in items) == {"train": 176, "heldout": 64}
    assert all(30 <= len(item.prompt[0].content) <= 160 for item in items)
    assert all(item.id.startswith(f"{item.meta['split']}-") for item in items)


def test_quickstart_prompts_are_not_near_duplicates():
    texts = [row["prompt"] for row in rows("prompts.jsonl") + rows("probe.jsonl")]
    for first, second in combinations(texts, 2):
        assert not five_grams(first) & five_grams(second), (first, second)
        assert overlap(set(words(first)), set(words(second))) < 0.5, (first, second)


def test_probe_pairs_are_balanced_against_position_and_length():
    probe = rows("probe.jsonl")
    assert len({row["id"] for row in probe}) == len(probe) == 60
    assert Counter(row["label"] for row in probe) == {"A": 30, "B": 30}
    for size in (len, lambda text: len(words(text))):
        longer_wins = sum(
            (size(row["response_a"]) > size(row["response_b"])) == (row["label"] == "A")
            for row in probe
        )
        assert 0.45 <= longer_wins / len(probe) <= 0.55
    assert all(row["why"] for row in probe)


def test_probe_pairs_read_as_comparisons_with_their_label_in_meta():
    for item, (a, b) in read_data(shipped_dir("quickstart") / "probe.jsonl", "compare"):
        assert item.meta["label"] in ("A", "B")
        assert a.text.strip() != b.text.strip() != ""


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("alpaca_eval/instructions.jsonl", "instruction"),
        ("mt_bench/question.jsonl", "turns"),
        ("prompts/instructions.jsonl", "prompt"),
        ("llmbar/natural.jsonl", "input"),
        ("llmbar/adversarial_neighbor.jsonl", "input"),
    ],
)
def test_quickstart_is_not_in_public_benchmarks(shared_data, file, field):
    lines = (shared_data / file).read_text(encoding="utf-8").split("\n")
    public = [json.loads(line)[field] for line in lines if line]
    theirs = [words(t) for entry in public for t in (entry if isinstance(entry, list) else [entry])]
    ours = [words(row["prompt"]) for row in rows("prompts.jsonl") + rows("probe.jsonl")]
    for mine, other in product(ours, theirs):
        assert overlap(set(mine), set(other)) < 0.6, (mine, other)
    grams = {tuple(t[i : i + 8]) for t in theirs for i in range(len(t) - 7)}
    for mine in ours:
        assert not grams & {tuple(mine[i : i + 8]) for i in range(len(mine) - 7)}, mine
