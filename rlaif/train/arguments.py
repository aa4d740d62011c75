"""TRL's configurations: what a run needs, what a method adds, and what the user hands on."""

from __future__ import annotations

from typing import Any

from rlaif.errors import ConfigError, suggestion


def trl_config(kind: Any, arguments: dict[str, Any], settings: Any, **more: Any) -> Any:
    """A configuration of TRL: what all have in common, `more`, and what `trl:` says.

    Raises:
        ConfigError: `trl:` names no field of it, or a value does not fit.
    """
    from dataclasses import fields

    known = {f.name for f in fields(kind)}
    if unknown := sorted(settings.trl.keys() - known):
        hint = suggestion(unknown[0], known)
        raise ConfigError(f"trl: {kind.__name__} has no {unknown[0]}; {hint}")
    try:
        return kind(**{**arguments, **more, **settings.trl})
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error
