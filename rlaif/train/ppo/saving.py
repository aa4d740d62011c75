"""The trained policy as a plain checkpoint, with a card that says where it comes from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlaif.errors import StoreError


def save_policy(policy: Any, tokenizer: Any, folder: Path, card: str) -> None:
    """Write the policy to `folder`, whole or not at all; adapters become part of its weights.

    Args:
        policy: What was trained. One with adapters is of no use afterwards.
        tokenizer: Its tokenizer.
        folder: Where to; a checkpoint there is replaced.
        card: The README.

    Raises:
        StoreError: the disk is full.
    """
    scratch = folder.with_name(f".{folder.name}.partial")
    merged = policy.merge_and_unload() if hasattr(policy, "merge_and_unload") else policy
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        merged.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        (scratch / "README.md").write_text(card, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        scratch.replace(folder)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise StoreError(f"{folder}: cannot write the model: {error}") from error


def policy_card(facts: Mapping[str, Any]) -> str:
    """The README of a policy: what it was made from, for which rewards, and what came of it."""
    lines = "\n".join(
        f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in facts.items()
    )
    return f"""---
tags: [ppo, rlaif]
---
# A model tuned by PPO

| | |
|---|---|
{lines}

Tuned for the rewards named above. A policy finds what its rewards overlook: check it on prompts and
with a judge that took no part in the training before you rely on it.
"""


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
