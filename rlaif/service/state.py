"""What one server process holds, and gives every request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rlaif.service.accounts import Caller, TokenBook, TokenBudget
from rlaif.service.judges import Bench
from rlaif.service.metrics import Metrics
from rlaif.store.postgres import Address
from rlaif.store.postgres_replies import PostgresReplies
from rlaif.store.replies import ReplyStore

if TYPE_CHECKING:
    from starlette.requests import Request

    from rlaif.backends.base import BackendOptions
    from rlaif.backends.prices import PriceTable
    from rlaif.service.config import JudgeConfig, ServiceConfig
    from rlaif.service.database import Tables
    from rlaif.types import Verdict


@dataclass
class Service:
    """One service: its configuration, judges, tokens and counts."""

    config: ServiceConfig
    root: Path
    """The folder of its uploads and its runs, and of its database where that is a file."""
    database: Tables
    store: ReplyStore | PostgresReplies
    bench: Bench
    tokens: TokenBook
    metrics: Metrics = field(default_factory=Metrics)
    _budgets: dict[int, TokenBudget] = field(default_factory=dict)

    def budget(self, caller: Caller) -> TokenBudget:
        """The budget of a caller's token, one for all its requests."""
        found = self._budgets.get(caller.id)
        if found is None:
            found = self._budgets[caller.id] = TokenBudget(self.database, caller)
        return found

    def judged(self, verdicts: Iterable[Verdict]) -> None:
        """Count verdicts that were given."""
        self.metrics.judged(verdicts)

    async def aclose(self) -> None:
        """Give connections, files and memory back."""
        await self.bench.aclose()
        self.store.close()
        self.database.close()


def open_service(
    config: ServiceConfig,
    root: Path,
    database: Tables,
    prices: PriceTable,
    options: Callable[[JudgeConfig], BackendOptions],
    store: Path | Address,
) -> Service:
    """A service with all its judges open.

    Args:
        config: What it offers and allows.
        root: Its folder.
        database: Its tokens and runs.
        prices: What models cost.
        options: The key, the address and the proxy of a judge's model.
        store: The file of the replies, or the database.

    Raises:
        ConfigError: a judge's address is wrong, or a key or an installed package is missing.
        SpecError: a rubric is missing or malformed.
        StoreError: the store or the folder cannot be used.
    """
    replies = ReplyStore(store) if isinstance(store, Path) else PostgresReplies(store)
    try:
        bench = Bench(config, replies, prices, options)
    except BaseException:
        replies.close()
        raise
    return Service(config, root, database, replies, bench, TokenBook(database))


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    return cast("Service", request.app.state.service)
