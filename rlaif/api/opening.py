"""A backend in working order by its address, with what the environment says about it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.store.replies import ReplyStore


class Opening(TypedDict, total=False):
    """What `open_backend` takes beside the model."""

    api_key: str | None
    base_url: str | None
    timeout_s: float
    concurrency: int | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    budget_usd: float | None
    prices: str | Path | None
    store: str | Path | None


def open_backend(
    model: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout_s: float = 120.0,
    concurrency: int | None = None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    budget_usd: float | None = None,
    prices: str | Path | None = None,
    store: str | Path | None = None,
) -> CachedBackend:
    """The backend of an address: its replies are kept, priced, retried, paced and on a budget.

    Args:
        model: `provider/name`, as on the command line.
        api_key: The provider's key; by default the one in its environment variable.
        base_url: The address of a server.
        timeout_s: Longest wait for one call.
        concurrency: Most calls in flight; found by itself by default.
        requests_per_minute: Most calls in any minute.
        tokens_per_minute: Most tokens in any minute.
        budget_usd: Most US dollars to spend; what could pass it is not sent.
        prices: A file of prices over those that are known.
        store: The file of the replies; by default the one that all runs of this user share.

    Raises:
        ConfigError: the address is wrong, a key, a URL or an installed package is missing, or there
            is a budget and the model's price is not known.
        SpecError: the file of prices is malformed.
        StoreError: the store cannot be used.
    """
    from rlaif.backends.budgeted import Budget
    from rlaif.backends.opening import Terms, connect
    from rlaif.backends.pace import PaceBook
    from rlaif.cli import options

    given = options.backend_options(model, base_url, timeout_s)
    if api_key is not None:
        given = replace(given, api_key=api_key)
    book = PaceBook(
        concurrency, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
    )
    table = options.price_table(Path(prices) if prices is not None else None)
    path = Path(store) if store is not None else options.home() / "replies.sqlite"
    return connect(model, given, _store(path.resolve()), Terms(table, Budget(budget_usd), book))


@cache
def _store(path: Path) -> ReplyStore:
    """One store a file for the whole process: its backends then share calls in flight."""
    from rlaif.store.replies import ReplyStore

    return ReplyStore(path)
