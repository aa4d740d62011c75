"""`--dry-run`: what a command would ask, and how much of it is kept already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rlaif.backends.cached import CachedBackend
from rlaif.cli.output import emit, table
from rlaif.types import Request

_CHARACTERS_PER_TOKEN = 4.0


def dry_run_report(asked: Iterable[tuple[CachedBackend, Request]], *, as_json: bool) -> None:
    """Print, for each model, how many requests there are, how many are kept, and their tokens.

    Tokens are an estimate, four characters each, and the replies' are the most there can be.
    """
    requests: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    tokens_in: Counter[str] = Counter()
    tokens_out: Counter[str] = Counter()
    seen: set[str] = set()
    for backend, request in asked:
        key = request.digest(backend.identity)
        if key in seen:
            continue
        seen.add(key)
        requests[backend.model] += 1
        if backend.kept(request):
            kept[backend.model] += 1
            continue
        characters = sum(len(m.content) for m in request.messages)
        tokens_in[backend.model] += round(characters / _CHARACTERS_PER_TOKEN)
        if request.task == "reply":
            tokens_out[backend.model] += request.sampling.max_tokens
    rows = [
        {
            "model": model,
            "requests": n,
            "kept": kept[model],
            "to_ask": n - kept[model],
            "input_tokens_estimate": tokens_in[model],
            "output_tokens_at_most": tokens_out[model],
        }
        for model, n in sorted(requests.items())
    ]
    if as_json:
        emit({"dry_run": True, "rows": rows})
        return
    columns = (
        "model",
        "requests",
        "in the store",
        "to ask",
        "input tokens (about)",
        "output tokens (at most)",
    )
    table("would ask", columns, [tuple(row.values()) for row in rows])
