"""Where the files that come with rlaif are, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from rlaif.errors import ConfigError, SpecError, suggestion

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_dir(kind: str) -> Path:
    """Folder of the shipped files of one kind: `rubrics`, `constitutions` or `quickstart`.

    A wheel holds them inside the package; in a checkout rubrics and constitutions stand at the
    top, where people read and edit them.

    Raises:
        ConfigError: the installation lacks them.
    """
    for folder in (_PACKAGE / "shipped" / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise ConfigError(f"this installation of rlaif has no shipped {kind}; install it again")


def shipped_files(kind: str) -> dict[str, Path]:
    """The shipped YAML files of one kind by name, in order of name.

    Raises:
        ConfigError: the installation lacks them.
    """
    return {path.stem: path for path in sorted(shipped_dir(kind).glob("*.yaml"))}


def is_path(path_or_name: str | Path) -> bool:
    """Whether it means a file: a `Path`, a text with a slash, or one ending in .yaml or .yml."""
    if isinstance(path_or_name, Path):
        return True
    return any(c in path_or_name for c in "/\\") or path_or_name.endswith((".yaml", ".yml"))


def find_spec(path_or_name: str | Path, kind: str, *, search: tuple[Path, ...] = ()) -> Path:
    """The file that `path_or_name` means: itself, or NAME.yaml in `search` or among the shipped.

    Raises:
        SpecError: there is no file of that name; the message gives the nearest.
    """
    if is_path(path_or_name):
        return Path(path_or_name)
    known = shipped_files(kind)
    for folder in reversed(search):
        known |= {path.stem: path for path in sorted(folder.glob("*.y*ml"))}
    name = str(path_or_name)
    if name not in known:
        raise SpecError(
            f"there is no {kind[:-1]} called {name!r}; {suggestion(name, known)} "
            f"(a file is named by its path, such as ./{name or 'name'}.yaml)"
        )
    return known[name]
