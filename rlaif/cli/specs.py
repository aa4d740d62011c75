"""`rlaif rubrics` and `rlaif constitutions`: what is shipped, what a file holds, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.errors import SpecError

if TYPE_CHECKING:
    from rlaif.specs.lint import Warned

rubrics = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List, show, check and import rubric files."
)
constitutions = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List, show and check constitution files."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Which = Annotated[str, typer.Argument(metavar="NAME|PATH", help="A shipped name, or a file.")]
Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, or shipped names.")]


@rubrics.command("list")
def list_rubrics(as_json: AsJson = False) -> None:
    """The rubrics that come with rlaif."""
    from rlaif.specs.rubric import load_rubric, shipped_rubrics

    loaded = [load_rubric(path) for path in shipped_rubrics().values()]
    rows = [
        {
            "name": rubric.name,
            "version": rubric.version,
            "criteria": [criterion.name for criterion in rubric.criteria],
            "description": rubric.description,
        }
        for rubric in loaded
    ]
    _print_list("rubrics", "criteria", rows, as_json)


@constitutions.command("list")
def list_constitutions(as_json: AsJson = False) -> None:
    """The constitutions that come with rlaif."""
    from rlaif.specs.constitution import load_constitution, shipped_constitutions

    loaded = [load_constitution(path) for path in shipped_constitutions().values()]
    rows = [
        {
            "name": constitution.name,
            "version": constitution.version,
            "principles": [principle.name for principle in constitution.principles],
            "description": constitution.description,
        }
        for constitution in loaded
    ]
    _print_list("constitutions", "principles", rows, as_json)


@rubrics.command("show")
def show_rubric(which: Which, as_json: AsJson = False) -> None:
    """The text of a rubric file, or what was read from it."""
    from rlaif.specs.rubric import load_rubric, rubric_as_dict

    rubric = load_rubric(which)
    _print_spec(rubric.path, rubric_as_dict(rubric), as_json)


@constitutions.command("show")
def show_constitution(which: Which, as_json: AsJson = False) -> None:
    """The text of a constitution file, or what was read from it."""
    from rlaif.specs.constitution import constitution_as_dict, load_constitution

    constitution = load_constitution(which)
    _print_spec(constitution.path, constitution_as_dict(constitution), as_json)


@rubrics.command("lint")
def lint_rubrics(files: Files, as_json: AsJson = False) -> None:
    """What is wrong with rubric files. Exits 2 on an error, 0 on warnings alone."""
    from rlaif.specs.lint import lint_rubric
    from rlaif.specs.rubric import load_rubric

    _lint("rubrics", files, lambda name: lint_rubric(load_rubric(name)), as_json)


@constitutions.command("lint")
def lint_constitutions(files: Files, as_json: AsJson = False) -> None:
    """What is wrong with constitution files. Exits 2 on an error, 0 on warnings alone."""
    from rlaif.specs.constitution import load_constitution
    from rlaif.specs.lint import lint_constitution

    _lint("constitutions", files, lambda name: lint_constitution(load_constitution(name)), as_json)


@constitutions.command("import")
def import_constitutions(
    kind: Annotated[
        Literal["anthropic", "llm-swarm"],
        typer.Argument(metavar="FORMAT", help="anthropic or llm-swarm: whose files they are."),
    ],
    files: Annotated[list[Path], typer.Argument(help="The files that make one constitution.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The constitution file.")],
    name: Annotated[str, typer.Option(help="What it will be called.")] = "imported",
    source: Annotated[str, typer.Option(help="Where it comes from.")] = "",
) -> None:
    """Turn published principles and few-shot examples into a constitution file."""
    from rlaif.errors import ConfigError
    from rlaif.specs.constitution_import import constitution_yaml, import_constitution

    made = import_constitution(kind, files, name=name, source=source)
    try:
        with output.open("x", encoding="utf-8", newline="\n") as file:
            file.write(constitution_yaml(made))
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror or error}") from error
    examples = len(made.critique_examples) + len(made.comparison_examples)
    typer.echo(f"wrote {output}: {len(made.principles)} principles, {examples} examples")


@rubrics.command("import")
def import_rubrics(
    form: Annotated[
        Literal["prometheus", "biggen", "auto-j"],
        typer.Argument(metavar="FORMAT", help="prometheus, biggen or auto-j: whose file it is."),
    ],
    file: Annotated[Path, typer.Argument(help="Rows, or for auto-j also a YAML file or a folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder for the rubric files.")],
    as_json: AsJson = False,
) -> None:
    """Turn others' rubrics into rubric files, each once. Files that are there are not changed."""
    from rlaif.errors import SpecError
    from rlaif.specs.rubric_imports import imported_rubrics, rubric_yaml

    made = [rubric_yaml(plain) for plain in imported_rubrics(form, file)]
    if not made:
        raise SpecError("holds no rubrics", path=file)
    paths = [output / f"{rubric.name}.yaml" for _, rubric in made]
    for path, (text, _) in zip(paths, made, strict=True):
        _write_new(path, text)
    if as_json:
        rows = [
            {"name": rubric.name, "path": str(path), "criteria": [c.name for c in rubric.criteria]}
            for path, (_, rubric) in zip(paths, made, strict=True)
        ]
        _print_json({"rubrics": rows})
    else:
        typer.echo(f"wrote {len(made)} rubrics to {output}; rlaif rubrics lint reads them through")


def _write_new(path: Path, text: str) -> None:
    """Write a file, unless it is there: then it must hold the same."""
    from rlaif.errors import ConfigError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        if path.is_file() and path.read_bytes() == text.encode():
            return
        raise ConfigError(f"{path} is there and holds something else; choose a folder") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def _print_list(kind: str, parts: str, rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        _print_json({kind: rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "version", parts, "description", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["name"], row["version"], str(len(row[parts])), row["description"])
    Console().print(table)


def _print_spec(path: str | None, parsed: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(parsed)
        return
    from pathlib import Path

    typer.echo(Path(str(path)).read_text(encoding="utf-8-sig"), nl=False)


def _print_json(value: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


def _lint(
    kind: str, files: Iterable[str], check: Callable[[str], list[Warned]], as_json: bool
) -> None:
    findings = [finding for name in files for finding in _findings(kind, name, check)]
    failed = any(level == "error" for level, _ in findings)
    if as_json:
        rows = [{"level": level, **_located(error)} for level, error in findings]
        _print_json({"findings": rows, "passed": not failed})
    else:
        for level, error in findings:
            typer.echo(f"{error} [{level}]")
    if failed:
        raise typer.Exit(2)


def _findings(
    kind: str, name: str, check: Callable[[str], list[Warned]]
) -> list[tuple[str, SpecError]]:
    """What is wrong with one file, by level: its first error, or else its warnings."""
    from rlaif.specs.shipped import find_spec
    from rlaif.specs.yamlfile import read_yaml

    try:
        warnings = check(name)
    except SpecError as error:
        return [("error", error)]
    document = read_yaml(find_spec(name, kind))
    return [("warning", document.error(w.message, *w.field)) for w in warnings]


def _located(error: SpecError) -> dict[str, str | int | None]:
    return {
        "path": error.path,
        "line": error.line,
        "field": error.field,
        "message": error.message,
    }
