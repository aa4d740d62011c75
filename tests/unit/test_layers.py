"""Imports point one way, importing is light, and what is public is what is exported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlaif

PACKAGE = Path(rlaif.__file__).parent

LAYERS: list[set[str]] = [
    {"errors", "canonical", "types", "background"},
    {"specs", "stats", "shipped"},
    {"backends", "store"},
    {"judge"},
    {"runner", "candidates"},
    {"rewards"},
    {"preferences", "constitutional", "evals"},
    {"train"},
    {"report"},
    {"cli", "api", "service"},
]
"""Each group sees itself and the groups before it."""

INDEPENDENT = [{"specs", "stats"}, {"train", "judge"}, {"report", "judge"}, {"report", "train"}]
"""Groups that do not see each other at all, though one comes before the other."""

RANK = {name: rank for rank, group in enumerate(LAYERS) for name in group}


def _group(module: str) -> str:
    parts = module.split(".")
    if parts[:3] == ["rlaif", "backends", "base"]:
        return "backends.base"
    return parts[1] if len(parts) > 1 else ""


def _imports() -> Iterator[tuple[Path, str, str]]:
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        group = inside.parts[0].removesuffix(".py")
        if group.startswith("__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield path, group, node.module
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield path, group, alias.name


def test_imports_point_one_way() -> None:
    wrong = []
    for path, group, module in _imports():
        if not module.startswith("rlaif"):
            continue
        target = _group(module)
        rank = 1 if target == "backends.base" else RANK.get(target, 0)
        if rank > RANK[group]:
            wrong.append(f"{path}: {group} imports {module}")
        if any({group, target} == pair for pair in INDEPENDENT):
            wrong.append(f"{path}: {group} imports {module}")
    assert wrong == []


def test_every_module_has_its_layer() -> None:
    names = {p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.suffix in {"", ".py"}}
    assert {n for n in names if not n.startswith("__")} == set(RANK)


def test_only_the_command_line_reads_the_environment() -> None:
    readers = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if "os.environ" in (text := path.read_text(encoding="utf-8")) or "getenv" in text
    }
    assert readers <= {"cli"}


@pytest.mark.parametrize("module", ["rlaif", "rlaif.cli.main", "rlaif.types"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = {"torch", "transformers", "trl", "datasets", "openai", "anthropic", "aiohttp", "scipy"}
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


_LONE_JUDGE = """
import sys
from rlaif import Judge, ScriptedBackend
rows = [{"prompt": "p", "response_a": "a", "response_b": "b"}]
assert Judge(ScriptedBackend(["[[A]]", "[[B]]"])).compare(rows, progress=False).coverage == 1
print(*sys.modules)
"""
_HELP = """
import sys
from rlaif.cli.main import main
try:
    main()
except SystemExit as done:
    assert not done.code
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("code", "words"), [(_LONE_JUDGE, []), (_HELP, ["--help"]), (_HELP, ["judge", "--help"])]
)
def test_numpy_is_for_those_who_count(code: str, words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", code, *words]
    asked = os.environ | {"RLAIF_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=asked)
    assert "numpy" not in done.stdout.splitlines()[-1].split()


def test_what_is_public_is_what_is_exported() -> None:
    assert sorted(rlaif.__all__) == rlaif.__all__ or set(rlaif.__all__) == set(dir(rlaif))
    assert set(rlaif._HOME) | {"__version__"} == set(rlaif.__all__)
    for name in rlaif.__all__:
        assert getattr(rlaif, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rlaif.nonsense


def test_every_error_has_its_exit_code() -> None:
    from rlaif import errors
    from rlaif.cli.main import EXIT_CODES, exit_code

    tree = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.RlaifError)
    ]
    assert {kind for kind in tree if kind is not errors.RlaifError} <= set(EXIT_CODES)
    assert exit_code(errors.SpecError("x")) == 2
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(RuntimeError()) == 1
