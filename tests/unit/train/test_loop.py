"""Rounds that train, resume, stop at alarms, and ask nobody twice."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from rlaif.backends.local import weights_digest
from rlaif.errors import BackendError, BudgetError, ConfigError, DataError
from rlaif.evals.audit_thresholds import Bounds
from rlaif.store.replies import ReplyStore
from rlaif.train.alarms import load_limits
from rlaif.train.loop import run_loop
from rlaif.train.loop_round import Tools
from tests.unit.train.loops import items, letters, loop_file, seat, tools

TRAIN, HELD_OUT = items("train", 6), items("held", 4)
LIMITS = load_limits()
NEVER = replace(LIMITS, bounds={})
ALWAYS = replace(LIMITS, bounds={"kl_k3": Bounds(most=-1.0)}, fire="value")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplyStore]:
    with ReplyStore(tmp_path_factory.mktemp("store") / "replies.sqlite") as store:
        yield store


def run(output: Path, made: Tools, limits: Any = NEVER) -> dict[str, Any]:
    return asyncio.run(run_loop(output, made, TRAIN, HELD_OUT, limits))


@pytest.fixture(scope="module")
def done(
    tiny_model: Path, store: ReplyStore, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A whole loop; tests only read it."""
    output = tmp_path_factory.mktemp("loop") / "loop"
    return output, run(output, tools(loop_file(), tiny_model, store))


def no_training(*_: Any) -> Any:
    pytest.fail("trained again")


def test_each_round_begins_where_the_last_one_ended(
    done: tuple[Path, dict[str, Any]], tiny_model: Path
) -> None:
    output, table = done
    assert [row["round"] for row in table["rounds"]] == [1, 2]
    models = [output / row["model"] for row in table["rounds"]]
    assert len({weights_digest(m) for m in (tiny_model, *models)}) == 3
    begun = json.loads((output / "round-2" / "4-model" / "config.json").read_text())
    assert weights_digest(models[0]) in json.dumps(begun)
    assert table["ended"] == "done"
    assert json.loads((output / "loop.json").read_text()) == table
    assert json.loads((output / "summary.json").read_text())["rounds"] == 2
    card = (models[1] / "README.md").read_text()
    assert "scripted/letters" in card


def test_a_round_says_how_far_the_policy_went(done: tuple[Path, dict[str, Any]]) -> None:
    row = done[1]["rounds"][-1]
    names = {m["name"] for m in row["measures"]}
    assert names >= {
        *("kl", "kl_k3", "entropy", "length_mean", "length_p95", "distinct_1", "self_similarity"),
        *("refusals", "unfinished", "judge_ceiling", "order_flips", "coverage"),
        *("gold_gap", "gold_win_rate"),
    }
    for judge in ("reward", "gold", "win_rate"):
        assert 0 <= row[judge]["low"] <= row[judge]["value"] <= row[judge]["high"] <= 1
        assert row[judge]["n"] == 4
    assert sum(row["judge_histogram"]) == 4
    assert row["words"]["start"]["mean"] > 0
    assert row["train"]["rows"] == row["rows"]
    assert row["coverage"] == 1.0


def test_a_loop_that_is_done_asks_nobody_and_trains_nothing(
    done: tuple[Path, dict[str, Any]], tiny_model: Path, store: ReplyStore, tmp_path: Path
) -> None:
    judge, asked = seat("letters", letters)
    output = tmp_path / "loop"
    shutil.copytree(done[0], output)
    again = tools(loop_file(), tiny_model, store, judge=judge, train=no_training)
    assert run(output, again) == done[1]
    assert asked.calls == 0


def test_other_limits_read_the_same_rounds_anew(
    done: tuple[Path, dict[str, Any]], tiny_model: Path, store: ReplyStore, tmp_path: Path
) -> None:
    output = tmp_path / "loop"
    shutil.copytree(done[0], output)
    told: list[str] = []
    made = tools(loop_file(on_alarm="stop"), tiny_model, store, train=no_training)
    table = asyncio.run(run_loop(output, made, TRAIN, HELD_OUT, ALWAYS, tell=told.append))
    assert (table["ended"], len(table["rounds"])) == ("alarms", 1)
    assert table["fired"] == table["rounds"][0]["fired"] == ["kl_k3"]
    assert len(told) == 1
    assert told[0].startswith("round 1, alarm: kl_k3 ")
    kept = json.loads((output / "summary.json").read_text())
    assert (kept["ended"], kept["fired"]) == ("alarms", ["kl_k3"])
    going_on = tools(loop_file(), tiny_model, store, train=no_training)
    assert run(output, going_on, ALWAYS)["ended"] == "done"


def test_a_loop_that_was_stopped_anywhere_ends_with_the_same_policy(
    done: tuple[Path, dict[str, Any]], tiny_model: Path, store: ReplyStore, tmp_path: Path
) -> None:
    output = tmp_path / "loop"
    shutil.copytree(done[0], output)
    # as if the process had died in the middle of round 2
    second = output / "round-2"
    for name in ("4-model", "5-held-out", "6-evaluation", "7-held-out-judge", "8-likelihoods"):
        shutil.rmtree(second / name)
    (second / "round.json").unlink()
    (second / "3-dataset" / "README.md").unlink()
    table = run(output, tools(loop_file(), tiny_model, store))
    last = done[1]["rounds"][-1]
    assert weights_digest(output / last["model"]) == weights_digest(done[0] / last["model"])
    assert table["rounds"][-1]["measures"] == last["measures"]


def test_more_rounds_go_on_from_the_last(
    done: tuple[Path, dict[str, Any]], tiny_model: Path, store: ReplyStore, tmp_path: Path
) -> None:
    output = tmp_path / "loop"
    shutil.copytree(done[0] / "round-1", output / "round-1")
    shutil.copy(done[0] / "config.json", output)
    trained: list[int] = []

    def train(one: Any, folder: Path, progress: Any) -> dict[str, Any]:
        trained.append(one.number)
        shutil.copytree(done[0] / "round-2" / "4-model", folder)
        return {}

    table = run(output, tools(loop_file(rounds=2), tiny_model, store, train=train))
    assert trained == [2]
    assert table["rounds"][-1]["reward"] == done[1]["rounds"][-1]["reward"]


def test_another_loop_needs_another_folder(
    done: tuple[Path, dict[str, Any]], tiny_model: Path, store: ReplyStore
) -> None:
    with pytest.raises(ConfigError, match="holds another run"):
        run(done[0], tools(loop_file(seed=7), tiny_model, store))


def test_where_a_judge_is_served_is_not_written_down(
    tiny_model: Path, store: ReplyStore, tmp_path: Path
) -> None:
    judge = {"model": "scripted/letters", "base_url": "http://me:secret@host/v1"}
    stop = threading.Event()
    stop.set()
    run(tmp_path / "loop", tools(loop_file(judge=judge), tiny_model, store, stop=stop))
    assert "secret" not in (tmp_path / "loop" / "config.json").read_text()


def test_an_end_that_was_asked_for_keeps_what_is_done(
    tiny_model: Path, store: ReplyStore, tmp_path: Path
) -> None:
    stop = threading.Event()

    def check(text: str) -> float:
        stop.set()
        return letters(text)

    judge, _ = seat("letters", check)
    made = tools(loop_file(), tiny_model, store, judge=judge, stop=stop, train=no_training)
    table = run(tmp_path / "loop", made)
    assert (table["ended"], table["rounds"]) == ("interrupted", [])
    assert (tmp_path / "loop" / "round-1" / "1-candidates" / "summary.json").exists()
    assert json.loads((tmp_path / "loop" / "summary.json").read_text())["rounds"] == 0


def test_an_end_while_it_trains(tiny_model: Path, store: ReplyStore, tmp_path: Path) -> None:
    def train(one: Any, folder: Path, progress: Any) -> dict[str, Any]:
        stop.set()
        progress(1, 2, "loss 1.0")
        pytest.fail("went on")

    stop = threading.Event()
    made = tools(loop_file(), tiny_model, store, stop=stop, train=train)
    assert run(tmp_path / "loop", made)["ended"] == "interrupted"


def test_a_judge_that_fails_too_often_ends_the_loop(
    tiny_model: Path, store: ReplyStore, tmp_path: Path
) -> None:
    def check(text: str) -> Any:
        return "no reward here" if len(text) % 3 else letters(text)

    broken, _ = seat("letters", check)
    made = tools(loop_file(), tiny_model, store, judge=broken, train=no_training)
    with pytest.raises(DataError, match=r"2-verdicts of round 1: \d+ of 18 failed \(unreadable"):
        run(tmp_path / "loop", made)
    # the step is asked again once the judge works
    mended, asked = seat("letters", letters)
    stop = threading.Event()

    def train(one: Any, folder: Path, progress: Any) -> dict[str, Any]:
        stop.set()
        progress(1, 2, "")
        return {}

    made = tools(loop_file(), tiny_model, store, judge=mended, stop=stop, train=train)
    assert run(tmp_path / "loop", made)["ended"] == "interrupted"
    assert asked.calls > 0


def test_a_spent_budget_ends_the_loop(tiny_model: Path, store: ReplyStore, tmp_path: Path) -> None:
    broke, _ = seat("letters", lambda text: BudgetError("spent"))
    made = tools(loop_file(), tiny_model, store, judge=broke, train=no_training)
    with pytest.raises(BudgetError, match="step 2-verdicts of round 1"):
        run(tmp_path / "loop", made)


def test_a_fatal_error_is_raised(tiny_model: Path, store: ReplyStore, tmp_path: Path) -> None:
    barred, _ = seat("letters", lambda text: BackendError("bad key", fatal=True))
    made = tools(loop_file(), tiny_model, store, judge=barred, train=no_training)
    with pytest.raises(BackendError, match="bad key"):
        run(tmp_path / "loop", made)


def test_a_held_out_judge_without_any_verdict_is_an_error(
    done: tuple[Path, dict[str, Any]], tiny_model: Path, store: ReplyStore, tmp_path: Path
) -> None:
    output = tmp_path / "loop"
    shutil.copytree(done[0], output)
    (output / "round-1" / "round.json").unlink()
    shutil.rmtree(output / "round-1" / "7-held-out-judge")
    mute, _ = seat("vowels", lambda text: "nothing")
    made = tools(loop_file(max_failures=1.0), tiny_model, store, gold=mute)
    with pytest.raises(DataError, match="has no verdict on the held-out responses"):
        run(output, made)
