"""Reports on training runs and loops: from the folder alone, safe, and true to the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import DataError, SpecError
from rlaif.report.page import render_page
from rlaif.report.training import running_mean, training_page
from rlaif.report.training_loop import loop_page
from tests.unit.report.test_page import HOSTILE, Reader

ALARM = {
    "name": "kl",
    "what": "KL from the start, nats a response (k1)",
    "value": 61.0,
    "low": 55.0,
    "high": 67.0,
    "least": None,
    "most": 30.0,
    "fired": True,
    "advice": "stop at an earlier round",
}
QUIET = {**ALARM, "name": "coverage", "value": 1.0, "low": None, "high": None, "fired": False}


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(folder: Path, rows: list[dict[str, Any]], **summary: Any) -> Path:
    write(folder, "training.jsonl", rows)
    (folder / "config.json").write_text(json.dumps({"command": "train ppo"}))
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_every_kind_of_trainer_has_its_curves(tmp_path: Path) -> None:
    online = [
        {"step": i, "reward": 0.1 * i, "kl": 0.2 * i, "length": 30.0, "entropy": 2.0}
        for i in range(1, 60)
    ]
    page = render_page(training_page(run(tmp_path / "ppo", online, episodes=59)))
    for title in ("Reward", "KL from the start", "Length", "Entropy"):
        assert f"<figcaption>{title}</figcaption>" in page
    assert "no preference" not in page
    dpo = [{"step": i, "loss": 0.69 - i / 100, "rewards/margins": i / 10} for i in range(1, 5)]
    page = render_page(training_page(run(tmp_path / "dpo", dpo, rows_trained=32)))
    assert "<figcaption>Loss</figcaption>" in page
    assert "<figcaption>Implicit reward</figcaption>" in page
    assert "<figcaption>Reward by source</figcaption>" not in page
    assert "no preference" in page
    assert "32 rows" in page


def test_what_was_logged_stands_in_a_table_even_where_nothing_is_drawn(tmp_path: Path) -> None:
    rows = [{"step": 1, "strange_figure": 7.0, "note": "text"}, {"step": 2, "strange_figure": None}]
    page = render_page(training_page(run(tmp_path / "run", rows)))
    assert "strange_figure" in page
    assert "<svg" not in page


def test_alarms_say_what_fired_where_and_what_to_do(tmp_path: Path) -> None:
    alarms = {"limits": "default", "now": [QUIET], "fired": [{"step": 17, **ALARM}]}
    page = render_page(training_page(run(tmp_path / "a", [{"step": 1, "kl": 1.0}], alarms=alarms)))
    assert "1 alarms fired" in page
    assert "at step 17" in page
    assert "stop at an earlier round" in page
    assert "55.000 to 67.000" in page
    quiet = {"now": [QUIET], "fired": []}
    page = render_page(training_page(run(tmp_path / "b", [{"step": 1, "kl": 1.0}], alarms=quiet)))
    assert "The alarms are quiet" in page


def test_what_the_policy_wrote_cannot_break_the_page(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", [{"step": 1, "reward": 1.0, HOSTILE[:20]: 2.0}])
    said = [{"role": "assistant", "content": HOSTILE}]
    write(
        folder,
        "samples.jsonl",
        [{"step": i, "prompt": HOSTILE, "completion": said, "reward": None} for i in range(9)],
    )
    page = render_page(training_page(folder))
    Reader(page)
    assert "<script" not in page
    assert "No reward." in page
    assert page.count('class="example"') == 6


def test_a_folder_without_curves_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"training\.jsonl"):
        training_page(tmp_path)
    (tmp_path / "training.jsonl").write_text("")
    with pytest.raises(DataError, match="nothing was logged"):
        training_page(tmp_path)


def test_a_running_mean_reaches_a_twentieth_back() -> None:
    assert running_mean([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    found = running_mean([float(i) for i in range(100)])
    assert found[:3] == [0.0, 0.5, 1.0]
    assert found[-1] == 97.0


def row(number: int, judge: float, gold: float, **changed: Any) -> dict[str, Any]:
    def span(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 40}

    return {
        "round": number,
        "model": f"round-{number}/4-model/model",
        "reward": span(judge),
        "gold": span(gold),
        "win_rate": span(judge),
        "words": {"policy": {"mean": 30.0, "p95": 60.0}, "start": {"mean": 28.0, "p95": 55.0}},
        "judge_histogram": [0, 1, 2, 3, 4, 5, 4, 3, 2, 1],
        "measures": [
            {"name": "kl", "value": 2.0 * number},
            {"name": "kl_k3", "value": 2.5 * number},
            {"name": "length_corrected_win_rate", "value": judge, "low": 0.4, "high": 0.8},
        ],
        "alarms": [QUIET],
        "fired": [],
        "cost_usd": 0.25,
        "wall_s": 60.0,
        "rows": 32,
        **changed,
    }


def table(folder: Path, rows: list[dict[str, Any]], ended: str = "done") -> Path:
    folder.mkdir(parents=True)
    made = {
        "name": "tiny",
        "trainer": "dpo",
        "policy": "local/x",
        "judge": "scripted/a",
        "held_out_judge": "scripted/b",
        "rounds": rows,
        "ended": ended,
    }
    (folder / "loop.json").write_text(json.dumps(made))
    return folder


def test_a_loop_is_drawn_by_round(tmp_path: Path) -> None:
    folder = table(tmp_path / "loop", [row(1, 0.6, 0.6), row(2, 0.7, 0.65)])
    write(folder / "round-2" / "4-model", "training.jsonl", [{"step": 1, "loss": 0.69}])
    page = render_page(loop_page(folder))
    for title in (
        "P(preferred over the start)",
        "KL from the start",
        "Length",
        "Round 2: Loss",
    ):
        assert f"<figcaption>{title}</figcaption>" in page
    assert "The policy improved, by both judges" in page
    assert "$0.50" in page
    assert "2 equal length" in page
    Reader(page)


@pytest.mark.parametrize(
    ("judge", "gold", "told"),
    [
        (0.6, 0.5, "Improved by the judge it was trained on"),
        (0.5, 0.7, "No improvement is shown"),
    ],
)
def test_the_conclusion_is_what_the_intervals_allow(
    tmp_path: Path, judge: float, gold: float, told: str
) -> None:
    page = render_page(loop_page(table(tmp_path / "loop", [row(1, judge, gold)])))
    assert told in page
    assert "by both judges" not in page


def test_a_loop_that_hacked_its_judge_says_so_first(tmp_path: Path) -> None:
    rows = [
        row(1, 0.7, 0.5, alarms=[{**ALARM, "name": "gold_gap"}], fired=["gold_gap"]),
        row(2, 0.9, 0.3, alarms=[ALARM], fired=["kl"]),
    ]
    page = render_page(loop_page(table(tmp_path / "loop", rows, ended="alarms")))
    assert "Alarms fired" in page
    assert "The loop stopped there." in page
    assert "Fired in earlier rounds" in page


def test_a_folder_that_holds_no_round_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no round is done yet"):
        loop_page(table(tmp_path / "loop", []))
    (tmp_path / "loop" / "loop.json").write_text("[]")
    with pytest.raises(SpecError, match="not the table of a loop"):
        loop_page(tmp_path / "loop")
    with pytest.raises(SpecError, match="no such file"):
        loop_page(tmp_path)
