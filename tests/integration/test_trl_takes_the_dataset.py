"""TRL's own trainers take a split of `rlaif prefer` as it is, every column included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlaif.preferences.export import write_dataset
from rlaif.preferences.pairs import Rules, pairs_from
from tests.builders import verdict

pytest.importorskip("trl")

SETTINGS: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "max_length": 256,
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
    "disable_tqdm": True,
}


@pytest.fixture
def train_split(tmp_path: Path) -> Any:
    import datasets

    made = [verdict(f"v{i}", 0.8, item_id=f"i{i}", prompt=f"Question {i}?") for i in range(6)]
    write_dataset(pairs_from(made, Rules()), tmp_path / "dataset", test_share=0.0)
    return datasets.load_from_disk(str(tmp_path / "dataset"))["train"]


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["DPO", "Reward"])
def test_a_trainer_takes_it(kind: str, train_split: Any, tiny_model: Path, tmp_path: Path) -> None:
    import trl
    from transformers import AutoTokenizer

    config = getattr(trl, f"{kind}Config")(output_dir=str(tmp_path / "out"), **SETTINGS)
    trainer = getattr(trl, f"{kind}Trainer")(
        model=str(tiny_model),
        args=config,
        train_dataset=train_split,
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    assert trainer.train().training_loss > 0
    assert len(trainer.train_dataset) == 6
