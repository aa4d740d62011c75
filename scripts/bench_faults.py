#!/usr/bin/env python
"""What faults and kills cost, and that no verdict comes out wrong. Seeded.

    python scripts/bench_faults.py                              # 10,000 verdicts amid faults
    python scripts/bench_faults.py --kills 20 --judgments 5000  # kill -9 at 20 random moments
    python scripts/bench_faults.py --judgments 300 --json out.json

A judgment is a verdict here, of two calls.

A local server, in a process of its own, knows the right verdict of each prompt and does something
wrong with calls: 5 % get a 429 with `Retry-After`, 3 % a 500, 2 % a dropped connection, 2 % no
answer at all, 2 % garbage, 1 % JSON that ends in the middle. Which calls is decided by a hash of
the seed, the call and the number of the try. The command line judges against it, both orders of
each pair: `rlaif judge compare`, as anybody would run it.

Of every 200 pairs five have no verdict: the model refuses, is cut short, or gives no mark, the
server rejects the request, or fails with it whenever it is asked. All others have one. Every
verdict is held against that, and against what the server did with the last try of each call.

Faults fall on any try (`any`), or on first tries alone (`first`). In the first case 15 % of the
calls sent fail, and each is asked again, so 1 / (1 - 0.15) - 1 = 17.6 % more calls than verdicts
need is the least there can be. `needless` counts those asked again without a fault of the server.
The calls that always fail, six times each, are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
Result = dict[str, Any]
SHARES = {
    "rate_limit": 0.05,
    "server": 0.03,
    "dropped": 0.02,
    "hanging": 0.02,
    "garbage": 0.02,
    "cut": 0.01,
}
GARBAGE = (
    b"<!DOCTYPE html><html><title>Gateway</title></html>",
    bytes(range(128, 256)),
    b"",
    b"null",
    b"{}",
    b'{"choices": []}',
    b'{"choices": [{"index": 0}]}',
    b'{"error": {"message": "upstream reset", "code": 502}}',
)
CAUSES = {
    1: "refused",
    2: "truncated",
    3: "unreadable",
    4: "provider_error",
    5: "provider_error",
}
"""Cause of the pairs without a verdict, by their number modulo 200."""
ALWAYS_FAILS = 5
EVERY = 200
LATENCY_S = 0.02
TRIES = 6
IN_FLIGHT = 64
"""Most calls in flight of runs that are killed, unless the command is told otherwise."""


def chance(*parts: object) -> float:
    """A number in [0, 1) that `parts` alone decide."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pair(n: int, seed: int) -> Result:
    """Pair `n`; the response of the greater draft is better."""
    better = 1 + (chance(seed, "better", n) < 0.5)
    drafts = [f"Draft {2 if which == better else 1} of case {n}." for which in (1, 2)]
    prompt = f"Case {n}: which one holds up?"
    return {"id": f"case{n}", "prompt": prompt, "response_a": drafts[0], "response_b": drafts[1]}


# The server


class Server(asyncio.Protocol):
    """Chat completions over HTTP/1.1, with faults."""

    seed = 0
    mode = "none"
    retry_after = b""
    log: ClassVar[list[list[str]]] = []
    """The key of each call in order of arrival, and what was done with it."""
    tries: ClassVar[Counter[str]] = Counter()
    draft = re.compile(rb"Draft (\d) of case (\d+)")
    length = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
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
            path = self.buffer[: self.buffer.index(b"\r\n")].split()[1].decode()
            body, self.buffer = self.buffer[head + 4 : end], self.buffer[end:]
            if path.startswith("/begin/"):
                self.begin(path.removeprefix("/begin/"))
            elif path == "/log":
                self.send(200, json.dumps(Server.log).encode())
            elif path.endswith("/chat/completions"):
                self.answer(body)
            else:
                self.send(404, b"{}")

    def begin(self, mode: str) -> None:
        Server.mode = mode
        Server.log.clear()
        Server.tries.clear()
        self.send(200, b"{}")

    def answer(self, body: bytes) -> None:
        (first, case), (second, _) = self.draft.findall(body)[:2]
        n = int(case)
        again = "again" if len(json.loads(body)["messages"]) > 2 else ""
        key = f"{n}:{first.decode()}{second.decode()}{again}"
        tried = self.tries[key]
        self.tries[key] += 1
        entry = [key, "pending"]
        self.log.append(entry)
        fault = self.fault(key, tried)
        if fault is None and self.mode != "none" and CAUSES.get(n % EVERY) == "provider_error":
            fault = "server" if n % EVERY == ALWAYS_FAILS else "rejected"
        asyncio.get_running_loop().call_later(
            LATENCY_S, self.finish, entry, fault, n, "A" if first > second else "B"
        )

    def fault(self, key: str, tried: int) -> str | None:
        if self.mode == "none" or (self.mode == "first" and tried):
            return None
        place = chance(self.seed, key, tried)
        for name, share in SHARES.items():
            if place < share:
                return name
            place -= share
        return None

    def finish(self, entry: list[str], fault: str | None, n: int, mark: str) -> None:
        entry[1] = fault or "answered"
        whole = reply(n, entry[0], mark)
        which = int(1000 * chance(entry[0], self.tries[entry[0]]))
        if fault is None:
            self.send(200, whole)
        elif fault == "rate_limit":
            self.send(429, b'{"error": {"message": "slow down"}}', self.retry_after)
        elif fault == "server":
            self.send(500, b'{"error": {"message": "broken"}}')
        elif fault == "rejected":
            self.send(400, b'{"error": {"message": "the prompt is too long"}}')
        elif fault == "garbage":
            self.send(200, GARBAGE[which % len(GARBAGE)])
        elif fault == "cut":
            self.send(200, whole[: which % len(whole)])
        elif fault == "dropped":
            if which % 2:
                self.transport.write(head(200, len(whole)) + whole[: len(whole) // 2])
            self.transport.close() if which % 2 else self.transport.abort()

    def send(self, status: int, body: bytes, headers: bytes = b"") -> None:
        self.transport.write(head(status, len(body), headers) + body)


def head(status: int, size: int, headers: bytes = b"") -> bytes:
    line = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n"
    return line.encode() + headers + b"\r\n"


def reply(n: int, key: str, mark: str) -> bytes:
    """What the model says of pair `n`; `key` is repeated in it, to tell replies apart."""
    cause = CAUSES.get(n % EVERY)
    texts = {"refused": "", "truncated": "Both responses ", "unreadable": "Hard to say."}
    text = texts.get(str(cause), f"The one holds up, the other does not.\n\n[[{mark}]]")
    reason = {"refused": "content_filter", "truncated": "length"}.get(str(cause), "stop")
    message = {"role": "assistant", "content": f"({key}) {text}", "refusal": None}
    choice = {"index": 0, "finish_reason": reason, "message": message, "logprobs": None}
    usage = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
    return json.dumps({"model": "judge", "choices": [choice], "usage": usage}).encode()


async def serve(a: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    Server.seed = a.seed
    Server.retry_after = f"Retry-After: {a.retry_after:g}\r\n".encode()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


# What is run against it


class Bench:
    """The server, and the command line beside it."""

    def __init__(self, a: argparse.Namespace, folder: Path) -> None:
        self.a = a
        self.folder = folder
        self.server = subprocess.Popen(
            [
                *(sys.executable, __file__, "--serve"),
                *(f"--seed={a.seed}", f"--retry-after={a.retry_after}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.server.stdout is not None
        self.origin = f"http://127.0.0.1:{int(self.server.stdout.readline())}"
        self.data = folder / "pairs.jsonl"
        rows = (json.dumps(pair(n, a.seed)) for n in range(a.judgments))
        self.data.write_text("\n".join(rows) + "\n")

    def close(self) -> None:
        self.server.communicate()

    def begin(self, mode: str) -> None:
        with urlopen(f"{self.origin}/begin/{mode}"):
            pass

    def log(self) -> list[list[str]]:
        with urlopen(f"{self.origin}/log") as answer:
            found: list[list[str]] = json.load(answer)
        return found

    def start(self, home: str) -> subprocess.Popen[str]:
        """The command, begun, with its store and its run folder in `home`."""
        options: list[object] = ["--timeout", self.a.timeout]
        if self.a.concurrency:
            options += ["--concurrency", self.a.concurrency]
        words = [
            *("judge", "compare", self.data, "-m", "server/judge", "--json"),
            *("--base-url", self.origin, "-o", self.folder / home / "run", *options),
        ]
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME"}}
        return subprocess.Popen(
            [sys.executable, "-m", "rlaif", *map(str, words)],
            env={**kept, "PYTHONPATH": str(ROOT), "RLAIF_HOME": str(self.folder / home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def verdicts(self, home: str) -> bytes:
        return (self.folder / home / "run" / "verdicts.jsonl").read_bytes()


def faults(bench: Bench, mode: str) -> Result:
    """One run amid faults, and everything checked."""
    bench.begin(mode)
    started = time.perf_counter()
    process = bench.start(mode)
    out, err = process.communicate()
    wall_s = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"the command ended with {process.returncode}: {err}")
    log = bench.log()
    calls: dict[str, list[str]] = defaultdict(list)
    for key, outcome in log:
        calls[key].append(outcome)
    found = judged(bench.verdicts(mode), calls, bench.a.seed)
    hopeless = {key for key in calls if int(key.split(":")[0]) % EVERY == ALWAYS_FAILS}
    fair = [outcomes for key, outcomes in calls.items() if key not in hopeless]
    made = sum(map(len, fair))
    injected = Counter(outcome for outcomes in fair for outcome in outcomes if outcome in SHARES)
    ended = {"answered", "rejected"}
    return {
        "setting": f"faults on {mode} tries",
        "judgments": bench.a.judgments,
        **found,
        "calls_needed": len(fair),
        "calls": made,
        "calls_that_always_fail": len(log) - made,
        "extra_calls": made / len(fair) - 1,
        "faults": dict(sorted(injected.items())),
        "faults_share": injected.total() / made,
        "needless": sum(len(o) - 1 - o.index(e) for o in calls.values() for e in ended & {*o}),
        "retries_told": json.loads(out)["retries"],
        "wall_s": wall_s,
        "calls_per_s": len(log) / wall_s,
    }


def judged(verdicts: bytes, calls: dict[str, list[str]], seed: int) -> Result:
    """How many verdicts are right, wrong, or none for a right or a wrong cause."""
    found: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    lines = verdicts.splitlines()
    for n, line in enumerate(lines):
        verdict = json.loads(line)
        row = pair(n, seed)
        assert verdict["item"]["id"] == row["id"]
        better = "A" if row["response_a"].startswith("Draft 2") else "B"
        due = CAUSES.get(n % EVERY)
        if verdict["status"] == "ok":
            right = due is None and verdict["preference"]["winner"] == better
            found["right" if right else "wrong"] += 1
            continue
        causes[verdict["cause"]] += 1
        ends = [outcomes for key, outcomes in calls.items() if key.startswith(f"{n}:")]
        gave_up = any(o[-1] != "answered" and (len(o) >= TRIES or "rejected" in o) for o in ends)
        fits = verdict["cause"] == (due or "provider_error")
        failed = verdict["cause"] == "provider_error" and gave_up
        found["no_verdict"] += 1
        found["wrong_cause"] += not (failed or (fits and verdict["cause"] != "provider_error"))
    names = ("right", "wrong", "no_verdict", "wrong_cause")
    return {**{name: found[name] for name in names}, "causes": dict(sorted(causes.items()))}


def kills(bench: Bench) -> Result:
    """Runs that are killed at random moments until one ends, beside a run that is not."""
    bench.begin("none")
    bench.a.concurrency = bench.a.concurrency or IN_FLIGHT
    for home in ("whole", "killed"):  # what marks the parts of prompts comes from a home's secret
        (bench.folder / home).mkdir()
        (bench.folder / home / "secret").write_bytes(bytes(32))
    whole = bench.start("whole")
    _, err = whole.communicate()
    if whole.returncode != 0:
        raise SystemExit(f"the unbroken run ended with {whole.returncode}: {err}")
    total = len(bench.log())
    chosen = random.Random(bench.a.seed)
    moments = sorted(chosen.randrange(1, total) for _ in range(bench.a.kills))
    bench.begin("none")
    repeated, again, killed = [], 0, 0
    for moment in [*moments, None]:
        before = [key for key, _ in bench.log()]
        kept = stored(bench.folder / "killed" / "replies.sqlite")
        killed += finish_or_kill(bench, moment, chosen.uniform(0.0, 0.05))
        asked = {key for key, _ in bench.log()[len(before) :]}
        repeated.append(len(asked & {*before}))
        again += len(asked & kept)
    log = [key for key, _ in bench.log()]
    return {
        "setting": f"{killed} kills",
        "judgments": bench.a.judgments,
        "kills": killed,
        "calls_needed": total,
        "calls": len(log),
        "asked_again_though_kept": again,
        "most_in_flight": bench.a.concurrency,
        "most_repeated_after_a_kill": max(repeated),
        "repeated": sum(repeated),
        "same_verdicts": plain(bench.verdicts("whole")) == plain(bench.verdicts("killed")),
    }


def finish_or_kill(bench: Bench, moment: int | None, later_s: float) -> bool:
    """Whether the command was killed once `moment` calls had come in; it ends by itself if None."""
    process = bench.start("killed")
    while moment is not None and process.poll() is None:
        if len(bench.log()) >= moment:
            time.sleep(later_s)
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    _, err = process.communicate()
    if process.returncode not in {0, -signal.SIGKILL}:
        raise SystemExit(f"the command ended with {process.returncode}: {err}")
    return process.returncode != 0


def stored(path: Path) -> set[str]:
    """Keys of the calls whose replies the store holds."""
    from rlaif.store.replies import ReplyStore
    from rlaif.store.upkeep import export_rows

    if not path.exists():
        return set()
    # a copy: to open the store itself would be a part of what is measured
    folder = Path(tempfile.mkdtemp(dir=path.parent.parent))
    for file in path.parent.glob(path.name + "*"):
        if file.is_file():
            shutil.copy(file, folder / file.name)
    with ReplyStore(folder / path.name) as store:
        texts = [row["completion"]["text"] for row in export_rows(store)]
    shutil.rmtree(folder)
    return {text[1 : text.index(")")] for text in texts}


def plain(verdicts: bytes) -> bytes:
    """`verdicts` without what may differ: how long calls took, and whether they were kept."""
    return re.sub(rb'"(latency_s":[-+.e\d]+|cached":(true|false))', b'"', verdicts)


def show(rows: list[Result]) -> None:
    for row in rows:
        print(f"\n{row['setting']}")
        for name, value in row.items():
            if name == "setting":
                continue
            print(f"  {name.replace('_', ' '):28}{shown(name, value)}")


def shown(name: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{n} {key}" for key, n in value.items()) or "none"
    if name in {"extra_calls", "faults_share"}:
        return f"{value:.1%}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--judgments", type=int, default=10_000, help="verdicts, of two calls each")
    parser.add_argument("--kills", type=int, help="kill so often instead, without faults")
    parser.add_argument("--modes", nargs="*", default=["any", "first"], choices=["any", "first"])
    parser.add_argument("--retry-after", type=float, default=1.0, help="seconds, of each 429")
    parser.add_argument("--timeout", type=float, default=1.0, help="--timeout of the command")
    parser.add_argument("--concurrency", type=int, help="--concurrency of the command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        asyncio.run(serve(a))
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(a, Path(folder))
        try:
            rows = [kills(bench)] if a.kills else [faults(bench, mode) for mode in a.modes]
        finally:
            bench.close()
    show(rows)
    if a.json:
        a.json.write_text(json.dumps({"seed": a.seed, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
