"""The options of every command that asks a model, declared once, and what they open.

    @app.command()
    @asks(output=Path("runs/score"))                    # other defaults for some of the options
    def score(data: Data, rubric: options.Rubric = "helpfulness", *, asking: Asking) -> None:
        with asking.session() as session:
            backend = session.backend(asking.one_model())

`asks` gives the command every field of `Asking` as an option beside its own parameters. A field
added to `Asking` is thereby an option of every such command.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from rlaif.backends.batched import Batching, Stragglers
from rlaif.backends.budgeted import Budget
from rlaif.backends.limited import LimitedBackend
from rlaif.backends.opening import Terms, layers
from rlaif.backends.pace import Pace, PaceBook
from rlaif.backends.retrying import RetryingBackend
from rlaif.cli import options
from rlaif.cli.output import say
from rlaif.store.batches import BatchBook

if TYPE_CHECKING:
    from rlaif.backends.base import Backend
    from rlaif.backends.cached import CachedBackend
    from rlaif.store.replies import ReplyStore

_PANEL = "Asking"
"""Heading in `--help` of the options that are the same everywhere."""
_BATCH_WIDTH = 10_000
"""Items under way where they go out in batches: 20,000 requests in both orders, and about a
gigabyte, as each pair of long prompts takes 100 kB while it is in flight."""
_IN_PROCESS_WIDTH = 16
"""Items worked on at once where the model is in this process: it waits for nobody."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a command asks its models. Each field is an option of the command line."""

    model: options.Models
    output: options.Output = Path("runs")
    limit: options.Limit = None
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most calls in flight to an endpoint. Found by itself if not given, up to 1,024.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    requests_per_minute: Annotated[
        float | None,
        typer.Option(
            "--requests-per-minute",
            min=0.001,
            help="Most calls a minute to an endpoint.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    tokens_per_minute: Annotated[
        float | None,
        typer.Option(
            "--tokens-per-minute",
            min=1.0,
            help="Most tokens a minute, of prompts and replies.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    budget_usd: Annotated[
        float | None,
        typer.Option(
            "--budget-usd",
            min=0.0,
            help="Most US dollars to spend: a call that could pass it is not sent. Spent, the exit "
            "code is 3, and the same command with a larger budget goes on.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices",
            help="Prices of models, over prices.yaml in RLAIF_HOME and those shipped with rlaif.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            help="The address of a server, such as http://localhost:8000/v1.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, help="Longest wait for one call, in seconds.", rich_help_panel=_PANEL
        ),
    ] = 120.0
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="Ask through the batch APIs of openai/ and anthropic/: half the price, replies "
            "within 24 hours. Interrupted, the same command collects what was sent. With it, "
            "--concurrency is how many items are under way, 10,000 if not given.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    batch_poll: Annotated[
        float,
        typer.Option(
            "--batch-poll",
            min=0.01,
            help="Longest time between looks at a batch, in seconds.",
            rich_help_panel=_PANEL,
        ),
    ] = 60.0
    stragglers: Annotated[
        Stragglers,
        typer.Option(
            help="How requests that a batch left unanswered are asked again: in a further batch, "
            "or live, at the full price.",
            rich_help_panel=_PANEL,
        ),
    ] = "batch"
    max_failures: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share without a verdict above which the exit code is 1.",
            rich_help_panel=_PANEL,
        ),
    ] = 0.05
    dry_run: options.DryRun = False
    as_json: options.AsJson = False

    def one_model(self) -> str:
        """The only address given with `-m`.

        Raises:
            ConfigError: there are more.
        """
        return options.one_model(self.model)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """What the backends of one command share, until the block ends.

        Raises:
            SpecError: a file of prices is missing or malformed.
            StoreError: the reply store cannot be used.
        """
        terms = Terms(
            options.price_table(self.prices),
            Budget(self.budget_usd),
            PaceBook(
                self.concurrency,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
            ),
        )
        with options.open_store() as store, self._batching(store) as batching:
            yield Session(self, store, replace(terms, batching=batching))

    @contextmanager
    def _batching(self, store: ReplyStore) -> Iterator[Batching | None]:
        """How to ask through batch APIs, if that is wanted."""
        if not self.batch:
            yield None
            return
        with BatchBook(store.path.with_name(store.path.name + "-batches")) as book:
            yield Batching(book, self.stragglers, poll_s=self.batch_poll, tell=say)


@dataclass(frozen=True)
class Session:
    """What the backends of one command share: the reply store, a budget, prices and paces."""

    asking: Asking
    store: ReplyStore
    terms: Terms
    backends: list[Backend] = field(default_factory=list)
    """Every backend that was opened."""
    _paces: list[Pace] = field(default_factory=list)

    def backend(self, address: str, base_url: str | None = None) -> CachedBackend:
        """The backend of `address`.

        Args:
            address: `provider/name`.
            base_url: Its server, where that is not the one of `--base-url`.

        Raises:
            ConfigError: the address is wrong, or a key, a URL or an installed package is missing.
        """
        backend = options.open_backend(
            address,
            self.store,
            base_url=base_url or self.asking.base_url,
            timeout_s=self.asking.timeout,
            terms=self.terms,
        )
        self.backends.append(backend)
        self._paces.extend(x.pace for x in layers(backend) if isinstance(x, LimitedBackend))
        return backend

    def width(self) -> int:
        """How many items to work on now: enough to keep every place of the endpoints taken.

        No more than that: what was begun is finished when a run is ended early.
        """
        if self.asking.concurrency is not None:
            return self.asking.concurrency
        if self.asking.batch:
            return _BATCH_WIDTH
        return max([2 * pace.allowed for pace in self._paces], default=_IN_PROCESS_WIDTH)

    def account(self) -> dict[str, Any]:
        """What the summary of a run says beside its verdicts: retries by reason, and the budget."""
        retries: Counter[str] = Counter()
        for backend in self.backends:
            for layer in layers(backend):
                if isinstance(layer, RetryingBackend):
                    retries.update(layer.retries)
        found: dict[str, Any] = {"retries": dict(sorted(retries.items()))}
        budget = self.terms.budget
        if budget.limit_usd is not None:
            found["budget_usd"] = budget.limit_usd
        if budget.presumed_usd:
            found["cost_presumed_usd"] = round(budget.presumed_usd, 9)
        return found


def asks(
    *, without: tuple[str, ...] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command the options of `Asking`, handed to it as `asking`.

    Args:
        without: Fields that are no options of this command, or that it declares itself.
        defaults: Defaults of this command by the name of the field, where they are others.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            told = {name: given.pop(name) for name in shared}
            # a command without -m names its models in a file
            command(asking=Asking(**{"model": [], **told}), **given)

        shared = _parameters(defaults, without)
        signature = _merged(command, shared)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
        # typer asks for type hints: those of the wrapped function must not come into it
        del run.__wrapped__
        return run

    return decorate


def _merged(
    command: Callable[..., None], shared: dict[str, inspect.Parameter]
) -> inspect.Signature:
    """The command's own parameters and the shared ones: arguments, the model, its own, the rest.

    Raises:
        TypeError: the command has a parameter of the same name.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(command).parameters.values()
        if p.name != "asking"
    ]
    if twice := shared.keys() & {p.name for p in own}:
        raise TypeError(f"{command.__name__}: {', '.join(sorted(twice))} is an option of Asking")
    first = [p for p in own if p.default is p.empty]
    rest = [p for p in own if p.default is not p.empty]
    begin = [p for p in shared.values() if p.default is p.empty]
    return inspect.Signature(
        [*first, *begin, *rest, *(p for p in shared.values() if p not in begin)]
    )


def _parameters(defaults: dict[str, Any], without: tuple[str, ...]) -> dict[str, inspect.Parameter]:
    """The options of the fields of `Asking`.

    Raises:
        TypeError: a default, or an exception, is for no field.
    """
    hints = get_type_hints(Asking, include_extras=True)
    found = {}
    for one in fields(Asking):
        default = defaults.get(one.name, one.default)
        found[one.name] = inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is MISSING else default,
            annotation=hints[one.name],
        )
    if unknown := {*defaults, *without} - found.keys():
        raise TypeError(f"Asking has no {', '.join(sorted(unknown))}")
    return {name: option for name, option in found.items() if name not in without}
