"""A checkpoint is there whole or not at all, and the one before stays until it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlaif.errors import StoreError
from rlaif.train.ppo.checkpoints import last_checkpoint, save_checkpoint


def test_the_newest_comes_back_and_is_the_only_one(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none") is None
    for update in (9, 10):
        save_checkpoint(tmp_path, update, {"w": torch.full((2,), update)}, {"x": update / 3})
    found = last_checkpoint(tmp_path)
    assert found is not None
    tensors, state = found
    assert tensors["w"].tolist() == [10, 10]
    assert state == {"update": 10, "x": 10 / 3}
    assert [path.name for path in tmp_path.iterdir()] == ["update-10"]


def test_what_a_killed_process_left_is_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"w": torch.ones(1)}, {})
    half = tmp_path / ".update-2.partial"
    half.mkdir()
    (half / "tensors.pt").write_bytes(b"half")
    moved = tmp_path / "update-3"  # killed between two file operations
    moved.mkdir()
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["update"] == 1
    save_checkpoint(tmp_path, 2, {"w": torch.ones(1)}, {})
    assert not half.exists()


def test_a_full_disk_is_said_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, {"w": torch.ones(1)}, {})

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StoreError, match="update-2: cannot write the checkpoint"):
        save_checkpoint(tmp_path, 2, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["update-1"]


def test_one_that_is_spoiled_is_an_error(tmp_path: Path) -> None:
    place = save_checkpoint(tmp_path, 1, {"w": torch.ones(1)}, {})
    (place / "tensors.pt").write_bytes(b"spoiled")
    with pytest.raises(StoreError, match="update-1: cannot read the checkpoint"):
        last_checkpoint(tmp_path)
