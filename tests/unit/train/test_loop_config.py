"""The file of a loop: the example is one, wrong ones name the field, prompts come in turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import ConfigError, SpecError
from rlaif.train.loop_config import example_loop, load_loop, loop_prompts, prompts_of
from rlaif.train.loop_plan import planned_comparisons
from tests.unit.train.loops import items, loop_file

WHOLE = """\
prompts: a.jsonl
held_out: b.jsonl
model: local/smollm2-135m
judge: {model: scripted/a, rubric: helpfulness}
held_out_judge: {model: scripted/b}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "loop.yaml"
    path.write_text(text)
    return path


def test_the_example_is_a_loop(tmp_path: Path) -> None:
    config = load_loop(write(tmp_path, example_loop()))
    assert config.judge.model != config.held_out_judge.model
    plain = load_loop(write(tmp_path, WHOLE))
    # what the example spells out are the defaults, but for what is a matter of taste
    assert config.select == plain.select
    assert config.generate == plain.generate
    assert (config.rounds, config.on_alarm) == (plain.rounds, plain.on_alarm)
    assert (config.max_failures, config.alarms) == (plain.max_failures, None)
    assert config.judge.method == plain.judge.method


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ("rounds: 0", "rounds", "above 0"),
        ("round: 3", "round", "did you mean 'rounds'"),
        ("judge_two: {}", "judge_two", "is not a known field"),
        ("generate: {candidates: 1}", "generate.candidates", "above 1"),
        ("generate: {temperature: 0.0}", "generate.temperature", "above 0"),
        ("select: {pairs: best}", "select.pairs", "'all', 'best-worst' or 'tiers'"),
        ("select: {rho: 0.7}", "select.rho", "at most"),
        ("select: {inconsistent: maybe}", "select.inconsistent", "True or False"),
        ("train: {trainer: grpo}", "train.trainer", "'dpo' or 'ppo'"),
        ("on_alarm: shrug", "on_alarm", "'stop' or 'continue'"),
        ("max_failures: 2.0", "max_failures", "at most 1"),
        ("generate: {max_tokens: many}", "generate.max_tokens", "a whole number"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(
    tmp_path: Path, change: str, field: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        load_loop(write(tmp_path, WHOLE + change + "\n"))
    assert caught.value.field == field
    assert caught.value.line == 6


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="field 'held_out_judge': is missing"):
        load_loop(write(tmp_path, WHOLE.rsplit("\n", 2)[0] + "\n"))


def test_the_held_out_judge_is_another_one(tmp_path: Path) -> None:
    same = WHOLE.replace("{model: scripted/b}", "{model: scripted/a, rubric: helpfulness}")
    with pytest.raises(SpecError, match="take another model, or another rubric"):
        load_loop(write(tmp_path, same))
    other = WHOLE.replace("{model: scripted/b}", "{model: scripted/a, rubric: harmlessness}")
    assert load_loop(write(tmp_path, other)).held_out_judge.rubric == "harmlessness"


def prompt_files(folder: Path, train: list[str], held_out: list[str]) -> Any:
    for name, prompts in (("a.jsonl", train), ("b.jsonl", held_out)):
        lines = [json.dumps({"prompt": prompt}) + "\n" for prompt in prompts]
        (folder / name).write_text("".join(lines))
    return load_loop(write(folder, WHOLE))


def test_no_prompt_stands_on_both_sides(tmp_path: Path) -> None:
    config = prompt_files(tmp_path, ["One?", "Two?"], ["Three?", "Four?"])
    train, held_out = loop_prompts(config, tmp_path)
    assert (len(train), len(held_out)) == (2, 2)
    config = prompt_files(tmp_path, ["One?", "Two?"], ["one", "Four?"])
    with pytest.raises(ConfigError, match="1 held-out prompts are trained on too"):
        loop_prompts(config, tmp_path)
    config = prompt_files(tmp_path, ["One?", "Two?"], ["Four?"])
    with pytest.raises(ConfigError, match="has 1 prompts: no interval can be had"):
        loop_prompts(config, tmp_path)


def test_each_round_takes_the_next_prompts_and_none_twice_in_a_pass() -> None:
    every = items("p", 10)
    rounds = [prompts_of(every, number, 5, seed=3) for number in (1, 2, 3)]
    assert {i.id for i in rounds[0]} | {i.id for i in rounds[1]} == {i.id for i in every}
    assert {i.id for i in rounds[2]} != {i.id for i in rounds[0]}  # another shuffle
    assert prompts_of(every, 1, 5, seed=3) == rounds[0]
    assert prompts_of(every, 1, 5, seed=4) != rounds[0]
    assert prompts_of(every, 2, None, seed=3) == prompts_of(every, 2, 99, seed=3) == every
    uneven = [item.id for number in (1, 2, 3, 4, 5) for item in prompts_of(every, number, 4, 0)]
    assert sorted(uneven) == sorted([item.id for item in every] * 2)


def test_the_plan_counts_what_the_rounds_will_ask() -> None:
    config = loop_file(rounds=2)
    planned = list(planned_comparisons(config, items("p", 6), items("h", 4)))
    by_both = [pair for pair, held in planned if held]
    assert len(planned) == 2 * (6 * 3 + 4)
    assert len(by_both) == 2 * 4
    assert all(pair.a.text != pair.b.text for pair, _ in planned)
    ppo = loop_file(rounds=2, train={"trainer": "ppo"})
    assert all(held for _, held in planned_comparisons(ppo, items("p", 6), items("h", 4)))
