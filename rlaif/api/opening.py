"""Backends in working order by their addresses, with what the environment says about them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from rlaif.errors import ConfigError

if TYPE_CHECKING:
    from rlaif.backends.base import Backend
    from rlaif.backends.batched import Batching
    from rlaif.backends.cached import CachedBackend
    from rlaif.backends.opening import Terms
    from rlaif.store.batches import BatchBook
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
    batch: bool
    batch_poll: float
    stragglers: Literal["batch", "live"]


def open_backend(model: str, **options: Unpack[Opening]) -> CachedBackend:
    """The backend of an address: its replies are kept, priced, retried, paced and on a budget.

    Args:
        model: `provider/name`, as on the command line.
        options: `api_key`: the provider's key; by default the one in its environment variable.
            `base_url`: the address of a server. `timeout_s`: longest wait for one call, 120 by
            default. `concurrency`: most calls in flight; found by itself by default.
            `requests_per_minute`, `tokens_per_minute`: most of them in any minute. `budget_usd`:
            most US dollars to spend; what could pass it is not sent. `prices`: a file of prices
            over those that are known. `store`: the file of the replies; by default the one that all
            runs of this user share. `batch`: ask through the provider's batch API, at half the
            price and within 24 hours; `batch_poll`: longest time between looks at a batch, 60
            seconds by default; `stragglers`: whether what a batch left unanswered goes into another
            `batch` or is asked `live`.

    Raises:
        ConfigError: the address is wrong, a key, a URL or an installed package is missing, there
            is a budget and the model's price is not known, or there is no batch API.
        SpecError: the file of prices is malformed.
        StoreError: the store cannot be used.
    """
    return Opener(**options).opened(model)


class Opener:
    """Opens backends that share a store, prices, a budget, a pace for each endpoint and batches.

    Args:
        options: Those of `open_backend`.
    """

    def __init__(self, **options: Unpack[Opening]) -> None:
        self._options = options
        self._providers: set[str] = set()
        self.backends: list[Backend] = []
        """Every backend so far, in the order in which they were asked for."""
        self.used = False
        """Whether anything was opened."""

    def backend(self, model: str | Backend) -> Backend:
        """The backend of an address; one that is open already as it is.

        Raises:
            ConfigError, SpecError, StoreError: as `open_backend`.
        """
        backend = self.opened(model) if isinstance(model, str) else model
        self.backends.append(backend)
        return backend

    def opened(self, model: str) -> CachedBackend:
        """The backend of an address.

        Raises:
            ConfigError: as `open_backend`; one `api_key` is to do for several providers; or there
                are options for batches, and no batches.
            SpecError, StoreError: as `open_backend`.
        """
        from rlaif.backends.opening import connect
        from rlaif.cli.options import backend_options

        options = self._options
        self.used = True
        given = backend_options(model, options.get("base_url"), options.get("timeout_s", 120.0))
        if (key := options.get("api_key")) is not None:
            self._providers.add(model.partition("/")[0])
            if len(self._providers) > 1:
                names = " and ".join(sorted(self._providers))
                raise ConfigError(f"one api_key is not for {names}: set environment variables")
            given = replace(given, api_key=key)
        return connect(model, given, self._store, self._terms)

    @cached_property
    def _path(self) -> Path:
        from rlaif.cli.options import home

        given = self._options.get("store")
        return (Path(given) if given is not None else home() / "replies.sqlite").resolve()

    @cached_property
    def _store(self) -> ReplyStore:
        return _store(self._path)

    @cached_property
    def _terms(self) -> Terms:
        from rlaif.backends.budgeted import Budget
        from rlaif.backends.opening import Terms
        from rlaif.backends.pace import PaceBook
        from rlaif.cli.options import price_table

        options = self._options
        prices = options.get("prices")
        return Terms(
            price_table(Path(prices) if prices is not None else None),
            Budget(options.get("budget_usd")),
            PaceBook(
                options.get("concurrency"),
                requests_per_minute=options.get("requests_per_minute"),
                tokens_per_minute=options.get("tokens_per_minute"),
            ),
            self._batching(),
        )

    def _batching(self) -> Batching | None:
        from rlaif.backends.batched import Batching
        from rlaif.cli.output import say

        options = self._options
        if not options.get("batch", False):
            if stray := [name for name in ("batch_poll", "stragglers") if name in options]:
                raise ConfigError(f"{', '.join(stray)} is for batch=True")
            return None
        return Batching(
            _book(self._path.with_name(self._path.name + "-batches")),
            options.get("stragglers", "batch"),
            poll_s=options.get("batch_poll", 60.0),
            tell=say,
        )


@cache
def _store(path: Path) -> ReplyStore:
    """One store a file for the whole process: its backends then share calls in flight."""
    from rlaif.store.replies import ReplyStore

    return ReplyStore(path)


@cache
def _book(path: Path) -> BatchBook:
    """One book of batches a file for the whole process."""
    from rlaif.store.batches import BatchBook

    return BatchBook(path)
