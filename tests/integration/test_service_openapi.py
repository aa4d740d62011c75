"""What the service's OpenAPI document says, held against the service by schemathesis."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaif.service.config import JudgeConfig, Limits, ServiceConfig
from tests.integration import openapi_hooks
from tests.unit.service.conftest import Running, listening

pytest.importorskip("schemathesis")

MANY = 10_000_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str, str]]:
    """A service that needs a token, with one of everything; a comparison that is done."""
    folder = tmp_path_factory.mktemp("openapi")
    script = folder / "script.jsonl"
    script.write_text('{"match": "", "reply": "Mostly right. [[4]] [[A]]"}\n')
    config = ServiceConfig(
        judges={"default": JudgeConfig(model=f"scripted/{script}")},
        limits=Limits(queued_runs=MANY, queued_runs_a_token=MANY),
        rubrics=["helpfulness", "correctness"],
    )
    with listening(config, folder / "root", token=True) as running:
        token = running.tokens.add("admin", ["admin"])
        running.client.headers["authorization"] = f"Bearer {token}"
        yield running, token, _a_run(running)


def _a_run(running: Running) -> str:
    row = {"prompt": "Capital of France?", "response_a": "Paris.", "response_b": "Rome."}
    lines = "".join(json.dumps({**row, "id": n}) + "\n" for n in range(8))
    upload = running.client.post("/v1/uploads", content=lines).json()["upload"]
    asked = {"kind": "compare", "data": {"upload": upload}}
    name: str = running.post("/v1/runs", asked).json()["id"]
    end_s = time.monotonic() + 60
    while running.get(f"/v1/runs/{name}").json()["state"] != "done":
        assert time.monotonic() < end_s
        time.sleep(0.05)
    while running.get(f"/v1/runs/{name}/labels").status_code == 409:  # it is being indexed
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return name


def conforms(service: tuple[Running, str, str], folder: Path, *words: str) -> None:
    running, token, run = service
    config = folder / "schemathesis.toml"
    config.write_text(
        f'hooks = "{openapi_hooks.__file__}"\n[parameters]\nrun_id = "{run}"\n', encoding="utf-8"
    )
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    done = subprocess.run(
        [
            *(*command, f"{running.url}/openapi.json", "-H", f"Authorization: Bearer {token}"),
            *("--checks", "all", "--continue-on-failure", "--seed", "20", "--no-color"),
            *("--generation-database", "none"),
            *("--suppress-health-check", "all", "--request-timeout", "30", *words),
        ],
        env={"NO_PROXY": "*", "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_operation_does_as_it_is_described(
    service: tuple[Running, str, str], tmp_path: Path
) -> None:
    conforms(service, tmp_path, "--phases", "fuzzing", "--max-examples", "4")


@pytest.mark.slow
def test_every_operation_does_as_it_is_described_however_it_is_asked(
    service: tuple[Running, str, str], tmp_path: Path
) -> None:
    conforms(service, tmp_path, "--max-examples", "40")
