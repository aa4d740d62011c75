"""The judges of a service: opened once, asked on the budget of whoever asks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rlaif.api.judging import Judge
from rlaif.backends.base import BackendOptions
from rlaif.backends.budgeted import Budget, budgeted
from rlaif.backends.cached import CachedBackend
from rlaif.backends.limited import LimitedBackend
from rlaif.backends.opening import Terms, connect, layers
from rlaif.backends.pace import PaceBook
from rlaif.judge.tournament import Tournament
from rlaif.service.config import JudgeConfig, ServiceConfig, allowed_rubrics, known
from rlaif.specs.rubric import load_rubric

if TYPE_CHECKING:
    from rlaif.backends.base import Backend
    from rlaif.backends.prices import PriceTable
    from rlaif.judge.seating import AnyComparer, AnyGrader
    from rlaif.store.base import Replies

_MOST_KEPT = 256
_IN_PROCESS_WIDTH = 16


class Seat:
    """One judge, and what it is asked through, each made when it is first needed."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    @cached_property
    def pointwise(self) -> AnyGrader:
        """What grades.

        Raises:
            ConfigError: its method grades nothing.
        """
        return self.judge.pointwise()

    @cached_property
    def pairwise(self) -> AnyComparer:
        """What compares."""
        return self.judge.pairwise()

    @cached_property
    def tournament(self) -> Tournament:
        """What ranks."""
        return Tournament(self.pairwise)


class Bench:
    """Every judge that a service has.

    Args:
        config: Which ones.
        store: Where replies are kept.
        prices: What models cost.
        options: The key, the address and the proxy of a judge's model, from the server's own
            environment.

    Raises:
        ConfigError: an address is wrong, or a key or an installed package is missing.
        SpecError: a rubric is missing or malformed.
    """

    def __init__(
        self,
        config: ServiceConfig,
        store: Replies,
        prices: PriceTable,
        options: Callable[[JudgeConfig], BackendOptions],
    ) -> None:
        self.rubrics = allowed_rubrics(config)
        self.configs: dict[str, JudgeConfig] = config.judges
        self._store = store
        self._prices = prices
        self._usual = {
            name: load_rubric(judge.rubric).name for name, judge in config.judges.items()
        }
        self._opened: dict[tuple[Any, ...], CachedBackend] = {}
        self._backends = {
            name: self._open(judge, options(judge)) for name, judge in config.judges.items()
        }
        self._kept: OrderedDict[tuple[str, str, int], Seat] = OrderedDict()

    def _open(self, judge: JudgeConfig, options: BackendOptions) -> CachedBackend:
        """The backend of a judge; judges of one model and one pace share it."""
        paced = (judge.concurrency, judge.requests_per_minute, judge.tokens_per_minute)
        key = (judge.model, options.base_url, options.timeout_s, *paced)
        if key not in self._opened:
            book = PaceBook(
                judge.concurrency,
                requests_per_minute=judge.requests_per_minute,
                tokens_per_minute=judge.tokens_per_minute,
            )
            terms = Terms(self._prices, Budget(), book)
            self._opened[key] = connect(judge.model, options, self._store, terms)
        return self._opened[key]

    def check(self, name: str, rubric: str | None = None) -> str:
        """The rubric by which the judge `name` judges.

        Raises:
            ConfigError: there is no such judge, or the rubric is not allowed.
        """
        known(name, self.configs, "judge")
        chosen = rubric or self._usual[name]
        known(chosen, self.rubrics, "rubric")
        return chosen

    def backend(self, name: str, *budgets: Budget) -> CachedBackend:
        """The backend of the judge `name`, asked within `budgets`.

        Raises:
            ConfigError: a budget has a limit and nobody knows the model's price.
        """
        _, priced, *_ = layers(self._backends[name])
        asked: Backend = priced.inner  # type: ignore[attr-defined]
        for budget in budgets:
            asked = budgeted(asked, self._prices, budget)
        return CachedBackend(asked, self._store)

    def judge(self, name: str, rubric: str | None, *budgets: Budget) -> Judge:
        """The judge `name`, asked within `budgets`.

        Raises:
            ConfigError: as `check` and `backend`.
        """
        chosen = self.check(name, rubric)
        config = self.configs[name]
        return Judge(
            self.backend(name, *budgets),
            self.rubrics[chosen],
            method=config.method,
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            draws=config.draws,
        )

    def seat(self, name: str, rubric: str | None, caller: int, budget: Budget) -> Seat:
        """The judge `name` for the token numbered `caller`, made once.

        Raises:
            ConfigError: as `judge`.
        """
        key = (name, self.check(name, rubric), caller)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = Seat(self.judge(name, rubric, budget))
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def width(self, name: str) -> int:
        """How many items to work on now: enough to keep every place of the endpoint taken."""
        found = [x.pace for x in layers(self._backends[name]) if isinstance(x, LimitedBackend)]
        return max([2 * pace.allowed for pace in found], default=_IN_PROCESS_WIDTH)

    async def aclose(self) -> None:
        """Give connections and memory back."""
        for backend in self._opened.values():
            await backend.aclose()
