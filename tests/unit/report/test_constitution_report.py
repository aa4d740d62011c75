"""The page about chains."""

import asyncio
from pathlib import Path

import pytest

from rlaif.constitutional.drift import drift_of
from rlaif.constitutional.making import write_chains
from rlaif.constitutional.records import read_chains
from rlaif.errors import DataError
from rlaif.report.constitution_report import chains_page
from rlaif.report.page import render_page
from rlaif.store.runs import RunFolder
from tests.unit.constitutional.makers import actor, item, reviser

HOSTILE = "<script>alert(1)</script>"


def run(tmp_path: Path, n: int = 30, **more: object) -> Path:
    folder = RunFolder(tmp_path / "run", {"command": "x"})
    items = [item(f"i{k}", f"Q{k} {HOSTILE}", harmful=False) for k in range(n)]
    summary = asyncio.run(
        write_chains(
            items,
            reviser(actor(**more), rounds=2).revise,  # type: ignore[arg-type]
            folder,
            principles=["kind", "brief"],
            concurrency=4,
        )
    )
    summary |= {"drift": drift_of(read_chains(folder.path))}
    folder.write_json("summary.json", summary)
    return folder.path


def test_a_page_tells_what_became_of_the_chains(tmp_path: Path) -> None:
    refused = "I'm sorry, but I can't tell you anything about jars."
    path = run(tmp_path, revision=lambda r: f"{refused} {r.draw}")
    html = render_page(chains_page(path, sample=3))
    for told in ("By principle", "3 of 30", "Round 1, ", "became evasive", "Words of a response"):
        assert told in html, told
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    assert html == render_page(chains_page(path, sample=3))


def test_a_run_without_revisions_says_so(tmp_path: Path) -> None:
    html = render_page(chains_page(run(tmp_path, 3, critique="")))
    assert "Many prompts have no revision" in html
    assert "no revision: empty critique" in html


def test_what_is_no_run_of_chains(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(DataError, match="nothing of chains"):
        chains_page(tmp_path)
    (tmp_path / "summary.json").write_text('{"drift": {}}')
    (tmp_path / "revisions.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no chains"):
        chains_page(tmp_path)
