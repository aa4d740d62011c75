"""The benchmark of soft labels runs, and even a short run tells soft from hard."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_soft_labels.py"


def test_soft_labels_are_nearer_to_the_true_probabilities(tmp_path: Path) -> None:
    sizes = ("--seeds=3", "--pairs=64", "--steps=40", "--scales", "0.25")
    out = tmp_path / "out.json"
    words = [sys.executable, str(SCRIPT), *sizes, "--json", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "soft - drawn" in done.stdout
    found = json.loads(out.read_text())
    rows = found["results"]["0.25"]["rows"]
    excess = {row["trainer"]: row["minus_drawn"] for row in rows if row["measure"] == "excess"}
    assert set(excess) == {"dpo", "reward"}
    assert all(high < 0 for _, _, high in excess.values())
    assert found["settings"]["seeds"] == 3
