"""`--dry-run`: what a command would ask, how much of it is kept already, tokens and price."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlaif.backends.budgeted import BudgetedBackend
from rlaif.backends.cached import CachedBackend
from rlaif.backends.opening import layers
from rlaif.backends.prices import Price, PriceTable
from rlaif.backends.tokens import TokenCounter, most_output_tokens, token_counter
from rlaif.cli import options
from rlaif.cli.output import emit, table
from rlaif.types import Request, Usage

_TOGETHER = 500
"""Requests whose replies are looked for in the store at once."""


def dry_run_report(
    asked: Iterable[tuple[CachedBackend, Request]],
    *,
    as_json: bool,
    prices: PriceTable | None = None,
) -> None:
    """Print, for each model, how many requests there are, how many are kept, tokens and price.

    Nobody is asked anything. The tokens of replies, and the upper end of the price, are the most
    there can be.

    Args:
        asked: Every request and whom it would go to. It is read once, in bounded memory.
        as_json: Whether to print one JSON object.
        prices: What models cost; by default what the command would use without options.
    """
    prices = prices or options.price_table()
    plans: dict[str, _Plan] = {}
    for backend, request in asked:
        plan = plans.get(backend.identity)
        if plan is None:
            plan = plans[backend.identity] = _Plan(backend, prices)
        plan.add(request)
    rows = [plan.row() for plan in sorted(plans.values(), key=lambda plan: plan.backend.model)]
    if as_json:
        emit({"dry_run": True, "rows": rows})
        return
    columns = (
        "model",
        "requests",
        "kept",
        "to ask",
        "tokens in",
        "tokens out, at most",
        "price",
    )
    table("would ask", columns, [_cells(row) for row in rows], note=_note(rows))


class _Plan:
    """What one backend would be asked: 33 bytes a request, equal requests counted once."""

    def __init__(self, backend: CachedBackend, prices: PriceTable) -> None:
        self.backend = backend
        self._price = prices.price(backend.model)
        self._batch = any(isinstance(x, BudgetedBackend) and x.batch for x in layers(backend))
        self._counter = _counter(backend)
        self._waiting: list[Request] = []
        self._keys = array("Q")
        self._kept = array("b")
        self._input = array("Q")
        self._output = array("Q")
        self._least = array("d")
        self._most = array("d")

    def add(self, request: Request) -> None:
        """Count one request."""
        self._waiting.append(request)
        if len(self._waiting) >= _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        found = self.backend.kept_many(self._waiting)
        for request, kept in zip(self._waiting, found, strict=True):
            self._keys.append(int(request.digest(self.backend.identity)[:16], 16))
            self._kept.append(kept)
            tokens = 0 if kept else self._counter.count(request)
            replied = 0 if kept else most_output_tokens(self.backend.model, request)
            self._input.append(tokens)
            self._output.append(replied if request.task == "reply" else 0)
            if self._price is not None and not kept:
                self._least.append(self._cost_usd(self._price, Usage(tokens)))
                self._most.append(self._cost_usd(self._price, Usage(tokens, output=replied)))
            else:
                self._least.append(0.0)
                self._most.append(0.0)
        self._waiting.clear()

    def _cost_usd(self, price: Price, usage: Usage) -> float:
        return price.cost_usd(usage, batch=self._batch)

    def row(self) -> dict[str, Any]:
        """The sums."""
        import numpy as np

        self._flush()
        # of equal requests one is asked: by 64 bits of their digests two of a million differing
        # ones are taken for equal once in forty million times
        _, once = np.unique(np.frombuffer(self._keys, np.uint64), return_index=True)

        def total(numbers: array[Any]) -> Any:
            return np.asarray(numbers)[once].sum().item() if len(once) else 0

        known = self._price is not None
        return {
            "model": self.backend.model,
            "requests": len(once),
            "kept": total(self._kept),
            "to_ask": len(once) - total(self._kept),
            "input_tokens_estimate": total(self._input),
            "output_tokens_at_most": total(self._output),
            "tokens_from": self._counter.source,
            "cost_usd_at_least": round(total(self._least), 6) if known else None,
            "cost_usd_at_most": round(total(self._most), 6) if known else None,
        }


def _counter(backend: CachedBackend) -> TokenCounter:
    provider, _, name = backend.model.partition("/")
    tokenizer = None
    if provider == "local":
        from rlaif.backends.local import resolve_checkpoint

        tokenizer = resolve_checkpoint(name, options.home()) / "tokenizer.json"
    kept = os.environ.get("TIKTOKEN_CACHE_DIR")
    return token_counter(
        backend.model, tokenizer=tokenizer, tiktoken_cache=Path(kept) if kept else None
    )


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    share = f" ({row['kept'] / row['requests']:.0%})" if row["kept"] else ""
    about = "" if row["tokens_from"] == "tokenizer" else "~"
    least, most = row["cost_usd_at_least"], row["cost_usd_at_most"]
    price = "not known" if least is None else f"${least:,.2f} to ${most:,.2f}"
    return (
        row["model"],
        f"{row['requests']:,}",
        f"{row['kept']:,}{share}",
        f"{row['to_ask']:,}",
        f"{about}{row['input_tokens_estimate']:,}",
        f"{row['output_tokens_at_most']:,}",
        "free" if most == 0 and row["to_ask"] else price,
    )


def _note(rows: list[dict[str, Any]]) -> str | None:
    notes = []
    if any(row["tokens_from"] == "estimate" for row in rows):
        notes.append("input tokens are estimated from characters: good to about 15 % for English")
    if any(row["cost_usd_at_least"] is None for row in rows):
        notes.append("give a price that is not known in a file with --prices")
    return "; ".join(notes) or None
