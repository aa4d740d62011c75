#!/usr/bin/env python
"""Judgments a second of a local model: one shared prefill against the two usual ways. Seeded.

    python scripts/bench_local_judge.py                              # shipped pairs
    python scripts/bench_local_judge.py --files natural.jsonl neighbor.jsonl --format llmbar \
        --pairs 200 --graded 20 --generated 24                       # a quarter of an hour

Pairs are judged in both orders by the whole rubric, on the prompts of `PairwiseJudge`:

- `generate`: reasons and a verdict mark, at most `--new-tokens`, greedy; batches of `--rows` by
  length, decoded by transformers' own `generate`, then parsed.
- `no reuse`: one token, its probabilities after one prefill; batches by length, nothing shared.
- `ours`: the same prompts through `PairwiseJudge` and `LocalBackend`: rendering, prefill with every
  shared prefix read once, and reading the probabilities.

`each criterion` are responses graded on every criterion of the rubric, one call each, where all but
the last lines of the prompts is shared. The ways take turns, chunk by chunk, so that other work on
the machine slows all of them alike.

`floor` is what the tokens that have to be read would take at the model's own pace: their number
times the time per token of a plain forward pass over unpadded prompts of the same mean length,
measured beside each chunk. `bound` is the number of tokens without reuse over that with: no reuse
of prefixes can be faster than that, and long responses bring it down to 1. `differ` is the largest
difference in a choice's probability between `ours` and `no reuse`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rlaif.backends.base import BackendOptions  # noqa: E402
from rlaif.backends.local import LocalBackend, open_local  # noqa: E402
from rlaif.cli import options  # noqa: E402
from rlaif.errors import VerdictError  # noqa: E402
from rlaif.evals.audit import probe_path, read_pairs  # noqa: E402
from rlaif.evals.judge_bench import read_set  # noqa: E402
from rlaif.judge.pairwise import PairwiseJudge  # noqa: E402
from rlaif.judge.pointwise import PointwiseJudge  # noqa: E402
from rlaif.specs.rubric import load_rubric  # noqa: E402
from rlaif.types import Comparison, Completion, Request, Sampling  # noqa: E402

_CHUNK = 24
"""Pairs after which the ways take turns: both orders fill what a local model answers together."""
_BATCH_TOKENS = 2048
"""Padded tokens of a batch that shares nothing: more are slower per token on two cores."""
_PACE_TOKENS = 1024
"""Tokens of a forward pass whose pace makes the floor: that of the fastest passes."""

Ids = tuple[int, ...]


@dataclass
class Sums:
    """What came of one kind of judgment, chunk after chunk."""

    judgments: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens: int = 0
    tokens_read: int = 0
    floor_s: float = 0.0
    differ: float = 0.0
    parsed: int = 0
    generated: int = 0


class Recorder:
    """A backend that keeps what the one below it said."""

    def __init__(self, inner: LocalBackend) -> None:
        self.inner = inner
        self.model, self.identity = inner.model, inner.identity
        self.said: dict[Request, Completion] = {}

    async def complete(self, request: Request) -> Completion:
        self.said[request] = done = await self.inner.complete(request)
        return done

    async def aclose(self) -> None:
        await self.inner.aclose()


class Bench:
    """The three ways to judge, on one model."""

    def __init__(self, backend: LocalBackend, rubric: str, new_tokens: int, rows: int) -> None:
        self._thread = backend._pool
        self.recorder = Recorder(backend)
        self.loaded = backend._loaded
        self.new_tokens, self.rows = new_tokens, rows
        spec = load_rubric(rubric)
        how: dict[str, Any] = {"reask": False, "least_mass": 0.0}
        self.pairs = PairwiseJudge(self.recorder, spec, method="token", **how)
        self.points = PointwiseJudge(self.recorder, spec, method="expectation", **how)
        sampling = Sampling(max_tokens=new_tokens)
        self.written = PairwiseJudge(self.recorder, spec, sampling=sampling, reask=False)

    def run(self, work: Any, *args: Any) -> Any:
        """What `work` gives, done where the model runs.

        Torch has helpers for each thread that uses it; with more of them than cores, all wait the
        slow way.
        """
        return self._thread.submit(work, *args).result()

    def encode(self, requests: Sequence[Request]) -> list[Ids]:
        """The prompts in tokens."""
        return [tuple(self.loaded.encode(r.messages, reply_follows=True)) for r in requests]

    def per_token(self, prompts: Sequence[Ids]) -> float:
        """Seconds a token takes in prompts of that mean length, without padding or reuse."""
        import torch

        length = round(sum(map(len, prompts)) / len(prompts))
        rows = [(p * length)[:length] for p in prompts[: max(1, _PACE_TOKENS // length)]]
        ids, best = torch.tensor(rows), math.inf
        for _ in range(2):
            start = time.perf_counter()
            with torch.inference_mode():
                self.loaded.network.base_model(input_ids=ids, use_cache=False)
            best = min(best, time.perf_counter() - start)
        return best / ids.numel()

    def no_reuse(self, requests: Sequence[Request]) -> list[dict[str, float]]:
        """P of each choice, every prompt read whole, in batches by length."""
        prompts = self.encode(requests)
        found: list[dict[str, float]] = [{} for _ in prompts]
        for places in _batches(prompts):
            rows = self._last_logprobs([prompts[i] for i in places])
            for place, row in zip(places, rows, strict=True):
                spelled = self.loaded._spellings(requests[place].choices)
                found[place] = {
                    choice: sum(math.exp(row[way[0]]) for way in ways if len(way) == 1)
                    for choice, ways in spelled.items()
                }
        return found

    def _last_logprobs(self, prompts: Sequence[Ids]) -> Any:
        import torch

        ids, mask = _padded(prompts, self.loaded.ends[0])
        places = (mask.cumsum(-1) - 1).clamp_(min=0)
        with torch.inference_mode():
            hidden = self.loaded.network.base_model(
                input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False
            ).last_hidden_state[:, -1]
            return self.loaded.head(hidden).log_softmax(-1)

    def generate(self, requests: Sequence[Request]) -> int:
        """How many of the written replies hold a verdict."""
        import torch

        prompts, parsed = self.encode(requests), 0
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), self.rows):
            ids, mask = _padded([prompts[i] for i in order[start : start + self.rows]], self.pad)
            with torch.inference_mode():
                out = self.loaded.network.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=self.new_tokens,
                    do_sample=False,
                    pad_token_id=self.pad,
                )
            replies = self.loaded.tokenizer.batch_decode(
                out[:, ids.shape[1] :], skip_special_tokens=True
            )
            parsed += sum(map(self._has_verdict, replies))
        return parsed

    @property
    def pad(self) -> int:
        """Fills the left of shorter prompts."""
        return int(self.loaded.ends[0])

    def _has_verdict(self, reply: str) -> bool:
        try:
            self.written._form.read(Completion(reply))
        except VerdictError:
            return False
        return True


def _padded(prompts: Sequence[Ids], pad: int) -> tuple[Any, Any]:
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return ids, mask


def _batches(prompts: Sequence[Ids]) -> Iterator[list[int]]:
    """Places of prompts of about one length, so many that a batch has enough tokens."""
    batch: list[int] = []
    for place in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        if batch and (len(batch) + 1) * len(prompts[place]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _timed(sums: Sums, way: str, work: Any, *args: Any) -> Any:
    start = time.perf_counter()
    done = work(*args)
    sums.seconds[way] += time.perf_counter() - start
    return done


def _compare_all(bench: Bench, chunk: Sequence[Comparison]) -> None:
    async def work() -> None:
        await asyncio.gather(*(bench.pairs.compare(c) for c in chunk))

    asyncio.run(work())


def _score_all(bench: Bench, chunk: Sequence[Comparison]) -> None:
    async def work() -> None:
        await asyncio.gather(*(bench.points.score(c.item, c.a) for c in chunk))

    asyncio.run(work())


def measure(bench: Bench, chunk: Sequence[Comparison], sums: Sums, *, points: bool) -> None:
    """Judge a chunk of pairs, or the first responses of a chunk, in turn by all ways."""
    if points:
        requests = [r for c in chunk for r in bench.points.requests(c.item, c.a)]
    else:
        requests = [r for c in chunk for r in bench.pairs.requests(c)]
    prompts = bench.encode(requests)
    reader = bench.loaded.reader
    assert reader is not None
    before = reader.tokens_read
    _timed(sums, "ours", _score_all if points else _compare_all, bench, chunk)
    read = reader.tokens_read - before
    plain = _timed(sums, "no reuse", bench.run, bench.no_reuse, requests)
    sums.judgments += len(requests)
    sums.tokens += sum(map(len, prompts))
    sums.tokens_read += read
    sums.floor_s += read * bench.run(bench.per_token, prompts)
    for request, expected in zip(requests, plain, strict=True):
        said = dict(bench.recorder.said[request].tokens[0].top)
        gaps = [abs(math.exp(said[choice]) - p) for choice, p in expected.items()]
        sums.differ = max(sums.differ, *gaps)


def row(name: str, sums: Sums) -> dict[str, Any]:
    """The rates and ratios of one kind of judgment."""
    seconds, ours = sums.seconds, sums.seconds["ours"]
    found: dict[str, Any] = {
        "judgments": name,
        "n": sums.judgments,
        "tokens": round(sums.tokens / sums.judgments),
        "read": round(sums.tokens_read / sums.judgments),
        "bound": sums.tokens / sums.tokens_read,
        "ours_per_s": sums.judgments / ours,
        "no_reuse_per_s": sums.judgments / seconds["no reuse"],
        "over_no_reuse": seconds["no reuse"] / ours,
        "of_floor": sums.floor_s / ours,
        "differ": sums.differ,
    }
    if sums.generated:
        rate = sums.generated / seconds["generate"]
        found |= {"generate_per_s": rate, "over_generate": sums.judgments / ours / rate}
        found["generate_with_verdict"] = sums.parsed / sums.generated
    return found


def printed(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    names = list(dict.fromkeys(name for one in rows for name in one))
    cells = [[_cell(one.get(name)) for name in names] for one in rows]
    widths = [max(len(n), *(len(c[i]) for c in cells)) for i, n in enumerate(names)]
    lines = [names, *cells]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def load_pairs(arguments: argparse.Namespace) -> list[Comparison]:
    """The pairs to judge, in an order drawn by the seed; identical responses are left out."""
    if arguments.files:
        pairs = list(read_set(arguments.format, arguments.files, lambda _: None))
    else:
        pairs = list(read_pairs(probe_path()))
    random.Random(arguments.seed).shuffle(pairs)
    return [p for p in pairs if p.a.response != p.b.response][: arguments.pairs]


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=Path, nargs="*", help="labeled pairs")
    parser.add_argument("--format", default="llmbar", help="the form of their rows")
    parser.add_argument("--pairs", type=int, default=200, help="most pairs")
    parser.add_argument("--generated", type=int, help="of those, pairs decoded; all by default")
    parser.add_argument("--graded", type=int, help="pairs whose first response is graded")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rows", type=int, default=16, help="prompts decoded together")
    parser.add_argument("--rubric", default="chat-quality")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the rows go as JSON")
    return parser.parse_args()


def main() -> None:
    import torch

    arguments = parsed_arguments()
    torch.set_num_threads(arguments.threads)
    backend = open_local(arguments.model, BackendOptions(home=options.home()))
    bench = Bench(backend, arguments.rubric, arguments.new_tokens, arguments.rows)
    pairs, both, points = load_pairs(arguments), Sums(), Sums()
    decode, grade = (
        len(pairs) if n is None else n for n in (arguments.generated, arguments.graded)
    )
    warm = replace(pairs[0], item=replace(pairs[0].item, id="warm-up"))
    _compare_all(bench, [warm])  # loads the model and lists the vocabulary
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        measure(bench, chunk, both, points=False)
        if graded := chunk[: max(0, grade - start)]:
            measure(bench, graded, points, points=True)
        if decoded := chunk[: max(0, decode - start)]:
            requests = [r for c in decoded for r in bench.written.requests(c)]
            both.parsed += _timed(both, "generate", bench.run, bench.generate, requests)
            both.generated += len(requests)
        print(f"{start + len(chunk)} of {len(pairs)} pairs", file=sys.stderr)
    kinds = {"pairs, both orders": both, "each criterion": points}
    rows = [row(name, sums) for name, sums in kinds.items() if sums.judgments]
    head = {
        "model": backend.model,
        "dtype": str(bench.loaded.network.dtype),
        "rubric": arguments.rubric,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "pairs": len(pairs),
        "rows_decoded": arguments.rows,
        "seed": arguments.seed,
    }
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    print(printed(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(head | {"rows": rows}, indent=2), encoding="utf-8")
    asyncio.run(backend.aclose())


if __name__ == "__main__":
    main()
