"""Prompts that begin alike are read once: the marks, the order of calls, and a counting cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from rlaif.backends.anthropic import AnthropicBackend
from rlaif.backends.base import Backend, BackendOptions
from rlaif.backends.families import Family, family_of
from rlaif.backends.openai import OpenAIBackend
from rlaif.backends.prefixed import PrefixedBackend, one_ahead
from rlaif.backends.server import ServerBackend
from rlaif.errors import BackendError
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.specs.rubric import load_rubric
from rlaif.types import Candidate, Comparison, Completion, Item, Message, Request
from tests.wire import WireServer
from tests.wire_cache import PrefixCache

KEY = "sk-proj-Zq7Xw2Vt9Lm4"
SYSTEM = Message("system", "You are a fair and careful judge.")
SHARED = ("word " * 1500).strip()


def asks(*endings: str, shared: str = SHARED) -> list[Request]:
    return [
        Request((SYSTEM, Message("user", f"{shared} {ending}")), shared=len(shared))
        for ending in endings
    ]


PROVIDERS = {
    "anthropic": (AnthropicBackend, "claude-sonnet-4-6", ""),
    "openai": (OpenAIBackend, "gpt-4.1", ""),
    "openai, marked": (OpenAIBackend, "gpt-5.6-sol", "/responses"),
}
Provider = tuple[Callable[[str, BackendOptions], Backend], str, str]


def opened(provider: Provider, server: WireServer) -> Backend:
    build, name, path = provider
    inner = build(name, BackendOptions(KEY, server.url + path))
    return one_ahead(inner, inner)


def ask(provider: Provider, server: WireServer, requests: list[Request]) -> list[Completion]:
    async def work() -> list[Completion]:
        backend = opened(provider, server)
        try:
            return list(await asyncio.gather(*map(backend.complete, requests)))
        finally:
            await backend.aclose()

    return asyncio.run(work())


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_what_calls_share_is_read_once_however_they_are_sent(provider: Provider) -> None:
    endings = ["A then B", "B then A", "on truth", "on tone", "on length"]
    cache = PrefixCache(automatic=provider[1] == "gpt-4.1")
    with WireServer(cache=cache, delay_s=0.02) as server:
        said = ask(provider, server, asks(*endings))
    cached = [completion.usage.cached_input for completion in said]
    prefix = 1 + 7 + 1 + 1500
    least = prefix // 128 * 128 if provider[1] == "gpt-4.1" else prefix
    assert cached == [0, *[least] * 4]
    assert all(c.usage.input >= prefix for c in said)
    assert cache.spared == 4 * least
    assert cache.read <= prefix + 5 * 5 + 4 * (prefix - least)
    assert cache.most_marks == (0 if provider[1] == "gpt-4.1" else 1)


@pytest.mark.parametrize("provider", list(PROVIDERS.values())[:1])
def test_without_the_wait_all_would_be_read_whole(provider: Provider) -> None:
    async def work(server: WireServer) -> None:
        backend = provider[0](provider[1], BackendOptions(KEY, server.url))
        await asyncio.gather(*map(backend.complete, asks("a", "b", "c")))
        await backend.aclose()

    cache = PrefixCache(automatic=False)
    with WireServer(cache=cache, delay_s=0.05) as server:
        asyncio.run(work(server))
    assert cache.spared == 0


@pytest.mark.parametrize("provider", list(PROVIDERS.values())[:2], ids=list(PROVIDERS)[:2])
def test_both_orders_of_a_judged_pair_share_what_comes_before_the_responses(
    provider: Provider,
) -> None:
    item = Item("i", (Message("user", "word " * 2000 + "?"),))
    pair = Comparison(
        item,
        Candidate("a", (Message("assistant", "One thing."),)),
        Candidate("b", (Message("assistant", "Another."),)),
    )

    async def work(server: WireServer) -> None:
        backend = opened(provider, server)
        judge = PairwiseJudge(backend, load_rubric("helpfulness"), reask=False)
        await judge.compare(pair)
        await backend.aclose()

    cache = PrefixCache(automatic=provider[1] == "gpt-4.1")
    with WireServer(lambda _: "[[A]]", cache=cache, delay_s=0.02) as server:
        asyncio.run(work(server))
        assert server.calls == 2
    assert cache.spared > 2000


class Slow:
    """Notes when calls begin and end, and fails the first ones."""

    model = identity = "x"
    family: Family = family_of("openai", "gpt-4.1")

    def __init__(self, failures: int = 0) -> None:
        self.log: list[str] = []
        self.failures = failures

    async def complete(self, request: Request) -> Completion:
        name = request.messages[-1].content[request.shared :].strip()
        self.log.append(f"+{name}")
        await asyncio.sleep(0.01)
        self.log.append(f"-{name}")
        if self.failures:
            self.failures -= 1
            raise BackendError("no")
        return Completion(name)

    async def aclose(self) -> None:
        pass


def run(backend: Backend, requests: list[Request]) -> list[object]:
    async def work() -> list[object]:
        return list(await asyncio.gather(*map(backend.complete, requests), return_exceptions=True))

    return asyncio.run(work())


def test_only_calls_that_share_a_prefix_wait() -> None:
    inner = Slow()
    requests = [*asks("a", "b", "c"), *asks("x", "y", shared=SHARED + " other")]
    run(PrefixedBackend(inner, inner), requests)
    assert inner.log[:4] == ["+a", "+x", "-a", "-x"]
    assert sorted(inner.log[4:7]) == ["+b", "+c", "+y"]


def test_short_prefixes_and_lone_prompts_do_not_wait() -> None:
    short = asks("a", "b", shared="word " * 100)
    lone = [replace(request, shared=0) for request in asks("c", "d")]
    inner = Slow()
    run(PrefixedBackend(inner, inner), [*short, *lone])
    assert [entry[0] for entry in inner.log] == ["+"] * 4 + ["-"] * 4


def test_if_the_first_call_fails_the_next_goes_first() -> None:
    inner = Slow(failures=2)
    found = run(PrefixedBackend(inner, inner), asks("a", "b", "c", "d"))
    assert [isinstance(one, BackendError) for one in found] == [True, True, False, False]
    assert inner.log == ["+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d"]


def test_a_cancelled_first_call_holds_nobody_up() -> None:
    inner = Slow()

    async def work() -> Completion:
        backend = PrefixedBackend(inner, inner)
        first, second = (asyncio.create_task(backend.complete(r)) for r in asks("a", "b"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(work()).text == "b"


def test_a_prefix_stays_known_on_another_event_loop_and_is_forgotten_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rlaif.backends import prefixed

    inner = Slow()
    backend = PrefixedBackend(inner, inner)
    run(backend, asks("a"))
    run(backend, asks("b", "c"))
    assert inner.log[2:4] == ["+b", "+c"]
    monkeypatch.setattr(prefixed, "_WARM_S", 0.0)
    run(backend, asks("d", "e"))
    assert inner.log[6:8] == ["+d", "-d"]


def test_the_number_of_prefixes_that_are_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlaif.backends import prefixed

    monkeypatch.setattr(prefixed, "_MOST_PREFIXES", 3)
    inner = Slow()
    backend = PrefixedBackend(inner, inner)
    run(backend, [asks("x", shared=SHARED + str(n))[0] for n in range(9)])
    assert len(backend._warm) == 3


def test_a_provider_without_a_prompt_cache_is_left_alone() -> None:
    server = ServerBackend("m", BackendOptions(base_url="http://localhost:1"))
    assert one_ahead(server, server) is server
