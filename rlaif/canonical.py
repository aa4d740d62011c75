"""Canonical JSON and digests: one spelling for equal values, whatever made them."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and ASCII escapes: equal values give equal text.

    Raises:
        ValueError: `value` holds NaN or an infinity, which have no JSON spelling.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def json_line(value: Any) -> str:
    """One line of JSONL, readable UTF-8, ending in a newline.

    Text that UTF-8 cannot carry (a lone surrogate in a model's reply) is escaped, not lost.
    """
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return line + "\n"
