"""Options that several commands share, declared once as the fields of a dataclass.

@app.command()
@asks(output=Path("runs/compare"))
@takes("how", PairOptions)                        # under @asks, which hands its own on
def compare(data: Data, *, how: PairOptions, asking: Asking) -> None: ...

A field that is added there is thereby an option of every such command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def takes(name: str, kind: type[T]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command the options of `kind`, handed to it as `name`."""
    options_of: Any = kind

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            made = kind(**{f.name: given.pop(f.name) for f in fields(options_of)})
            command(**given, **{name: made})

        signature = _merged(command, name, kind)
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__module__ = command.__module__
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return run

    return decorate


def _merged(command: Callable[..., None], name: str, kind: Any) -> inspect.Signature:
    """The command's own parameters, but for `name`, and an option for each field of `kind`."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(command).parameters.values()
        if p.name != name
    ]
    theirs = get_type_hints(kind, include_extras=True)
    more = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=theirs[f.name]
        )
        for f in fields(kind)
    ]
    return inspect.Signature([*own, *more])
