"""What the service counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rlaif.types import Verdict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The counts of one server process.

    Servers of one database each tell their own, which Prometheus sums; all but `rlaif_runs`, which
    every one tells of them all.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "rlaif_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "rlaif_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._verdicts = Counter(
            "rlaif_verdicts",
            "Verdicts given; outcome is ok or why there is none.",
            ["kind", "outcome"],
            registry=self._registry,
        )
        self._calls = Counter(
            "rlaif_calls",
            "Calls behind verdicts; cached ones came from the store.",
            ["cached"],
            registry=self._registry,
        )
        self._cost = Counter(
            "rlaif_cost_usd", "US dollars paid for calls.", registry=self._registry
        )
        self._runs = Gauge("rlaif_runs", "Runs by state.", ["state"], registry=self._registry)
        # to find a labelled child takes longer than to count
        self._known: dict[tuple[str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._outcomes: dict[tuple[str, str | None], Callable[[], None]] = {}
        self._fresh, self._cached = (self._calls.labels(one).inc for one in ("no", "yes"))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = self._known.get((route, status))
        if known is None:
            count = self._requests.labels(route, str(status)).inc
            known = self._known[route, status] = (count, self._seconds.labels(route).observe)
        known[0]()
        known[1](seconds)

    def judged(self, verdicts: Iterable[Verdict]) -> None:
        """Count verdicts and the calls behind them."""
        for verdict in verdicts:
            count = self._outcomes.get((verdict.kind, verdict.cause))
            if count is None:
                count = self._verdicts.labels(verdict.kind, verdict.cause or "ok").inc
                self._outcomes[verdict.kind, verdict.cause] = count
            count()
            for call in verdict.calls:
                if call.cached:
                    self._cached()
                    continue
                self._fresh()
                if call.cost_usd:
                    self._cost.inc(call.cost_usd)

    def text(self, runs: Mapping[str, int]) -> bytes:
        """All of it, in Prometheus's format.

        Args:
            runs: How many runs are in each state now; nothing where that is not known.
        """
        self._runs.clear()
        for state, count in runs.items():
            self._runs.labels(state).set(count)
        return generate_latest(self._registry)
