from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from rlaif.backends.base import BackendOptions
from rlaif.backends.local import open_local, weights_digest
from rlaif.errors import ConfigError, DataError
from rlaif.train.checkpoints import last_checkpoint
from rlaif.train.dpo import DPOSettings, train_dpo

SETTINGS = DPOSettings(
    learning_rate=1e-2, batch_size=2, micro_batch_size=1, max_length=128, lora_rank=4, save_steps=2
)


@pytest.fixture(scope="module")
def rows() -> Any:
    import datasets

    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return datasets.Dataset.from_dict(
        {
            "prompt": [said("user", f"Question {i}?") for i in range(16)],
            "chosen": [said("assistant", f"Yes, {i}.") for i in range(16)],
            "rejected": [said("assistant", f"No, not {i}!") for i in range(16)],
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def unbroken(
    tiny_model: Path, rows: Any, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("dpo") / "run"
    return output, train_dpo(tiny_model, rows, output, SETTINGS, home=home)


def test_the_weights_move_the_loss_falls_and_the_model_is_usable(
    unbroken: tuple[Path, dict[str, Any]], tiny_model: Path, home: Path
) -> None:
    output, summary = unbroken
    assert summary["steps"] == 8
    assert summary["loss_first"] == pytest.approx(0.6931, abs=0.01)
    assert summary["loss_last"] < 0.6
    assert weights_digest(output / "model") != weights_digest(tiny_model)
    backend = open_local(str(output), BackendOptions(home=home))
    assert backend.parameters == open_local(str(tiny_model), BackendOptions(home=home)).parameters
    curves = [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]
    assert [c["loss"] for c in curves][-1] == summary["loss_last"]
    assert "learning rate | 0.01" in (output / "model" / "README.md").read_text()
    assert not (output / "checkpoints").exists()


def test_what_is_done_is_not_done_again(
    unbroken: tuple[Path, dict[str, Any]],
    tiny_model: Path,
    rows: Any,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, summary = unbroken
    monkeypatch.setattr("rlaif.train.dpo.DPO.build", lambda *_: pytest.fail("trained again"))
    assert train_dpo(tiny_model, rows, output, SETTINGS, home=home) == summary


def test_training_that_was_stopped_ends_with_the_same_weights(
    unbroken: tuple[Path, dict[str, Any]], tiny_model: Path, rows: Any, home: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int, note: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_dpo(tiny_model, rows, tmp_path / "run", SETTINGS, home=home, progress=stop)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-4").exists()
    seen: list[int] = []
    train_dpo(
        tiny_model,
        rows,
        tmp_path / "run",
        SETTINGS,
        home=home,
        progress=lambda done, total, note: seen.append(done),
    )
    assert seen[0] == 5
    expected = weights_digest(unbroken[0] / "model")
    assert weights_digest(tmp_path / "run" / "model") == expected


def test_every_weight_can_be_trained(
    tiny_model: Path, rows: Any, home: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    settings = replace(SETTINGS, lora_rank=0, learning_rate=1e-3)
    summary = train_dpo(tiny_model, rows.select(range(4)), tmp_path / "r", settings, home=home)
    assert summary["dtype"] == "float32"
    assert weights_digest(tmp_path / "r" / "model") != weights_digest(tiny_model)


def test_no_socket_is_opened(
    tiny_model: Path, rows: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    train_dpo(tiny_model, rows.select(range(2)), tmp_path / "run", SETTINGS, home=home)


def test_rows_that_are_too_long_are_counted(
    tiny_model: Path, rows: Any, home: Path, tmp_path: Path
) -> None:
    import datasets

    long = rows.select(range(4)).to_list()
    long[0]["prompt"][0]["content"] = "x" * 400
    summary = train_dpo(
        tiny_model, datasets.Dataset.from_list(long), tmp_path / "run", SETTINGS, home=home
    )
    assert (summary["rows"], summary["rows_trained"], summary["rows_too_long"]) == (4, 3, 1)
    assert summary["rows_cut"] == 0
    for row in long:
        row["prompt"][0]["content"] = "x" * 400
    with pytest.raises(DataError, match="all 4 rows are longer than 128 tokens"):
        train_dpo(
            tiny_model, datasets.Dataset.from_list(long), tmp_path / "other", SETTINGS, home=home
        )


def test_other_settings_need_another_folder(
    unbroken: tuple[Path, dict[str, Any]], tiny_model: Path, rows: Any, home: Path
) -> None:
    from dataclasses import replace

    with pytest.raises(ConfigError, match=r"settings\.beta was 0\.1"):
        train_dpo(tiny_model, rows, unbroken[0], replace(SETTINGS, beta=0.5), home=home)


def test_a_model_without_a_tokenizer_is_refused_before_anything_is_written(
    tiny_model: Path, rows: Any, home: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="no tokenizer"):
        train_dpo(copy, rows, tmp_path / "run", SETTINGS, home=home)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none") is None
    for step, state in ((5, '{"global_step": 5}'), (10, '{"global_'), (15, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-5"]
