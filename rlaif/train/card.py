"""The README of a tuned model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlaif.train.data import provenance


def model_card(
    name: str,
    base: Path,
    rows: Any,
    facts: Mapping[str, str],
    settings: Any,
    summary: Mapping[str, Any],
) -> str:
    """The README of a tuned model: base, data, judge, rubric, settings, and what came of it."""
    chosen = {k: v for k, v in asdict(settings).items() if v not in (None, (), {})}
    told = {
        "base model": base.name,
        **provenance(rows),
        **facts,
        **chosen,
        **summary,
    }
    lines = "\n".join(
        f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in told.items()
    )
    return f"""---
tags: [{name}, trl, rlaif]
---
# A model tuned by {name.upper() if name != "reward" else "reward modeling"}

| | |
|---|---|
{lines}

Tuned on preferences that a model judged. Check it on prompts and with a judge that took no part
in the training before you rely on it.
"""


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
