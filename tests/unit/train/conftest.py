"""Rows for the trainers, and the smallest settings that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def make_pairs(n: int = 8, **columns: Any) -> Any:
    import datasets

    return datasets.Dataset.from_dict(
        {
            "prompt": [said("user", f"Question {i}?") for i in range(n)],
            "chosen": [said("assistant", f"Yes, {i}.") for i in range(n)],
            "rejected": [said("assistant", f"No, not {i}!") for i in range(n)],
            **columns,
        }
    )


SMALL: dict[str, Any] = {
    "learning_rate": 1e-2,
    "batch_size": 4,
    "micro_batch_size": 4,
    "max_length": 128,
    "lora_rank": 4,
    "save_steps": 2,
    "warmup_steps": 0,
}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the choice of dtype is kept: measured once for all tests."""
    return tmp_path_factory.mktemp("home")
