"""A cap on money: calls are priced, and a call that could pass the budget is not sent.

    budget = Budget(1.00)                                     # shared by all backends of a command
    backend = BudgetedBackend(RetryingBackend(…), prices, budget)

Before a call the most it can cost is reserved; after it, what it did cost is spent and the rest is
free again. So spending cannot pass the limit, however many calls are in flight.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from rlaif.backends.base import Backend, GroupBackend, Wrapper
from rlaif.backends.prices import Price, PriceTable
from rlaif.backends.tokens import most_input_tokens, most_output_tokens
from rlaif.errors import BackendError, BudgetError, ConfigError, Failure
from rlaif.types import Completion, Request

_PARTS = 10**12
"""Money is counted in whole millionths of a millionth of a dollar: a thousand calls at $0.001 are
$1 exactly, which a sum of floats is not."""
_MOST_USD = 1e12

_UNBILLED: frozenset[Failure] = frozenset({"rate_limit", "overload", "access", "request"})
"""Failures by which the provider said that it did not answer; any other call may be on the bill."""


class Budget:
    """US dollars that may be spent, by everything that shares this budget.

    A call that could pass the limit waits while calls in flight may leave it enough. Once one is
    refused because of what was spent, all later ones are: otherwise the last of the money would go
    to the shortest prompts, and what was judged would be no fair part of the whole. A call that
    the whole budget could not pay is refused alone.

    Args:
        limit_usd: The most to spend; None for no limit, and then it only counts.

    Raises:
        ConfigError: the limit is negative, no number or absurd.
    """

    def __init__(self, limit_usd: float | None = None) -> None:
        if limit_usd is not None and not 0 <= limit_usd <= _MOST_USD:
            message = f"a budget is an amount of US dollars up to {_MOST_USD:.0e}, not {limit_usd}"
            raise ConfigError(message)
        self.limit_usd = limit_usd
        self.refused = 0
        """Calls that were not sent because the budget was spent."""
        self._limit = None if limit_usd is None else int(limit_usd * _PARTS + 0.5)
        self._spent = 0
        self._presumed = 0
        self._reserved = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._over = False

    @property
    def spent_usd(self) -> float:
        """US dollars spent, those of calls that got no answer but may be billed among them."""
        return self._spent / _PARTS

    @property
    def presumed_usd(self) -> float:
        """The part of `spent_usd` that was reserved for calls which got no answer."""
        return self._presumed / _PARTS

    @property
    def reserved_usd(self) -> float:
        """US dollars held back for the calls in flight."""
        return self._reserved / _PARTS

    async def reserve(self, most_usd: float) -> int:
        """Hold back the most that a call can cost, once there is so much; what to settle with.

        Raises:
            BudgetError: there is not, and there will not be.
        """
        most = math.ceil(most_usd * _PARTS - 1e-3)
        if not most:
            return 0
        if not self._waiting:
            if self._fits(most):
                self._reserved += most
                return most
            self._check(most)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((most, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.settle(most, 0.0)  # it was granted in the same moment
            raise
        return most

    def settle(self, reserved: int, cost_usd: float) -> None:
        """Spend `cost_usd` of what was reserved; the rest is free again."""
        self._reserved -= reserved
        self._spent += round(cost_usd * _PARTS)
        if self._waiting:
            self._let_in()

    def presume(self, reserved: int) -> None:
        """Count all that was reserved as spent: nobody knows whether the call will be billed."""
        self._reserved -= reserved
        self._spent += reserved
        self._presumed += reserved
        if self._waiting:
            self._let_in()

    def _fits(self, most: int) -> bool:
        limit = self._limit
        return limit is None or (not self._over and self._spent + self._reserved + most <= limit)

    def _check(self, most: int) -> None:
        """Raise `BudgetError` if a call can never be sent, whatever those in flight will cost."""
        limit = self._limit or 0
        if most > limit:
            self.refused += 1
            raise BudgetError(
                f"one call can cost ${most / _PARTS:.6g}, more than the whole budget of "
                f"${self.limit_usd:.6g}: raise the budget, or lower the most tokens of a reply"
            )
        if self._over or self._spent + most > limit:
            self._over = True
            self.refused += 1
            raise BudgetError(
                f"the budget of ${self.limit_usd:.6g} is spent: ${self.spent_usd:.6g} so far, and "
                f"the next call can cost ${most / _PARTS:.6g}"
            )

    def _let_in(self) -> None:
        """Grant or refuse those who wait, in order, as far as that is decided now."""
        while self._waiting:
            most, turn = self._waiting[0]
            if turn.done():  # cancelled
                self._waiting.popleft()
                continue
            if self._fits(most):
                self._reserved += most
                turn.set_result(None)
            else:
                try:
                    self._check(most)
                except BudgetError as error:
                    turn.set_exception(error)
                else:
                    return
            self._waiting.popleft()


class BudgetedBackend(Wrapper):
    """Says of each completion what it cost, and keeps within a budget.

    A call that failed is free where the provider said that it did not answer (a rate limit, an
    overload, a refused key or request). Any other, and one that is cancelled in flight, may still
    be on the bill: what was reserved for it counts as spent. A call that succeeded after tries that
    timed out counts once, since this wrapper sees only how it ended.

    Args:
        inner: The backend to ask.
        prices: What models cost.
        budget: Where the costs are counted. Backends of one command share it.
        batch: Whether `inner` is a batch API, which is cheaper.

    Raises:
        ConfigError: the budget has a limit, and the price of the model is not known.
    """

    def __init__(
        self, inner: Backend, prices: PriceTable, budget: Budget, *, batch: bool = False
    ) -> None:
        super().__init__(inner)
        self.budget = budget
        self.batch = batch
        self.price: Price | None = prices.price(inner.model)
        self._address = inner.model
        if self.price is None and budget.limit_usd is not None:
            raise ConfigError(
                f"the price of {inner.model} is not known, so no budget can be kept: "
                "give it in a file with --prices FILE"
            )

    async def complete(self, request: Request) -> Completion:
        """The completion of `inner`, with its cost.

        Raises:
            BudgetError: it could pass the budget, and was not sent.
            BackendError: `inner` failed.
        """
        price = self.price
        if price is None:
            return await self.inner.complete(request)
        held = await self.budget.reserve(self._most_usd(price, request))
        try:
            completion = await self.inner.complete(request)
        except BackendError as error:
            self._release(held, error)
            raise
        except BaseException:
            self.budget.presume(held)
            raise
        return self._paid(price, held, completion)

    def _most_usd(self, price: Price, request: Request) -> float:
        tokens_out = most_output_tokens(self._address, request)
        return price.most_usd(most_input_tokens(request), tokens_out, batch=self.batch)

    def _release(self, held: int, error: BackendError) -> None:
        if error.kind in _UNBILLED:
            self.budget.settle(held, 0.0)
        else:
            self.budget.presume(held)

    def _paid(self, price: Price, held: int, completion: Completion) -> Completion:
        cost = price.cost_usd(completion.usage, batch=self.batch)
        self.budget.settle(held, cost)
        return replace(completion, cost_usd=cost)


class _BudgetedGroup(BudgetedBackend):
    """The same around a backend that answers groups."""

    inner: Backend

    @property
    def group_size(self) -> int:
        assert isinstance(self.inner, GroupBackend)
        return self.inner.group_size

    async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions of `inner`, with their costs; the whole group is reserved at once."""
        assert isinstance(self.inner, GroupBackend)
        price = self.price
        if price is None:
            return await self.inner.complete_group(requests)
        held = await self.budget.reserve(sum(self._most_usd(price, r) for r in requests))
        try:
            completions = await self.inner.complete_group(requests)
        except BackendError as error:
            self._release(held, error)
            raise
        except BaseException:
            self.budget.presume(held)
            raise
        costs = [price.cost_usd(c.usage, batch=self.batch) for c in completions]
        self.budget.settle(held, sum(costs))
        return [replace(c, cost_usd=cost) for c, cost in zip(completions, costs, strict=True)]


def budgeted(
    inner: Backend, prices: PriceTable, budget: Budget, *, batch: bool = False
) -> BudgetedBackend:
    """`inner` in a `BudgetedBackend`; one that answers groups where `inner` does.

    Raises:
        ConfigError: the budget has a limit, and the price of the model is not known.
    """
    kind = _BudgetedGroup if isinstance(inner, GroupBackend) else BudgetedBackend
    return kind(inner, prices, budget, batch=batch)
