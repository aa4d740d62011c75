"""The benchmark of the service runs, and the service makes no error under it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")  # what it is compared with
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_service.py"


def test_the_service_is_measured_beside_one_that_does_no_work(tmp_path):
    out = tmp_path / "out.json"
    sizes = ["--requests=100", "--clients=10", "--batches=5", f"--json={out}"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes],
        capture_output=True,
        text=True,
        check=True,
        cwd=SCRIPT.parents[1],
        env={"PYTHONPATH": str(SCRIPT.parents[1])},
    )
    found = json.loads(out.read_text())
    assert "minimal_one" in done.stdout
    for name in ("score_fresh", "score_cached", "get_reward_64", "minimal_one", "minimal_64"):
        assert found[name]["errors"] == 0
        assert found[name]["per_second"] > 0
    assert found["ratio_get_reward_64"]["throughput"] > 0
