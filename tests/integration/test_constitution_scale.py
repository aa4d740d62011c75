"""Chains at a tiny scale of the benchmark: killed and resumed, and round by round in batches."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.batch_wire import BatchServer
from tests.integration.command import REPOSITORY, Result, rlaif, rows, script, write_rows

SCRIPT = REPOSITORY / "scripts" / "bench_constitution.py"


def test_a_killed_run_asks_again_for_nothing_and_ends_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    small = ["--prompts=16", "--rounds=2", "--concurrency=4", "--latency=0.02", "--kills=1"]
    words = [sys.executable, str(SCRIPT), *small, f"--json={out}"]
    subprocess.run(words, capture_output=True, check=True)
    found = json.loads(out.read_text())
    assert found["calls"] == found["unbroken"]["calls"] == 16 * 9
    assert found["unbroken"]["revised"] == 16
    assert found["unbroken"]["of_ideal"] > 0
    broken = found["broken"]
    assert broken["calls_of_last"] == broken["missing_at_last"] < 16 * 9
    assert broken["files_identical"]


def chains(run: str) -> list[dict[str, Any]]:
    """The chains of a run, without what the calls cost."""
    found = rows(Path(run) / "revisions.jsonl")
    for chain in found:
        for call in [*chain["calls"], *(c for r in chain["rounds"] for c in r["calls"])]:
            call.pop("cost_usd", None)
    return found


def test_rounds_become_batches(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-a-key")
    data = write_rows(Path("p.jsonl"), *({"prompt": f"How is {n} mended?"} for n in range(12)))

    def critique(server: BatchServer, out: str, *more: object) -> Result:
        words = ("constitution", "critique", data, "-m", "openai/actor", "--base-url", server.url)
        judge = ("--judge", "anthropic/judge", "--judge-url", server.origin)
        return rlaif(*words, *judge, "-n", 4, "-o", out, "--json", *more)

    # drafts that count up, and a verdict for the later one
    with BatchServer(script("bench_constitution", monkeypatch).spoken) as server:
        live = critique(server, "live")
        assert (live.code, server.calls) == (0, 12 * 17), live.err
        for file in home.glob("replies.sqlite*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        done = critique(server, "batched", "--batch", "--batch-poll", 0.05)
        assert (done.code, server.calls) == (0, 12 * 17), done.err
        sizes = [len(batch.requests) for batch in server.batches]
        # first responses, then critiques, revisions and checks of each round
        assert sizes == [12, *[12, 12, 24] * 4]
        actors = [b for b in server.batches if len(b.requests) == 12]
        assert len(actors) == 9
        assert chains("batched") == chains("live")
        assert all(chain["revised"] for chain in chains("live"))


def test_the_whole_loop_is_commands_that_there_are(tmp_path: Path) -> None:
    import typer

    from rlaif.cli.main import app

    script = REPOSITORY / "scripts" / "constitution_end_to_end.py"
    data = write_rows(tmp_path / "p.jsonl", *({"prompt": f"How is {n} mended?"} for n in range(40)))
    words = [sys.executable, str(script), str(data), "-o", str(tmp_path / "out"), "--plan"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = [line.split()[2:] for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [
        *("constitution", "constitution", "train", "generate", "constitution", "prefer"),
        *("train", "generate", "generate", *["judge"] * 4),
    ]
    root = typer.main.get_command(app)
    for line in lines:
        with root.make_context("rlaif", list(line)) as context:
            name, command, rest = root.resolve_command(context, list(line))  # type: ignore[attr-defined]
            if hasattr(command, "resolve_command") and line[0] in ("constitution", "train"):
                with command.make_context(name, list(rest)) as inner:
                    name, command, rest = command.resolve_command(inner, list(rest))
            command.make_context(name, list(rest)).close()  # an option that is none is an error
    held_out = {row["id"] for row in rows(tmp_path / "out" / "held_out.jsonl")}
    train = {row["id"] for row in rows(tmp_path / "out" / "train.jsonl")}
    assert len(held_out | train) == 40
    assert held_out
    assert not held_out & train
