"""Faults and kills at a small size: no verdict wrong, nothing lost, nothing asked twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.command import REPOSITORY


def bench(folder: Path, *options: str) -> dict[str, Any]:
    out = folder / "out.json"
    script = REPOSITORY / "scripts" / "bench_faults.py"
    done = subprocess.run(
        [sys.executable, str(script), f"--json={out}", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    [found] = json.loads(out.read_text())["results"]
    assert isinstance(found, dict)
    return found


def test_amid_faults_every_verdict_is_right_or_none_for_the_right_cause(tmp_path: Path) -> None:
    found = bench(tmp_path, "--judgments=210", "--modes=any", "--retry-after=0.02")
    assert (found["wrong"], found["wrong_cause"]) == (0, 0)
    assert found["right"] == 200
    # 1 to 5 and 201 to 205
    assert found["causes"] == {"provider_error": 4, "refused": 2, "truncated": 2, "unreadable": 2}
    # two a pair; of four pairs the replies are asked for once more; what always fails is not here
    assert found["calls_needed"] == 2 * 208 + 2 * 4
    assert len(found["faults"]) == 6
    assert found["calls"] == found["calls_needed"] + sum(found["faults"].values())
    assert found["needless"] == 0


def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not(tmp_path: Path) -> None:
    found = bench(tmp_path, "--judgments=200", "--kills=3", "--concurrency=8")
    assert found["kills"] == 3
    assert found["same_verdicts"] is True
    assert found["asked_again_though_kept"] == 0
    assert found["most_repeated_after_a_kill"] <= 8
    assert found["calls"] == found["calls_needed"] + found["repeated"]
