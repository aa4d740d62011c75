"""Each trainer on a tiny model: it learns, resumes, and says what it leaves out."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from rlaif.backends.base import BackendOptions
from rlaif.backends.local import weights_digest
from rlaif.backends.reward import open_reward
from rlaif.errors import ConfigError, DataError, SpecError, StoreError
from rlaif.judge.reward import RewardJudge
from rlaif.train.dpo import DPOSettings, train_dpo
from rlaif.train.kto import KTOSettings, load_opinions, split_pairs, train_kto
from rlaif.train.reward import RewardSettings, train_reward
from rlaif.train.sft import SFTSettings, load_demonstrations, train_sft
from rlaif.types import Candidate, Comparison, Item, Message
from tests.unit.train.conftest import SMALL, make_pairs, said

Train = Callable[..., dict[str, Any]]
SETTINGS: dict[str, Any] = {
    "sft": SFTSettings(**SMALL, epochs=2),
    "reward": RewardSettings(**SMALL, epochs=2, labels="soft"),
    "kto": KTOSettings(**SMALL),
}


def rows_for(kind: str) -> Any:
    pairs = make_pairs(8, p_chosen=[0.95] * 8)
    if kind == "kto":
        return split_pairs(pairs)
    return pairs.rename_column("chosen", "completion") if kind == "sft" else pairs


def train(kind: str, model: Path, output: Path, home: Path, **more: Any) -> dict[str, Any]:
    functions: dict[str, Train] = {"sft": train_sft, "reward": train_reward, "kto": train_kto}
    more = {"rows": rows_for(kind), "settings": SETTINGS[kind], **more}
    return functions[kind](model, output=output, home=home, **more)


@pytest.mark.parametrize("kind", ["sft", "reward", "kto"])
def test_it_learns_and_a_stopped_run_ends_with_the_same_weights(
    kind: str, tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    held_out = rows_for(kind).select(range(5, 8))
    whole = train(kind, tiny_model, tmp_path / "whole", home, held_out=held_out)
    assert whole["steps"] == 4
    assert whole["loss_last"] < 0.98 * whole["loss_first"]
    assert whole["held_out"]["n"] == 3
    model = tmp_path / "whole" / "model"
    assert weights_digest(model) != weights_digest(tiny_model)
    lines = (tmp_path / "whole" / "training.jsonl").read_text().splitlines()
    curves = [json.loads(line) for line in lines]
    assert [row["step"] for row in curves] == [1, 2, 3, 4]
    assert curves[-1]["loss"] == whole["loss_last"]

    def stop(done: int, total: int, note: str) -> None:
        assert total == 4
        assert note.startswith("loss ")
        if done == 3:  # as Ctrl-C does: heeded when the step is done
            os.kill(os.getpid(), signal.SIGINT)

    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        train(kind, tiny_model, broken, home, held_out=held_out, progress=stop)
    assert not (broken / "model").exists()
    kept = [p.name for p in (broken / "checkpoints").glob("checkpoint-*")]
    assert kept
    assert len((broken / "training.jsonl").read_text().splitlines()) >= 3
    again = train(kind, tiny_model, broken, home, held_out=held_out)
    assert again["steps"] == 4
    assert weights_digest(broken / "model") == weights_digest(model)
    assert again["held_out"] == whole["held_out"]


def test_a_signal_ends_training_after_the_step_and_keeps_it(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int, note: str) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train("sft", tiny_model, tmp_path / "run", home, progress=stop)
    assert signal.getsignal(signal.SIGTERM) is before
    # save_steps is 2, but step 2, at whose beginning the signal was known, is kept because of it
    names = {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()}
    assert "checkpoint-2" in names
    assert "checkpoint-4" not in names


def test_a_reward_model_judges_as_it_was_taught(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    settings = RewardSettings(**SMALL, epochs=6)
    pairs = make_pairs(8)
    summary = train_reward(tiny_model, pairs, tmp_path / "rm", settings, home=home, held_out=pairs)
    assert summary["held_out"]["accuracy"] == 1.0
    assert summary["held_out"]["low"] > 0.6
    backend = open_reward(str(tmp_path / "rm"), BackendOptions(home=home))
    item = Item("i", (Message("user", "Question 3?"),))
    a, b = (
        Candidate(name, (Message("assistant", text),))
        for name, text in (("a", "No, not 3!"), ("b", "Yes, 3."))
    )
    verdict = asyncio.run(RewardJudge(backend).compare(Comparison(item, a, b)))
    assert verdict.preference is not None
    assert verdict.preference.p_a < 0.5


def test_what_is_left_out_is_counted_with_its_reason(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    import datasets

    made = make_pairs(6).to_list()
    made[0]["rejected"] = made[0]["chosen"]
    made[1]["prompt"] = said("user", "x" * 300)
    made[2]["chosen"] = said("assistant", "y" * 300)
    rows = datasets.Dataset.from_list(made)
    counts = {}
    for name, kind, settings in (
        ("dpo", train_dpo, DPOSettings(**SMALL, max_steps=1)),
        ("reward", train_reward, RewardSettings(**SMALL, max_steps=1)),
    ):
        found = kind(tiny_model, rows, tmp_path / name, settings, home=home)
        counts[name] = [
            found[f"rows{x}"] for x in ("", "_trained", "_identical", "_too_long", "_cut")
        ]
        assert "rows_dropped_by_trl" not in found
    # a reward is that of the last token, so a cut response has none
    assert counts == {"dpo": [6, 4, 1, 1, 1], "reward": [6, 3, 1, 2, 0]}
    sft = rows.rename_column("chosen", "completion")
    settings = SFTSettings(**SMALL, max_steps=1)
    found = train_sft(tiny_model, sft, tmp_path / "sft", settings, home=home)
    assert (found["rows_trained"], found["rows_too_long"], found["rows_cut"]) == (5, 1, 1)


def test_pairs_that_are_all_the_same_are_refused(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    pairs = make_pairs(3)
    same = pairs.remove_columns("rejected").add_column("rejected", pairs["chosen"][:])
    with pytest.raises(DataError, match=r"none of 3 rows can be trained on: .*3 identical"):
        train_dpo(tiny_model, same, tmp_path / "run", DPOSettings(**SMALL), home=home)
    with pytest.raises(DataError, match="in every pair the two responses are the same"):
        split_pairs(same)


@pytest.mark.parametrize("good", [True, False])
def test_kto_wants_both_sides(good: bool, tiny_model: Path, home: Path, tmp_path: Path) -> None:
    rows = rows_for("kto")
    one = rows.filter(lambda row: row["label"] is good)
    with pytest.raises(DataError, match=f"all 8 are {'good' if good else 'bad'}"):
        train("kto", tiny_model, tmp_path / "run", home, rows=one)


def test_kto_counts_both_sides_alike(
    tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trl

    seen: dict[str, Any] = {}

    def refuse(self: Any, *, args: Any, **_: Any) -> None:
        seen.update(good=args.desirable_weight, bad=args.undesirable_weight)
        raise InterruptedError

    monkeypatch.setattr(trl.KTOTrainer, "__init__", refuse)
    rows = rows_for("kto").select([0, 1, 2, 3, 4, 5, 6, 8, 9])
    for settings, expected in (
        (KTOSettings(**SMALL), {"good": 1.0, "bad": 3.5}),
        (KTOSettings(**SMALL, undesirable_weight=2.0), {"good": 1.0, "bad": 2.0}),
    ):
        with pytest.raises(InterruptedError):
            train(
                "kto",
                tiny_model,
                tmp_path / str(expected["bad"]),
                home,
                rows=rows,
                settings=settings,
            )
        assert seen == expected


def test_a_full_disk_leaves_the_checkpoint_before(
    tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    real = torch.save

    def full(value: Any, path: Any, *given: Any, **named: Any) -> None:
        if "checkpoint-4" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(value, path, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(StoreError, match="the disk is full; checkpoint-2 is kept"):
            train("sft", tiny_model, tmp_path / "run", home)
    kept = [p.name for p in (tmp_path / "run" / "checkpoints").glob("checkpoint-*")]
    assert kept == ["checkpoint-2"]
    train("sft", tiny_model, tmp_path / "run", home)
    train("sft", tiny_model, tmp_path / "whole", home)
    digests = [weights_digest(tmp_path / name / "model") for name in ("run", "whole")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["loss", "gradient"])
def test_a_loss_that_is_no_number_ends_training(
    name: str, tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trl

    real = trl.SFTTrainer.compute_loss
    factor = float("nan") if name == "loss" else 0.0

    def spoiled(self: Any, *given: Any, **named: Any) -> Any:
        loss = real(self, *given, **named)
        return loss * factor if name == "loss" else (loss * 0.0).sqrt() + loss

    monkeypatch.setattr(trl.SFTTrainer, "compute_loss", spoiled)
    with pytest.raises(DataError, match=f"the {name} is no number at step 1: try a lower"):
        train("sft", tiny_model, tmp_path / "run", home)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("kind", ["sft", "reward", "kto"])
def test_no_socket_is_opened(
    kind: str, tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a connection was tried")

    # as where nobody has set HF_HUB_OFFLINE
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    settings = type(SETTINGS[kind])(**SMALL, max_steps=1)
    summary = train(kind, tiny_model, tmp_path / "run", home, settings=settings)
    assert summary["steps"] == 1


def test_the_card_names_data_judge_rubric_and_base(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    pairs = make_pairs(4, judge=["server/a", "server/b"] * 2, rubric=["helpfulness 1.0.0"] * 4)
    settings = RewardSettings(**SMALL, max_steps=1)
    facts = {"data set": "mine"}
    train_reward(tiny_model, pairs, tmp_path / "run", settings, home=home, facts=facts)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    for line in (
        "| base model | model |",
        "| judge | server/a, server/b |",
        "| rubric | helpfulness 1.0.0 |",
        "| data set | mine |",
        "| learning rate | 0.01 |",
    ):
        assert line in card


def _jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_demonstrations_come_in_several_forms(tmp_path: Path) -> None:
    turns = [*said("user", "Why?"), *said("assistant", "So.")]
    path = _jsonl(
        tmp_path / "rows.jsonl",
        {"messages": turns},
        {"prompt": "Why?", "completion": "So."},
        {"prompt": said("user", "Why?"), "response": "So."},
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
    )
    rows = load_demonstrations(path)
    assert list(rows) == [{"prompt": turns[:1], "completion": turns[1:]}] * 4


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"messages": "So."}, "messages"),
        ({"messages": said("assistant", "So.")}, "messages"),
        ({"prompt": "Why?"}, "completion"),
        ({"completion": "So."}, "prompt"),
    ],
)
def test_a_demonstration_that_is_none_is_named(
    row: dict[str, Any], field: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        load_demonstrations(_jsonl(tmp_path / "rows.jsonl", row))
    assert (caught.value.line, caught.value.field) == (1, field)


def test_opinions_are_rows_or_the_halves_of_pairs(tmp_path: Path) -> None:
    pair = {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "judge": "m"}
    same = pair | {"rejected": "So."}
    halves = load_opinions(_jsonl(tmp_path / "pairs.jsonl", pair, same))
    found = [(row["completion"][0]["content"], row["label"]) for row in halves]
    assert found == [("So.", True), ("No.", False)]
    assert halves["judge"][:] == ["m", "m"]
    rows = load_opinions(
        _jsonl(
            tmp_path / "rows.jsonl",
            {"prompt": "Why?", "completion": "So.", "label": True},
            {"prompt": "Why?", "response": "No.", "label": False},
        )
    )
    assert [(r["completion"][0]["content"], r["label"]) for r in rows] == found
    with pytest.raises(SpecError, match="true or false is wanted") as caught:
        load_opinions(
            _jsonl(tmp_path / "bad.jsonl", {"prompt": "a", "completion": "b", "label": 1})
        )
    assert caught.value.field == "label"


def test_a_model_is_not_asked_for_more_than_its_window(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    settings = DPOSettings(**SMALL | {"max_length": 10_000}, max_steps=1)
    train_dpo(tiny_model, make_pairs(4), tmp_path / "run", settings, home=home)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["max_length"] == 512


def test_settings_of_trl_are_handed_on_and_checked(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    def run(name: str, **trl: Any) -> dict[str, Any]:
        settings = DPOSettings(**SMALL, max_steps=1, trl=trl)
        return train_dpo(tiny_model, make_pairs(4), tmp_path / name, settings, home=home)

    assert run("ipo", loss_type=["ipo"])["loss_first"] != pytest.approx(0.6931, abs=1e-3)
    with pytest.raises(ConfigError, match="trl: DPOConfig has no loss_typ; did you mean"):
        run("typo", loss_typ=["ipo"])
    with pytest.raises(ConfigError, match="DPOConfig: "):
        run("wrong", lr_scheduler_type="steep")
