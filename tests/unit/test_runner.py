from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaif import runner
from rlaif.errors import StoreError
from rlaif.runner import Stopped, Tally, ordered, run_async, write_verdicts
from rlaif.store.runs import RunFolder
from rlaif.types import Call, Usage, Verdict
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


def test_an_error_begins_nothing_new_while_what_is_under_way_ends() -> None:
    begun: list[int] = []

    async def work(n: int) -> int:
        begun.append(n)
        await asyncio.sleep(0.03 if n == 0 else 0)
        if n == 1:
            raise ValueError("one")
        return n

    with pytest.raises(ValueError, match="one"):
        _run(range(1000), work, concurrency=2)
    assert len(begun) < 5


def test_an_error_of_the_source_comes_after_what_was_read_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("line 4")

    async def work(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    seen: list[int] = []

    async def collect() -> None:
        async for n in ordered(items(), work, concurrency=8):
            seen.append(n)  # noqa: PERF401

    with pytest.raises(ValueError, match="line 4"):
        asyncio.run(collect())
    assert seen == [0, 1, 2]


def test_while_the_oldest_hangs_the_others_go_on_until_the_window_is_full() -> None:
    ended: list[int] = []

    async def work(n: int) -> int:
        if n == 0:
            for _ in range(200):
                await asyncio.sleep(0)
            assert len(ended) == 11
        ended.append(n)
        return n

    assert _run(range(50), work, concurrency=3, window=12) == list(range(50))


def test_a_window_is_not_small_where_few_are_worked_on_at_once() -> None:
    ended = 0

    async def work(n: int) -> int:
        nonlocal ended
        if n == 0:
            for _ in range(40_000):  # turns of the loop: more than the others need
                await asyncio.sleep(0)
            assert ended == 8191
        ended += 1
        return n

    assert len(_run(range(9000), work, concurrency=2)) == 9000


def test_leaving_early_cancels_what_is_under_way() -> None:
    cancelled: list[int] = []

    async def work(n: int) -> int:
        try:
            await asyncio.sleep(0 if n == 0 else 10)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    async def leave() -> None:
        made = ordered(range(9), work, concurrency=3)
        assert await anext(made) == 0
        await made.aclose()

    asyncio.run(leave())
    assert cancelled == [1, 2]


def test_a_stop_finishes_what_was_begun_and_begins_nothing_more() -> None:
    begun: list[int] = []
    seen: list[int] = []

    async def collect() -> None:
        stop = asyncio.Event()

        async def work(n: int) -> int:
            begun.append(n)
            if n == 6:
                stop.set()
            await asyncio.sleep(0.002 * (3 - n % 3))
            return n

        async for n in ordered(range(100), work, concurrency=4, stop=stop):
            seen.append(n)  # noqa: PERF401

    with pytest.raises(Stopped):
        asyncio.run(collect())
    assert seen == begun
    assert 6 < len(seen) < 12


@pytest.mark.parametrize("items", [[], [0, 1]])
def test_a_stop_with_nothing_left_is_no_stop(items: list[int]) -> None:
    async def collect() -> list[int]:
        stop = asyncio.Event()

        async def work(n: int) -> int:
            stop.set()
            return n

        return [n async for n in ordered(items, work, concurrency=4, stop=stop)]

    assert asyncio.run(collect()) == items


def _judge_after(stop_at: int, stop: asyncio.Event) -> object:
    async def judge(n: int) -> Verdict:
        if n == stop_at:
            stop.set()
        await asyncio.sleep(0)
        return verdict(f"v{n}")

    return judge


def test_a_stopped_run_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {})

    async def stopped() -> dict[str, object]:
        stop = asyncio.Event()
        judge = _judge_after(4, stop)
        return await write_verdicts(
            range(100),
            judge,  # type: ignore[arg-type]
            run,
            concurrency=2,
            stop=stop,
            also=lambda: {"retries": {"rate_limit": 3}},
        )

    summary = asyncio.run(stopped())
    assert summary["interrupted"] is True
    assert summary["retries"] == {"rate_limit": 3}
    kept = (run.path / "verdicts.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == [f"v{n}" for n in range(len(kept))]
    assert len(kept) == summary["n"] >= 5
    assert not (run.path / "verdicts.jsonl").exists()
    assert not (run.path / "summary.json").exists()


def test_what_is_said_besides_is_in_the_summary_of_a_whole_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {})

    async def judge(n: int) -> Verdict:
        return verdict(f"v{n}")

    summary = asyncio.run(
        write_verdicts(
            range(3), judge, run, concurrency=2, stop=asyncio.Event(), also=lambda: {"retries": {}}
        )
    )
    assert summary["retries"] == {}
    assert "interrupted" not in summary
    assert json.loads((run.path / "summary.json").read_text()) == summary


def test_who_watches_the_file_sees_verdicts_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LONGEST_UNWRITTEN_S", 0.0)
    run = RunFolder(tmp_path / "run", {})
    sizes: list[int] = []

    async def judge(n: int) -> Verdict:
        return verdict(f"v{n}")

    def look(_: int, __: str) -> None:
        sizes.append((run.path / "verdicts.jsonl.partial").stat().st_size)

    asyncio.run(write_verdicts(range(5), judge, run, concurrency=1, progress=look))
    assert sizes[0] > 0
    assert len(set(sizes)) == 5


def test_lines_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_LONGEST_UNWRITTEN_S", 1e9)
    monkeypatch.setattr(runner, "_CHUNK", 2000)
    run = RunFolder(tmp_path / "run", {})
    sizes: list[int] = []

    async def judge(n: int) -> Verdict:
        return verdict(f"v{n}")

    def look(_: int, __: str) -> None:
        sizes.append((run.path / "verdicts.jsonl.partial").stat().st_size)

    asyncio.run(write_verdicts(range(40), judge, run, concurrency=1, progress=look))
    assert 2 < len(set(sizes)) < 30
    assert len((run.path / "verdicts.jsonl").read_text().splitlines()) == 40


def test_a_failed_run_keeps_its_verdicts_and_cancels_the_rest(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {})

    async def judge(n: int) -> Verdict:
        await asyncio.sleep(0)
        if n == 3:
            raise StoreError("full")
        return verdict(f"v{n}")

    with pytest.raises(StoreError, match="full"):
        asyncio.run(write_verdicts(range(9), judge, run, concurrency=2))
    assert len((run.path / "verdicts.jsonl.partial").read_text().splitlines()) == 3
    assert not (run.path / "verdicts.jsonl").exists()


def test_the_note_tells_the_cost_once_there_is_one() -> None:
    tally = Tally()
    assert tally.note() == "coverage 100.0%"
    tally.count(None, [Call("d", "A", Usage(), 0.1, False, cost_usd=0.0125)])
    assert tally.note() == "coverage 100.0%, $0.0125"


def test_what_a_spent_budget_kept_from_being_sent_is_no_call() -> None:
    tally = Tally()
    unsent = Call("d", "", Usage(), 0.0, False)
    answered = Call("d", "A", Usage(3, 0, 1), 0.1, False, cost_usd=0.5)
    tally.count("budget", [answered, unsent])
    assert (tally.calls, tally.calls_unpriced, tally.cost_usd) == (1, 0, 0.5)
    tally.count("provider_error", [unsent])  # that was sent, and nothing came back to pay for
    assert (tally.calls, tally.calls_unpriced) == (2, 0)
    tally.count(None, [Call("d", "A", Usage(), 0.1, False)])
    assert (tally.calls, tally.calls_unpriced) == (3, 1)


async def _loop_name() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_the_fastest_loop_there_is_runs_it_and_the_collector_is_as_before() -> None:
    before = gc.get_threshold()

    async def inside() -> tuple[str, int]:
        return await _loop_name(), gc.get_threshold()[0]

    name, threshold = run_async(inside())
    assert name.startswith("uvloop")
    assert threshold > before[0]
    assert gc.get_threshold() == before


def test_without_uvloop_asyncio_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_async(_loop_name()).startswith("asyncio")


def test_the_collector_is_as_before_after_an_error() -> None:
    before = gc.get_threshold()

    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_async(fail())
    assert gc.get_threshold() == before
