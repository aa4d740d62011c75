"""The benchmark of the statistics runs, says who is absent, and its contestants agree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_stats.py"
SMALL = {"comparisons": 4000, "models": 6, "prompts": 40, "rounds": 50, "peer-rounds": 5}


def run(*options, **numbers):
    sizes = [f"--{key}={value}" for key, value in {**SMALL, **numbers}.items()]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes, *options], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_contestants_fit_the_same_strengths(tmp_path):
    out = run("--only=bootstrap", f"--json={tmp_path / 'out.json'}", "--arena-python=/nowhere")
    assert "absent" in out
    results = json.loads((tmp_path / "out.json").read_text())["results"]["bootstrap"]
    assert "absent" in results["arena-rank"]
    ours = results["rlaif"]
    for name in ("choix", "scikit-learn", "rlaif, comparisons"):
        assert results[name]["strength"] == pytest.approx(ours["strength"], abs=1e-3)
    assert ours["se"] > results["rlaif, comparisons"]["se"]
    assert ours["peak_mb"] > 0


def test_records_are_streamed():
    out = run("--only=stream", verdicts=500)
    results = json.loads(out[out.index("\n{") :])["results"]["stream"]["rlaif"]
    assert results["models"] >= 6
    assert results["records_per_s"] > 0
