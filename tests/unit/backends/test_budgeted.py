"""The budget: what is reserved, what is spent, who waits and who is refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaif.backends.base import GroupBackend, Wrapper
from rlaif.backends.budgeted import Budget, BudgetedBackend, budgeted
from rlaif.backends.prices import Price, PriceFile, PriceTable
from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError, BudgetError, ConfigError, Failure
from rlaif.types import Completion, Message, Request, Sampling, Usage

REQUEST = Request((Message("user", "hi"),), sampling=Sampling(max_tokens=10))
A_MILL = Price(per_call_usd=0.001)


def table(price: Price, model: str = "*/*") -> PriceTable:
    return PriceTable([PriceFile({model: price})])


class Provider:
    """Answers as told, and remembers how many calls were in flight."""

    model = identity = "server/judge"

    def __init__(self, answer: Callable[[], Coroutine[Any, Any, Completion]]) -> None:
        self._answer = answer
        self.calls = 0

    async def complete(self, _: Request) -> Completion:
        self.calls += 1
        return await self._answer()

    async def aclose(self) -> None: ...


async def brief() -> Completion:
    await asyncio.sleep(0)
    return Completion("x", usage=Usage(100, 50, 5))


def test_a_completion_says_what_it_cost() -> None:
    price = Price(input=1.0, cached_input=0.5, output=10.0, batch_discount=0.5)
    for batch, cost in ((False, 125e-6), (True, 62.5e-6)):
        budget = Budget()
        backend = BudgetedBackend(Provider(brief), table(price), budget, batch=batch)
        assert asyncio.run(backend.complete(REQUEST)).cost_usd == pytest.approx(cost)
        assert budget.spent_usd == pytest.approx(cost)
        assert budget.reserved_usd == 0


def test_without_a_price_the_cost_is_not_known() -> None:
    budget = Budget()
    backend = BudgetedBackend(Provider(brief), PriceTable([]), budget)
    assert asyncio.run(backend.complete(REQUEST)).cost_usd is None
    assert budget.spent_usd == 0


def test_a_limit_needs_a_price() -> None:
    with pytest.raises(ConfigError, match=r"price of server/judge is not known.*--prices FILE"):
        BudgetedBackend(Provider(brief), PriceTable([]), Budget(1.0))


@pytest.mark.parametrize("limit", [-0.01, float("nan"), float("inf"), 1e308])
def test_a_budget_is_an_amount(limit: float) -> None:
    with pytest.raises(ConfigError, match="a budget is an amount of US dollars"):
        Budget(limit)


def run_many(backend: BudgetedBackend, calls: int) -> list[Completion | BaseException]:
    async def ask() -> list[Completion | BaseException]:
        return await asyncio.gather(
            *(backend.complete(REQUEST) for _ in range(calls)), return_exceptions=True
        )

    return asyncio.run(ask())


def test_a_dollar_is_a_thousand_calls_at_a_mill_to_the_last() -> None:
    budget = Budget(1.00)
    provider = Provider(brief)
    outcomes = run_many(BudgetedBackend(provider, table(A_MILL), budget), 1256)
    assert provider.calls == 1000
    assert budget.spent_usd == 1.0
    assert sum(isinstance(o, Completion) for o in outcomes) == 1000
    refused = [o for o in outcomes if isinstance(o, BudgetError)]
    assert len(refused) == budget.refused == 256
    assert str(refused[0]) == (
        "the budget of $1 is spent: $1 so far, and the next call can cost $0.001"
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    limit=st.floats(0, 0.02),
    calls=st.integers(1, 120),
    failing=st.floats(0, 0.5),
)
def test_spending_never_passes_the_limit_and_everybody_is_answered(
    seed: int, limit: float, calls: int, failing: float
) -> None:
    chance = random.Random(seed)
    budget = Budget(limit)
    price = Price(input=1.0, output=100.0)
    held: list[float] = []

    async def answer() -> Completion:
        held.append(budget.spent_usd + budget.reserved_usd)
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if chance.random() < failing:
            raise BackendError("x", kind=chance.choice(["rate_limit", "timeout", "server"]))
        return Completion("x", usage=Usage(chance.randrange(1, 60), 0, chance.randrange(1, 11)))

    outcomes = run_many(BudgetedBackend(Provider(answer), table(price), budget), calls)
    assert budget.spent_usd <= limit + 1e-12
    assert max(held, default=0) <= limit + 1e-12
    assert budget.reserved_usd == 0
    paid = sum(o.cost_usd or 0 for o in outcomes if isinstance(o, Completion))
    assert budget.spent_usd == pytest.approx(paid + budget.presumed_usd)
    assert all(isinstance(o, Completion | BackendError) for o in outcomes)


def test_callers_wait_while_calls_in_flight_may_leave_enough() -> None:
    """Each call can cost a cent and costs a tenth of one: two fit at a time, nineteen in all."""
    budget = Budget(0.0281)

    async def ask() -> list[Completion | BaseException]:
        async def one() -> Completion:
            held = await budget.reserve(0.01)
            await asyncio.sleep(0)
            budget.settle(held, 0.001)
            return Completion("x")

        return await asyncio.gather(*(one() for _ in range(30)), return_exceptions=True)

    outcomes = asyncio.run(ask())
    assert [type(o) for o in outcomes] == [Completion] * 19 + [BudgetError] * 11
    assert budget.spent_usd == pytest.approx(0.019)


def test_once_the_money_is_spent_shorter_prompts_get_none_of_the_rest() -> None:
    async def work() -> None:
        budget = Budget(1.0)
        budget.settle(await budget.reserve(0.9), 0.9)
        with pytest.raises(BudgetError, match="is spent"):
            await budget.reserve(0.2)
        with pytest.raises(BudgetError, match="is spent"):
            await budget.reserve(0.05)
        assert await budget.reserve(0.0) == 0  # what costs nothing is never refused

    asyncio.run(work())


def test_a_call_that_no_budget_could_pay_stops_no_other() -> None:
    async def work() -> None:
        budget = Budget(1.0)
        with pytest.raises(BudgetError, match=r"one call can cost \$2, more than the whole budget"):
            await budget.reserve(2.0)
        assert await budget.reserve(1.0)

    asyncio.run(work())


def test_who_waits_is_served_in_order() -> None:
    async def work() -> list[str]:
        budget = Budget(1.0)
        first = await budget.reserve(0.9)
        served: list[str] = []

        async def one(name: str, most: float) -> None:
            budget.settle(await budget.reserve(most), 0.0)
            served.append(name)

        tasks = [asyncio.create_task(one(*w)) for w in (("large", 0.8), ("small", 0.05))]
        await asyncio.sleep(0)
        assert served == []  # the small one would fit
        budget.settle(first, 0.1)
        await asyncio.gather(*tasks)
        return served

    assert asyncio.run(work()) == ["large", "small"]


def test_who_stops_waiting_holds_nothing_back() -> None:
    async def work() -> Budget:
        budget = Budget(1.0)
        first = await budget.reserve(1.0)
        waiting = [asyncio.create_task(budget.reserve(0.5)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        budget.settle(first, 0.0)  # grants the other two
        waiting[1].cancel()  # in the moment in which it was granted
        await asyncio.gather(*waiting, return_exceptions=True)
        assert budget.reserved_usd == 0.5
        return budget

    asyncio.run(work())


@pytest.mark.parametrize(
    ("kind", "billed"),
    [
        ("rate_limit", False),
        ("overload", False),
        ("access", False),
        ("request", False),
        ("timeout", True),
        ("connection", True),
        ("server", True),
        ("bad_reply", True),
    ],
)
def test_what_may_be_on_the_bill_is_spent(kind: Failure, billed: bool) -> None:
    async def fail() -> Completion:
        raise BackendError("no", kind=kind)

    budget = Budget(1.0)
    backend = BudgetedBackend(Provider(fail), table(A_MILL), budget)
    with pytest.raises(BackendError, match="no"):
        asyncio.run(backend.complete(REQUEST))
    assert budget.spent_usd == budget.presumed_usd == (0.001 if billed else 0.0)
    assert budget.reserved_usd == 0


def test_a_call_that_is_cancelled_may_be_on_the_bill() -> None:
    async def work() -> Budget:
        budget = Budget(1.0)
        backend = BudgetedBackend(Provider(asyncio.Event().wait), table(A_MILL), budget)  # type: ignore[arg-type]
        task = asyncio.create_task(backend.complete(REQUEST))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return budget

    budget = asyncio.run(work())
    assert (budget.spent_usd, budget.reserved_usd) == (0.001, 0)


def test_the_reservation_is_for_the_longest_reply_to_the_longest_prompt() -> None:
    seen: list[float] = []

    async def look() -> Completion:
        seen.append(budget.reserved_usd)
        return Completion("x")

    budget = Budget(1.0)
    backend = BudgetedBackend(Provider(look), table(Price(input=1.0, output=1000.0)), budget)
    request = Request((Message("user", "é" * 1000),), sampling=Sampling(max_tokens=100))
    asyncio.run(backend.complete(request))
    assert 0.1 + 0.002 <= seen[0] <= 0.1 + 0.0022


class Group(Provider):
    group_size = 8

    async def complete_group(self, requests: list[Request]) -> list[Completion]:
        if self.calls:
            raise BackendError("broken", kind="server")
        self.calls += 1
        return [Completion("x", usage=Usage(10)) for _ in requests]


def test_a_group_is_reserved_and_paid_as_a_whole() -> None:
    budget = Budget(0.01)
    backend = budgeted(Group(brief), table(A_MILL), budget)
    assert isinstance(backend, GroupBackend)
    assert backend.group_size == 8
    done = asyncio.run(backend.complete_group([REQUEST] * 4))
    assert [c.cost_usd for c in done] == [0.001] * 4
    assert budget.spent_usd == 0.004
    with pytest.raises(BackendError, match="broken"):
        asyncio.run(backend.complete_group([REQUEST] * 4))
    assert budget.presumed_usd == 0.004
    with pytest.raises(BudgetError):
        asyncio.run(backend.complete_group([REQUEST] * 4))
    free = budgeted(Group(brief), PriceTable([]), Budget())
    assert isinstance(free, GroupBackend)
    assert asyncio.run(free.complete_group([REQUEST]))[0].cost_usd is None


def test_a_group_that_is_cancelled_may_be_on_the_bill() -> None:
    class Hanging(Group):
        async def complete_group(self, requests: list[Request]) -> list[Completion]:
            raise asyncio.CancelledError

    budget = Budget(1.0)
    backend = budgeted(Hanging(brief), table(A_MILL), budget)
    assert isinstance(backend, GroupBackend)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(backend.complete_group([REQUEST] * 2))
    assert (budget.presumed_usd, budget.reserved_usd) == (0.002, 0)


def test_what_answers_one_by_one_is_no_group() -> None:
    backend = budgeted(ScriptedBackend(["x"]), PriceTable([]), Budget())
    assert isinstance(backend, Wrapper)
    assert not isinstance(backend, GroupBackend)
