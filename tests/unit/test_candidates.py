from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.candidates import Drawn, draw_candidates, pair_up, write_candidates
from rlaif.errors import BackendError, ConfigError
from rlaif.store.runs import RunFolder, read_candidates
from rlaif.types import Completion, Request, Sampling
from tests.builders import candidate, item

ITEMS = [item(f"i{n}", f"prompt {n}") for n in range(5)]


def _draw(*backends: ScriptedBackend, n: int = 2) -> list[Drawn]:
    async def collect() -> list[Drawn]:
        made = draw_candidates(ITEMS, backends, n=n, sampling=Sampling(0.9), concurrency=4)
        return [drawn async for drawn in made]

    return asyncio.run(collect())


def _echo(model: str) -> ScriptedBackend:
    return ScriptedBackend(lambda r: f"{model} {r.messages[-1].content} #{r.draw}", model=model)


def test_every_prompt_every_model_every_draw_in_order() -> None:
    drawn = _draw(_echo("m/one"), _echo("m/two"))
    assert [d.item.id for d in drawn] == [i.id for i in ITEMS]
    assert [c.id for c in drawn[0].candidates] == ["m/one#0", "m/one#1", "m/two#0", "m/two#1"]
    assert drawn[3].candidates[3].text == "m/two prompt 3 #1"


def test_failures_and_refusals_are_kept_as_such() -> None:
    def script(request: Request) -> object:
        if request.draw == 0:
            return BackendError("down")
        return Completion("no", finish_reason="refusal")

    drawn = _draw(ScriptedBackend(script), n=3)  # type: ignore[arg-type]
    assert drawn[0].candidates == ()
    assert [d.cause for d in drawn[0].draws] == ["provider_error", "refused", "refused"]


def test_a_fatal_failure_is_raised() -> None:
    with pytest.raises(BackendError, match="key"):
        _draw(ScriptedBackend(lambda _: BackendError("key", fatal=True)))


class _Group(ScriptedBackend):
    group_size = 4

    def __init__(self, *, spoiled: str | None = None, fatal: bool = False) -> None:
        super().__init__(self._one, model="m/group")
        self.sizes: list[int] = []
        self._spoiled = spoiled
        self._fatal = fatal

    def _one(self, request: Request) -> str | BackendError:
        if self._spoiled == request.messages[-1].content:
            return BackendError("too long")
        return "alone"

    async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
        self.sizes.append(len(requests))
        if any(self._spoiled == r.messages[-1].content for r in requests):
            raise BackendError("too long", fatal=self._fatal)
        return [Completion(f"group #{r.draw}") for r in requests]


def test_a_batching_model_is_asked_in_groups_of_whole_prompts() -> None:
    backend = _Group()
    drawn = _draw(backend)
    assert backend.sizes == [4, 4, 2]
    assert [c.text for c in drawn[4].candidates] == ["group #0", "group #1"]


def test_one_request_that_spoils_a_group_spoils_only_itself() -> None:
    drawn = _draw(_Group(spoiled="prompt 1"))
    assert [len(d.candidates) for d in drawn] == [2, 0, 2, 2, 2]
    assert drawn[0].candidates[0].text == "alone"


def test_a_group_that_fails_fatally_stops() -> None:
    with pytest.raises(BackendError, match="too long"):
        _draw(_Group(spoiled="prompt 1", fatal=True))


def test_a_run_folder_gives_back_what_was_written(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {})
    replies = {0: "good", 1: Completion("cut", finish_reason="length")}
    backend = ScriptedBackend(lambda r: replies[r.draw], model="m/x")
    summary = asyncio.run(
        write_candidates(ITEMS, [backend], run, n=2, sampling=Sampling(), concurrency=4)
    )
    assert (summary["n"], summary["coverage"], summary["truncated"]) == (10, 1.0, 5)
    found = list(read_candidates(run.path))
    assert [i for i, _ in found] == ITEMS
    assert [c.text for c in found[0][1]] == ["good", "cut"]
    row = json.loads((run.path / "candidates.jsonl").read_text().splitlines()[0])
    assert [d["finish_reason"] for d in row["draws"]] == ["stop", "length"]
    assert row["draws"][1]["candidate"] == "m/x#1"


def test_a_stop_keeps_what_was_drawn_and_never_as_the_whole(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {})

    async def stopped() -> dict[str, object]:
        stop = asyncio.Event()

        def script(request: Request) -> str:
            if request.messages[-1].content == "prompt 1":
                stop.set()
            return "good"

        return await write_candidates(
            ITEMS,
            [ScriptedBackend(script, model="m/x")],
            run,
            n=2,
            sampling=Sampling(),
            concurrency=2,
            stop=stop,
            also=lambda: {"retries": {}},
        )

    summary = asyncio.run(stopped())
    assert (summary["interrupted"], summary["retries"]) == (True, {})
    kept = (run.path / "candidates.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == [i.id for i in ITEMS][: len(kept)]
    assert 2 <= len(kept) < len(ITEMS)
    assert not (run.path / "candidates.jsonl").exists()


FOUR = [candidate(name, name) for name in "abcd"]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("all", ["ab", "ac", "ad", "bc", "bd", "cd"]),
        ("adjacent", ["ab", "bc", "cd"]),
    ],
)
def test_pairs(pairs: str, expected: list[str]) -> None:
    assert [c.a.id + c.b.id for c in pair_up(item(), FOUR, pairs)] == expected


def test_a_number_of_pairs_is_drawn_by_seed_and_item() -> None:
    def drawn(seed: int, name: str = "i1") -> list[str]:
        return [c.a.id + c.b.id for c in pair_up(item(name), FOUR, "3", seed=seed)]

    assert drawn(0) == drawn(0)
    assert len(set(drawn(0))) == 3
    assert len({tuple(drawn(s)) for s in range(10)}) > 3
    assert len(pair_up(item(), FOUR, "99")) == 6


@pytest.mark.parametrize("pairs", ["some", "0", "-1", "1.5"])
def test_other_pairs_are_refused(pairs: str) -> None:
    with pytest.raises(ConfigError, match="pairs is"):
        pair_up(item(), FOUR, pairs)
