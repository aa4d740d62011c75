from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rlaif.runner import Tally, ordered, write_verdicts
from rlaif.store.runs import RunFolder
from rlaif.types import Verdict
from tests.builders import verdict


def _run(items: object, work: object, **how: int) -> list[object]:
    async def collect() -> list[object]:
        return [r async for r in ordered(items, work, **how)]  # type: ignore[arg-type]

    return asyncio.run(collect())


def test_results_come_in_order_whatever_order_the_work_ends_in() -> None:
    async def work(n: int) -> int:
        await asyncio.sleep(0.001 * (7 - n % 7))
        return n

    assert _run(range(40), work, concurrency=8) == list(range(40))


def test_no_more_than_the_concurrency_is_worked_on_and_slots_never_idle() -> None:
    active, most = 0, 0

    async def work(n: int) -> int:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.002)
        active -= 1
        return n

    _run(range(50), work, concurrency=5)
    assert most == 5


def test_items_are_read_no_further_than_the_window() -> None:
    read = 0

    def items() -> object:
        nonlocal read
        for n in range(1000):
            read += 1
            yield n

    async def work(n: int) -> int:
        if n == 0:
            await asyncio.sleep(0.02)
            assert read <= 10
        return n

    assert len(_run(items(), work, concurrency=2, window=10)) == 1000


def test_an_error_comes_after_the_results_before_it() -> None:
    async def work(n: int) -> int:
        await asyncio.sleep(0)
        if n == 3:
            raise ValueError("three")
        return n

    seen: list[int] = []

    async def collect() -> None:
        async for n in ordered(range(10), work, concurrency=4):
            seen.append(n)  # noqa: PERF401

    with pytest.raises(ValueError, match="three"):
        asyncio.run(collect())
    assert seen == [0, 1, 2]


def test_coverage_is_one_before_the_first_item() -> None:
    assert Tally().coverage == 1.0


def test_a_judged_run_writes_verdicts_and_a_summary(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {})
    made = [verdict("v1"), verdict("v2", None), verdict("v3")]

    async def judge(n: int) -> Verdict:
        return made[n]

    told: list[str] = []
    summary = asyncio.run(
        write_verdicts(
            range(3), judge, run, concurrency=2, progress=lambda _, note: told.append(note)
        )
    )
    assert (summary["n"], summary["ok"], summary["causes"]) == (3, 2, {"unreadable": 1})
    assert summary["coverage"] == pytest.approx(2 / 3)
    assert told[-1] == "coverage 66.7%"
    lines = (run.path / "verdicts.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["v1", "v2", "v3"]
    assert json.loads((run.path / "summary.json").read_text()) == summary
