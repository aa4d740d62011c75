"""What the tests of the command line share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.command import write_rows

GOOD, BAD = "A full and careful answer.", "No idea."
JUDGE = [
    {"match": f"response_a>\n{GOOD}", "reply": "The first is careful.\n[[A]]"},
    {"match": f"response_b>\n{GOOD}", "reply": "The second is careful.\n[[B]]"},
    {"match": f":response>\n{GOOD}", "reply": "Careful.\nhelpfulness: [[5]]"},
    {"match": f":response>\n{BAD}", "reply": "Empty.\nhelpfulness: [[1]]"},
    {"match": "", "reply": "Neither.\n[[tie]]"},
]
"""A judge that knows the good answer wherever it stands."""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths of a test lead into its own folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What RLAIF_HOME says."""
    return tmp_path / "home"


@pytest.fixture
def judge() -> str:
    """The address of a scripted judge that prefers GOOD to BAD in either order."""
    return f"scripted/{write_rows(Path('judge.jsonl'), *JUDGE)}"


@pytest.fixture
def pairs() -> Path:
    """Six prompts, GOOD standing first in every other row."""
    made = []
    for n in range(6):
        a, b = (GOOD, BAD) if n % 2 == 0 else (BAD, GOOD)
        row = {"id": f"q{n}", "prompt": f"Question {n}?", "response_a": a, "response_b": b}
        made.append(row | {"model_a": "m-one", "model_b": "m-two", "category": "math"})
    return write_rows(Path("pairs.jsonl"), *made)


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `measured.json` that says bfloat16 or float32 for this machine, measured once."""
    from rlaif.backends.embedded import chosen_dtype

    folder = tmp_path_factory.mktemp("measured")
    chosen_dtype(folder)
    return folder / "measured.json"


@pytest.fixture
def tiny(tiny_model: Path, measured: Path, home: Path) -> str:
    """The address of the tiny random checkpoint."""
    home.mkdir(exist_ok=True)
    shutil.copy(measured, home / "measured.json")
    return f"local/{tiny_model}"
