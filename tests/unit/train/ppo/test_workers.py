"""Several processes that train together, against one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif.train.ppo.workers import Workers

REPOSITORY = Path(__file__).resolve().parents[4]
SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from transformers import AutoModelForCausalLM, AutoTokenizer
from rlaif.train.ppo import PPOConfig, PPOTrainer

model_folder, folder, kind = sys.argv[1:4]
model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(model_folder)
asked = []

def letters(completions):
    asked.append(len(completions))
    if kind == "broken":
        return [float("nan")] * len(completions)
    return [sum(c.isalpha() for c in text) / 5 for text in completions]

args = PPOConfig(folder, total_episodes=24, batch_size=8, micro_batch_size=2, rollout_batch_size=3,
                 epochs=2, learning_rate=1e-3, response_length=5, use_cpu=True)
rows = [{"prompt": "say a"}, {"prompt": "and this one is longer"}, {"prompt": "why"}]
trainer = PPOTrainer(model, letters, args, rows, processing_class=tokenizer, eval_dataset=rows)
try:
    summary = trainer.train()
except Exception as error:
    print(json.dumps({"error": str(error), "rank": trainer.workers.rank}))
    raise SystemExit(7)
total = sum(float(p.double().abs().sum()) for p in trainer.actor.parameters())
print(json.dumps({"rank": trainer.workers.rank, "count": trainer.workers.count, "asked": asked,
                  "weights": total, "last": summary["last"]}))
"""


def launched(tmp_path: Path, model: Path, n: int, kind: str = "sound") -> list[dict[str, Any]]:
    """What each of `n` processes found, by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    base = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "1"}
    group = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = []
    for rank in range(n):
        mine = {**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} if n > 1 else {}
        words = [sys.executable, str(script), str(model), str(tmp_path / f"run-{n}-{kind}"), kind]
        running.append(
            subprocess.Popen(
                words,
                env=base | mine,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [process.communicate(timeout=240) for process in running]
    assert all(out.strip() for out, _ in told), told
    return sorted((json.loads(out.splitlines()[-1]) for out, _ in told), key=lambda x: x["rank"])


@pytest.mark.slow
def test_two_processes_end_where_one_does(tmp_path: Path, flat_model: Path) -> None:
    (alone,) = launched(tmp_path, flat_model, 1)
    first, second = launched(tmp_path, flat_model, 2)
    assert first["count"] == 2
    assert first["weights"] == second["weights"]
    assert first["weights"] == pytest.approx(alone["weights"], rel=1e-6)
    for name in ("reward", "eval_reward", "length", "coverage"):
        assert first["last"][name] == pytest.approx(alone["last"][name], rel=1e-6)
    assert first["last"]["first_ratio"] == 1.0
    assert second["asked"] == []  # one asks for all
    assert first["asked"] == alone["asked"]
    logged = (tmp_path / "run-2-sound" / "training.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [0, 1, 2, 3]


@pytest.mark.slow
def test_what_goes_wrong_in_one_ends_all(tmp_path: Path, flat_model: Path) -> None:
    first, second = launched(tmp_path, flat_model, 2, "broken")
    assert "letters gave nan" in first["error"]
    assert second["error"] == first["error"]


def test_one_process_does_everything_itself() -> None:
    workers = Workers(use_cpu=True)
    assert (workers.count, workers.rank, workers.is_main) == (1, 0, True)
    assert workers.share([1, 2, 3], lambda x: x * 2) == [2, 4, 6]
    assert workers.from_main(lambda: "done") == "done"
    assert workers.everyones(5) == [5]
    assert workers.any(True)
    assert not workers.any(False)
    weights = torch.nn.Parameter(torch.ones(2))
    workers.add_gradients([weights])
    workers.agree([weights])
    assert weights.grad is None
