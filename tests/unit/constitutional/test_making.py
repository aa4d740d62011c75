"""Runs of chains: broken rows, totals, interruption; and published chains to the letter."""

import asyncio
import json
import threading

import pytest

from rlaif.constitutional.making import write_chains
from rlaif.constitutional.prompts import BrokenRow, prompts_in
from rlaif.constitutional.published import read_published_chain
from rlaif.constitutional.records import read_chains
from rlaif.errors import SpecError
from rlaif.store.runs import RunFolder
from tests.unit.constitutional.makers import actor, item, reviser

ROWS = [
    {"prompt": "One?"},
    {"prompt": "Two?", "id": "x"},
    {"nothing": 1},
    {"prompt": ""},
    {"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]},
    {"prompt": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"},
                {"role": "user", "content": "C"}]},
    {"prompt": "Three?", "id": "x"},
    {"prompt": "One?"},
]  # fmt: skip


def prompts(tmp_path, rows=ROWS, extra="{broken\n\n"):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + extra)
    return path


def test_broken_rows_are_told_and_passed(tmp_path):
    found = list(prompts_in(prompts(tmp_path)))
    broken = {row.line: row.message for row in found if isinstance(row, BrokenRow)}
    assert [row.id for row in found if not isinstance(row, BrokenRow)][1] == "x"
    assert set(broken) == {3, 4, 5, 7, 8, 9}
    assert "is missing" in broken[3]
    assert "end in a user turn" in broken[5]
    assert "also the id of line 2" in broken[7]
    assert "the same prompt as line 1" in broken[8]
    conversation = found[5]
    assert [m.content for m in conversation.prompt] == ["A", "B", "C"]
    assert len(list(prompts_in(prompts(tmp_path), limit=3))) == 3


def test_other_formats_are_read_strictly(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('prompt\nOne?\n""\n')
    with pytest.raises(SpecError):
        list(prompts_in(path))
    empty = tmp_path / "e.jsonl"
    empty.write_text("\n")
    with pytest.raises(SpecError, match="holds no rows"):
        list(prompts_in(empty))


def run(tmp_path, name="run", rows=None, stop=None, **more):
    folder = RunFolder(tmp_path / name, {"command": "x"})
    source = rows if rows is not None else prompts_in(prompts(tmp_path))
    return asyncio.run(
        write_chains(
            source,
            reviser(actor(), rounds=2, **more).revise,
            folder,
            principles=["kind", "brief", "never"],
            concurrency=4,
            stop=stop,
        )
    )


def test_a_run_counts_what_became_of_every_row(tmp_path):
    summary = run(tmp_path)
    assert (summary["n"], summary["ok"], summary["causes"]) == (9, 3, {"broken_row": 6})
    assert (summary["chains"], summary["revised"], summary["calls"]) == (3, 3, 15)
    assert summary["rounds"] == [{"round": n, "unchecked": 3} for n in (1, 2)]
    assert summary["principles"]["never"] == {"rounds": 0, "keep_rate": None}
    assert sum(p["rounds"] for p in summary["principles"].values()) == 6
    chains = list(read_chains(tmp_path / "run"))
    assert [c.item.prompt[-1].content for c in chains] == ["One?", "Two?", "C"]
    skipped = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in skipped] == [3, 4, 5, 7, 8, 9]


def test_two_runs_are_the_same_to_the_bit(tmp_path):
    run(tmp_path, "one")
    run(tmp_path, "two")
    one, two = ((tmp_path / n / "revisions.jsonl").read_bytes() for n in ("one", "two"))
    assert one == two


def test_a_run_that_is_stopped_leaves_no_whole_file(tmp_path):
    stop = threading.Event()

    def rows():
        yield item("a")
        stop.set()
        yield item("b")

    summary = run(tmp_path, rows=rows(), stop=stop)
    assert summary["interrupted"]
    assert summary["chains"] == 1
    assert not (tmp_path / "run" / "revisions.jsonl").exists()
    assert (tmp_path / "run" / "revisions.jsonl.partial").exists()


def test_published_chains_are_read_and_written_to_the_letter(shared_data):
    path = shared_data / "constitutional" / "samples_INSTRUCTGPT_SLMADISON.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    for row in rows:
        parts = [row["rl_prompt"], row["initial_response"][0]["sample"]]
        for step in row["cst"]:
            parts += step["cst_value"]["prompt"]
            parts.append(step["critique"]["sample"])
            parts += [step["cst_value"]["edit_request"], step["revision"]["sample"]]
        chain = read_published_chain(row)
        assert chain.text() == "".join(parts)
        assert len(chain.steps) == 4
    with pytest.raises(SpecError, match="no published chain"):
        read_published_chain({"rl_prompt": "x"})
