"""The benchmark of throughput runs at a tiny size, and both contestants get every verdict right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_throughput.py"


def run(folder, *options):
    out = folder / "out.json"
    small = ["--concurrency=8", "--rounds=1", "--calls=24", f"--json={out}"]
    subprocess.run(
        [sys.executable, str(SCRIPT), *small, *options], capture_output=True, text=True, check=True
    )
    return json.loads(out.read_text())["results"]


def test_our_path_and_the_floor_ask_the_same(tmp_path):
    rows = run(tmp_path, "--top-logprobs=2")["rates"]
    assert [(row["setting"], row["who"]) for row in rows] == [
        (f"{latency}, 8", who) for latency in ("fixed", "log-normal") for who in ("floor", "rlaif")
    ]
    for row in rows:
        assert (row["wrong"], row["calls_served"]) == (0, 24)
        assert row["peak_in_flight"] <= 8
        assert min(row["calls_per_s"], row["cpu_ms_per_call"], row["peak_mb"]) > 0


@pytest.mark.parametrize("option", ["--rerun=20", "--memory=20"])
def test_a_rerun_calls_nobody_and_memory_is_told(tmp_path, option):
    (rows,) = run(tmp_path, option).values()
    assert [row["calls_served"] for row in rows] == [40, 0][: len(rows)]
    assert all(row["wrong"] == 0 and row["peak_mb"] > 0 for row in rows)


@pytest.mark.slow
def test_the_sdks_are_measured_beside_themselves(tmp_path):
    rows = run(tmp_path, "--sdk")["sdks"]
    assert [row["setting"] for row in rows] == ["openai, 8"] * 2 + ["anthropic, 8"] * 2
    assert all((row["wrong"], row["calls_served"]) == (0, 24) for row in rows)
