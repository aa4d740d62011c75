"""From an address to a backend in working order: kept, priced, retried and paced.

    terms = Terms(load_prices(), Budget(5.00), PaceBook())
    backend = connect("openai/gpt-5.1", BackendOptions(api_key=key), store, terms)

Whoever asks models goes through here, the command line and Python alike, so that all of them ask
in the same way. Nothing here reads the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rlaif.backends.base import Backend, BackendOptions, Wrapper
from rlaif.backends.batched import Batching, StragglersLive, batched
from rlaif.backends.budgeted import Budget, BudgetedBackend, budgeted
from rlaif.backends.cached import CachedBackend
from rlaif.backends.limited import LimitedBackend
from rlaif.backends.pace import PaceBook
from rlaif.backends.prefixed import one_ahead
from rlaif.backends.prices import PriceTable
from rlaif.backends.registry import open_provider, split_address
from rlaif.backends.retrying import RetryingBackend
from rlaif.store.base import Replies

IN_PROCESS = frozenset({"local", "reward"})
"""Providers whose models run in this process."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What backends that work together share: prices, a budget, and a pace for each endpoint."""

    prices: PriceTable
    budget: Budget
    paces: PaceBook
    batching: Batching | None = None
    """How to ask through batch APIs; `None` to ask live."""


def connect(address: str, options: BackendOptions, store: Replies, terms: Terms) -> CachedBackend:
    """The backend of `address`: from the reply store, else within the budget, retried and paced.

    Args:
        address: `provider/name`. A model in this process is neither paced nor retried.
        options: Its key, its URL and what else the provider needs.
        store: Where replies are kept.
        terms: What it shares with other backends.

    Raises:
        ConfigError: the address is wrong, a key, a URL or an installed package is missing, the
            budget has a limit and nobody knows the model's price, or there is no batch API.
        SpecError: a script is malformed.
    """
    provider = open_provider(address, options)
    name, _ = split_address(address)
    inner = provider
    if name not in IN_PROCESS:
        pace = terms.paces.pace(name, options.base_url, options.api_key)
        inner = RetryingBackend(one_ahead(LimitedBackend(inner, pace), inner))
    live = budgeted(inner, terms.prices, terms.budget)
    if terms.batching is None:
        return CachedBackend(live, store)
    in_batches = batched(provider, inner, terms.batching, kept=store.kept)
    asked = BudgetedBackend(in_batches, terms.prices, terms.budget, batch=True)
    straggling = terms.batching.stragglers == "live"
    return CachedBackend(StragglersLive(asked, live) if straggling else asked, store)


def layers(backend: Backend) -> Iterator[Backend]:
    """`backend` and what it wraps, the provider last."""
    while isinstance(backend, Wrapper):
        yield backend
        backend = backend.inner
    yield backend
