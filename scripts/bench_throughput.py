#!/usr/bin/env python
"""Calls a second, and what they cost: our judging path beside a bare client. Seeded.

    python scripts/bench_throughput.py                        # server/: some minutes
    python scripts/bench_throughput.py --sdk                  # beside the vendors' SDKs
    python scripts/bench_throughput.py --memory 10000 200000  # peak memory of short and long runs
    python scripts/bench_throughput.py --rerun 100000         # everything from the store, no call
    python scripts/bench_throughput.py --json out.json

A local server, in a process of its own, answers each call after 200 ms, fixed or log-normal (sigma
0.5), and knows the right verdict. Against it, each in a process of its own:

- `floor`: a bare client of the same HTTP library and event loop. It keeps `concurrency` calls in
  flight, sends the prompt and looks at the reply, and does nothing else.
- `rlaif`: `PairwiseJudge` asking both orders, with limit, retries and the reply store, into the
  verdicts file of a run folder.

Both make the same number of calls on prompts of 600 to 1,500 tokens; opening the connections is
timed, importing is not. `ideal` is concurrency / latency. A judgment is one call; a verdict is two.
Our first call goes alone, so that a wrong key costs one call: a run takes one latency longer for
it, a fortieth where each place in flight makes 40 calls.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import orjson

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
Result = dict[str, Any]
LATENCY_S = 0.2
SIGMA = 0.5
LATENCIES = ("fixed", "log-normal")
REASONS = (
    "The other one leaves out a part of what was asked and pads the rest. This one answers each "
    "point in turn, and what it says holds up."
)
SYSTEM = (
    "Judge which of two responses to a prompt is better, A or B, by how correct, complete and "
    "clear each is. Give your reasons in a few sentences, then your verdict: [[A]] or [[B]]."
)
WORDS = tuple(
    re.findall(
        r"\w+",
        """
        the the the the of of of and and and to to a a a in in is is that that it it for with as on
        be by this are from or an which not can has have was but they their also when more one would
        water light story city number answer method history process value river engine language
        because through between however important different several usually small large early second
        begins means shows keeps works grows follows explains describes changes depends music
        """,
    )
)


# The server


def chat_reply(mark: str, *, logprobs: bool) -> bytes:
    text = f"{REASONS}\n\n[[{mark}]]"
    tokens = re.findall(r"\s*\w+|\s*\[\[|[^\w\s]+", text)
    alternatives = [(mark, -0.05), ("A" if mark == "B" else "B", -3.1), ("tie", -6.0)]

    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    def with_top(token: str) -> dict[str, Any]:
        top = [*([] if token == mark else [(token, -0.01)]), *alternatives, (" one", -9.0)]
        return {**entry(token, -0.05), "top_logprobs": [entry(t, p) for t, p in top[:5]]}

    return orjson.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "judge",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": {"content": [*map(with_top, tokens)]} if logprobs else None,
                }
            ],
            "usage": {
                "prompt_tokens": 1000,
                "completion_tokens": len(tokens),
                "total_tokens": 1000 + len(tokens),
                "prompt_tokens_details": {"cached_tokens": 0},
            },
        }
    )


def message_reply(mark: str) -> bytes:
    return orjson.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "judge",
            "content": [{"type": "text", "text": f"{REASONS}\n\n[[{mark}]]"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 1000,
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
                "output_tokens": 40,
            },
        }
    )


class Server(asyncio.Protocol):
    """HTTP/1.1 with as little work a call as can be; the path says how long an answer takes."""

    rng = random.Random(0)
    calls = 0
    in_flight = 0
    peak = 0
    replies: ClassVar[dict[tuple[str, bool], bytes]] = {}
    length = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
    draft = re.compile(rb"Draft (\d+)")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        found = self.length.search(self.buffer, 0, head)
        end = head + 4 + (int(found[1]) if found else 0)
        if len(self.buffer) >= end:
            path = self.buffer[: self.buffer.index(b"\r\n")]
            body, self.buffer = self.buffer[head + 4 : end], self.buffer[end:]
            self.answer(path, body)

    def answer(self, path: bytes, body: bytes) -> None:
        kind = Server
        if path.startswith(b"GET"):
            self.transport.write(http(orjson.dumps({"calls": kind.calls, "peak": kind.peak})))
            kind.calls = kind.peak = 0
            return
        first, second = self.draft.findall(body)
        mark = "A" if int(first) > int(second) else "B"
        style = "messages" if b"/messages" in path else "chat"
        reply = kind.replies[mark + style, b'"logprobs":true' in body]
        kind.calls += 1
        kind.in_flight += 1
        kind.peak = max(kind.peak, kind.in_flight)
        asyncio.get_running_loop().call_later(self.latency(path), self.send, reply)

    def latency(self, path: bytes) -> float:
        if b"/fixed/" in path:
            return LATENCY_S
        if b"/log-normal/" in path:
            return self.rng.lognormvariate(math.log(LATENCY_S) - SIGMA**2 / 2, SIGMA)
        return 0.0

    def send(self, reply: bytes) -> None:
        Server.in_flight -= 1
        self.transport.write(reply)


def http(body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def serve() -> None:
    """Serve until standard input ends."""
    for mark, logprobs in itertools.product("AB", (False, True)):
        Server.replies[mark + "chat", logprobs] = http(chat_reply(mark, logprobs=logprobs))
        Server.replies[mark + "messages", logprobs] = http(message_reply(mark))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


# What is judged


class Work:
    """Prompts with two responses, made from a number at next to no cost."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        sentences = (rng.choices(WORDS, k=rng.randint(6, 16)) for _ in range(3000))
        self.text = " ".join(f"{' '.join(words).capitalize()}." for words in sentences)
        self.spans = [
            [
                (rng.randrange(150_000), rng.randint(*size))
                for size in ((200, 800), *[(700, 1900)] * 2)
            ]
            for _ in range(997)
        ]

    def pair(self, n: int) -> tuple[str, str, str]:
        """A prompt and two responses; the one whose draft has the greater number is better."""
        prompt, a, b = (self.text[at : at + size] + "." for at, size in self.spans[n % 997])
        better = (n * 7919) % 2
        return f"{n}: {prompt}", f"Draft {better + 1}: {a}", f"Draft {2 - better}: {b}"

    def calls(self, n: int) -> Iterator[tuple[str, str]]:
        """Both orders of `n` pairs: the user's message and the right mark."""
        for number in range(n):
            prompt, a, b = self.pair(number)
            better = "A" if a.startswith("Draft 2") else "B"
            yield f"<prompt>\n{prompt}\n</prompt>\n\n<a>\n{a}\n</a>\n\n<b>\n{b}\n</b>", better
            other = "B" if better == "A" else "A"
            yield f"<prompt>\n{prompt}\n</prompt>\n\n<a>\n{b}\n</a>\n\n<b>\n{a}\n</b>", other

    def comparisons(self, n: int) -> Iterator[Any]:
        """The same pairs as comparisons."""
        from rlaif.types import Candidate, Comparison, Item, Message

        for number in range(n):
            prompt, a, b = self.pair(number)
            yield Comparison(
                Item(str(number), (Message("user", prompt),)),
                Candidate("a", (Message("assistant", a),), "m1"),
                Candidate("b", (Message("assistant", b),), "m2"),
            )


# The contestants: each makes 2 `pairs` calls and tells how many verdicts were wrong


async def floor_server(a: argparse.Namespace) -> int:
    import aiohttp

    headers = {"Content-Type": "application/json"}
    logprobs = {"logprobs": True, "top_logprobs": a.top_logprobs} if a.top_logprobs else {}
    async with aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:

        async def ask(user: str) -> str:
            body = {
                "model": "judge",
                "messages": [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": user},
                ],
                "temperature": 0.0,
                "max_tokens": 1024,
                **logprobs,
            }
            async with session.post(f"{a.url}/chat/completions", data=orjson.dumps(body)) as got:
                return str(orjson.loads(await got.read())["choices"][0]["message"]["content"])

        return await keep_asking(a, ask)


async def floor_openai(a: argparse.Namespace) -> int:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    async with DefaultAioHttpClient() as http_client:
        client = AsyncOpenAI(
            api_key="k", base_url=a.url, max_retries=0, timeout=60, http_client=http_client
        )

        async def ask(user: str) -> str:
            answer = await client.chat.completions.create(
                model="judge",
                messages=[
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": user},
                ],
                temperature=0.0,
                max_completion_tokens=1024,
            )
            return answer.choices[0].message.content or ""

        return await keep_asking(a, ask)


async def floor_anthropic(a: argparse.Namespace) -> int:
    from anthropic import AsyncAnthropic, DefaultAioHttpClient

    async with DefaultAioHttpClient() as http_client:
        client = AsyncAnthropic(
            api_key="k",
            base_url=a.url.removesuffix("/v1"),
            max_retries=0,
            timeout=60,
            http_client=http_client,
        )

        async def ask(user: str) -> str:
            answer = await client.messages.create(
                model="judge",
                system=SYSTEM,
                messages=[{"role": "user", "content": user}],
                max_tokens=1024,
            )
            return "".join(part.text for part in answer.content if part.type == "text")

        return await keep_asking(a, ask)


async def keep_asking(a: argparse.Namespace, ask: Callable[[str], Awaitable[str]]) -> int:
    """Ask everything, `concurrency` calls at a time."""
    calls = Work(a.seed).calls(a.pairs)
    wrong = 0

    async def worker() -> None:
        nonlocal wrong
        for user, mark in calls:
            wrong += not (await ask(user)).endswith(f"[[{mark}]]")

    await asyncio.gather(*(worker() for _ in range(a.concurrency)))
    return wrong


async def rlaif(a: argparse.Namespace) -> int:
    """Our path, to a run folder in `a.folder`."""
    from rlaif.backends.base import BackendOptions
    from rlaif.backends.cached import CachedBackend
    from rlaif.backends.limited import LimitedBackend
    from rlaif.backends.registry import open_provider
    from rlaif.backends.retrying import RetryingBackend
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.runner import write_verdicts
    from rlaif.specs.rubric import load_rubric
    from rlaif.store.replies import ReplyStore
    from rlaif.store.runs import RunFolder

    folder = Path(a.folder)
    url = a.url.removesuffix("/v1") if a.provider == "anthropic" else a.url
    provider = open_provider(f"{a.provider}/judge", BackendOptions(api_key="k", base_url=url))
    with ReplyStore(folder / "replies.sqlite") as store:
        limited = LimitedBackend(provider, a.concurrency)
        backend = CachedBackend(RetryingBackend(limited), store)
        judge = PairwiseJudge(backend, load_rubric("helpfulness"), top_logprobs=a.top_logprobs)
        wrong = 0

        async def compare(comparison: Any) -> Any:
            nonlocal wrong
            verdict = await judge.compare(comparison)
            better = "A" if comparison.a.text.startswith("Draft 2") else "B"
            wrong += verdict.preference is None or verdict.preference.winner != better
            return verdict

        run = RunFolder(folder / f"run-{time.time_ns()}", {})
        work = Work(a.seed).comparisons(a.pairs)
        await write_verdicts(work, compare, run, concurrency=a.concurrency)
        await backend.aclose()
    return wrong


CONTESTANTS: dict[str, Callable[[argparse.Namespace], Awaitable[int]]] = {
    "floor": floor_server,
    "floor-openai": floor_openai,
    "floor-anthropic": floor_anthropic,
    "rlaif": rlaif,
}


def warm_up(a: argparse.Namespace) -> None:
    """Import everything, which is not timed."""
    import aiohttp  # noqa: F401

    if a.provider != "server":
        __import__(a.provider)
    if a.contestant == "rlaif":
        import zstandard  # noqa: F401

        from rlaif.backends import registry, server  # noqa: F401
        from rlaif.judge import pairwise  # noqa: F401
        from rlaif.specs.rubric import load_rubric
        from rlaif.store import replies  # noqa: F401

        load_rubric("helpfulness")


def contest(a: argparse.Namespace) -> None:
    """Run one contestant, in this process, and print what it took."""
    import uvloop

    from rlaif.runner import run_async

    run = run_async if a.contestant == "rlaif" else uvloop.run
    warm_up(a)
    cpu, wall = time.process_time(), time.perf_counter()
    if a.profile:
        import cProfile

        profile = cProfile.Profile()
        wrong = profile.runcall(run_async, CONTESTANTS[a.contestant](a))
        profile.dump_stats(a.profile)
    else:
        wrong = run(CONTESTANTS[a.contestant](a))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    calls = 2 * a.pairs
    result = {
        "calls": calls,
        "wrong": wrong,
        "wall_s": wall,
        "calls_per_s": calls / wall,
        "verdicts_per_s": a.pairs / wall,
        "cpu_ms_per_call": 1000 * cpu / calls,
        "cpu_ms_per_verdict": 1000 * cpu / a.pairs,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(result))


# The tasks


class Bench:
    """The server, and what is run against it."""

    def __init__(self, a: argparse.Namespace, folder: Path) -> None:
        self.a = a
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.server.stdout is not None
        self.origin = f"http://127.0.0.1:{int(self.server.stdout.readline())}"

    def close(self) -> None:
        self.server.communicate()

    def run(self, contestant: str, *, latency: str, pairs: int, **setting: Any) -> Result:
        """What `contestant` took; with the calls that the server counted and its peak in flight."""
        self.counts()
        setting = {
            "folder": tempfile.mkdtemp(dir=self.folder),
            "url": f"{self.origin}/{latency}/v1",
            "seed": self.a.seed,
            "pairs": pairs,
            "provider": "server",
            "top-logprobs": self.a.top_logprobs,
            **setting,
        }
        options = [f"--{name}={value}" for name, value in setting.items()]
        done = subprocess.run(
            [sys.executable, __file__, f"--contestant={contestant}", *options],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return {**json.loads(done.stdout), **self.counts()}

    def pairs(self, concurrency: int) -> int:
        """How many pairs make enough calls for a rate."""
        return max(self.a.calls, concurrency * self.a.rounds) // 2

    def counts(self) -> Result:
        from urllib.request import urlopen

        with urlopen(f"{self.origin}/counts") as answer:
            found = json.loads(answer.read())
        return {"calls_served": found["calls"], "peak_in_flight": found["peak"]}


def rates(bench: Bench) -> Iterator[Result]:
    """Our path beside the floor, at each concurrency and latency."""
    for latency, concurrency in itertools.product(LATENCIES, bench.a.concurrency):
        pairs = bench.pairs(concurrency)
        setting = {"latency": latency, "pairs": pairs, "concurrency": concurrency}
        floor = bench.run("floor", **setting)
        ours = bench.run("rlaif", **setting)
        yield from compared(floor, ours, f"{latency}, {concurrency}", concurrency / LATENCY_S)


def sdks(bench: Bench) -> Iterator[Result]:
    """Our path through the vendors' SDKs beside the SDKs alone."""
    for provider in ("openai", "anthropic"):
        concurrency = min(bench.a.concurrency)
        setting = {
            "latency": "fixed",
            "pairs": bench.pairs(concurrency),
            "concurrency": concurrency,
            "provider": provider,
            "top-logprobs": 0,
        }
        floor = bench.run(f"floor-{provider}", **setting)
        ours = bench.run("rlaif", **setting)
        yield from compared(floor, ours, f"{provider}, {concurrency}", concurrency / LATENCY_S)


def compared(floor: Result, ours: Result, label: str, ideal: float) -> Iterator[Result]:
    for name, one in (("floor", floor), ("rlaif", ours)):
        yield {
            "setting": label,
            "who": name,
            **one,
            "of_ideal": one["calls_per_s"] / ideal,
            "of_floor": one["calls_per_s"] / floor["calls_per_s"],
            "cpu_of_floor": one["cpu_ms_per_call"] / floor["cpu_ms_per_call"],
        }


def memory(bench: Bench) -> Iterator[Result]:
    """Peak memory of runs of several lengths."""
    for items in bench.a.memory:
        concurrency = bench.a.concurrency[0]
        got = bench.run("rlaif", latency="none", pairs=items, concurrency=concurrency)
        yield {"setting": f"{items} items, {concurrency}", "who": "rlaif", **got}


def rerun(bench: Bench) -> Iterator[Result]:
    """A run, and the same again from the store."""
    setting = {
        "latency": "none",
        "pairs": bench.a.rerun,
        "concurrency": bench.a.concurrency[0],
        "folder": tempfile.mkdtemp(dir=bench.folder),
    }
    for label in ("first run", "rerun"):
        yield {
            "setting": f"{label}, {bench.a.rerun} items",
            "who": "rlaif",
            **bench.run("rlaif", **setting),
        }


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "setting": ("setting", str),
    "who": ("who", str),
    "calls": ("calls", str),
    "calls_per_s": ("calls/s", "{:.0f}".format),
    "verdicts_per_s": ("verdicts/s", "{:.0f}".format),
    "of_ideal": ("of ideal", "{:.1%}".format),
    "of_floor": ("of floor", "{:.1%}".format),
    "cpu_ms_per_call": ("CPU ms/call", "{:.3f}".format),
    "cpu_ms_per_verdict": ("CPU ms/verdict", "{:.3f}".format),
    "cpu_of_floor": ("CPU of floor", "{:.2f}x".format),
    "peak_mb": ("peak MB", "{:.0f}".format),
    "peak_in_flight": ("in flight", str),
    "calls_served": ("served", str),
    "wrong": ("wrong", str),
}


def show(rows: Iterable[Result]) -> list[Result]:
    """`rows`, printed as they come."""
    kept = []
    print("  ".join(f"{title:>14}" for title, _ in COLUMNS.values()))
    for row in rows:
        cells = (form(row[name]) if name in row else "" for name, (_, form) in COLUMNS.items())
        print("  ".join(f"{cell:>14}" for cell in cells), flush=True)
        kept.append(row)
    return kept


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument(
        "--rounds", type=int, default=40, help="calls of a run for each one in flight"
    )
    parser.add_argument("--calls", type=int, default=4000, help="calls of a run, at least")
    parser.add_argument("--top-logprobs", type=int, default=0)
    parser.add_argument("--sdk", action="store_true")
    parser.add_argument("--memory", type=int, nargs="+", metavar="ITEMS")
    parser.add_argument("--rerun", type=int, metavar="ITEMS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    inner = parser.add_argument_group("of the processes that this one starts")
    inner.add_argument("--serve", action="store_true")
    inner.add_argument("--contestant", choices=CONTESTANTS)
    inner.add_argument("--provider", default="server")
    inner.add_argument("--url")
    inner.add_argument("--folder")
    inner.add_argument("--pairs", type=int)
    inner.add_argument("--profile", help="a file for cProfile's figures")
    return parser.parse_args()


def main() -> None:
    a = parsed()
    if a.serve:
        from rlaif.runner import run_async

        run_async(serve())
        return
    if a.contestant:
        a.concurrency = a.concurrency[0]
        contest(a)
        return
    tasks: list[Callable[[Bench], Iterator[Result]]] = [
        *([sdks] if a.sdk else []),
        *([memory] if a.memory else []),
        *([rerun] if a.rerun else []),
    ] or [rates]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(a, Path(folder))
        try:
            results = {task.__name__: show(task(bench)) for task in tasks}
        finally:
            bench.close()
    if a.json:
        where = {"machine": platform.machine(), "python": platform.python_version()}
        a.json.write_text(json.dumps({**where, "seed": a.seed, "results": results}, indent=1))


if __name__ == "__main__":
    main()
