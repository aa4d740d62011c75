#!/usr/bin/env python
"""Critique and revision at scale: the rate, and what three `kill -9` cost. Seeded.

    python scripts/bench_constitution.py                    # 1,000 prompts x 4 rounds: minutes
    python scripts/bench_constitution.py --json out.json

A local server, in a process of its own, answers each call after 100 ms and writes what its request
decides. Against it `rlaif constitution critique` answers prompts, and criticizes, revises and
checks in both orders: 17 calls a prompt for four rounds. Chains are sequential inside and parallel
outside.

- `unbroken`: one run to the end. `ideal` is calls x latency / concurrency.
- `broken`: the same with a home of its own, killed so many times on the way and run again. Its last
  run asks for what the store does not hold and for nothing else, and leaves the same files.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CALLS_A_ROUND = 4
NOUNS = ("kettle", "lantern", "garden", "harbor", "ladder", "violin", "orchard", "bicycle")


# The server


class Server(asyncio.Protocol):
    """HTTP/1.1 with as little work a call as can be."""

    latency_s = 0.1
    calls = 0
    length = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
    draft = re.compile(r"Draft (\d+)")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        found = self.length.search(self.buffer, 0, head)
        end = head + 4 + (int(found[1]) if found else 0)
        if len(self.buffer) < end:
            return
        get, body = self.buffer.startswith(b"GET"), self.buffer[head + 4 : end]
        self.buffer = self.buffer[end:]
        if get:
            self.transport.write(http({"calls": Server.calls}))
            return
        Server.calls += 1
        reply = http(completion(spoken(json.loads(body)["messages"])))
        asyncio.get_running_loop().call_later(self.latency_s, self.transport.write, reply)


def spoken(messages: list[dict[str, str]]) -> str:
    """What the model says: drafts that count up, and a verdict for the later draft."""
    last = messages[-1]["content"]
    mark = hashlib.sha256(json.dumps(messages).encode()).hexdigest()
    noun = NOUNS[int(mark[:4], 16) % len(NOUNS)]
    if ":response_b>" in last:
        a, b = (int(n) for n in Server.draft.findall(last))
        return f"[[{'A' if a > b else 'B'}]]"
    if last.endswith("do not rewrite the response yet."):
        return f"Nothing in it tells the person how the {noun} number {mark[:6]} should be mended."
    drafts = [int(n) for m in messages[-5:] for n in Server.draft.findall(m["content"])]
    return f"Draft {max(drafts, default=0) + 1}: mend the {noun} {mark[:12]} with care and thread."


def completion(text: str) -> dict[str, Any]:
    words = len(text.split())
    usage = {"prompt_tokens": 500, "completion_tokens": words, "total_tokens": 500 + words}
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}],
        "usage": usage,
    }


def http(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def serve(latency_s: float) -> None:
    """Serve until standard input ends."""
    Server.latency_s = latency_s
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


# The runs


class Bench:
    """One server, and runs against it in a folder."""

    def __init__(self, folder: Path, options: argparse.Namespace, port: int) -> None:
        self.folder, self.options = folder, options
        self.url = f"http://127.0.0.1:{port}/v1"
        self.calls = options.prompts * (1 + CALLS_A_ROUND * options.rounds)
        self.prompts = folder / "prompts.jsonl"
        rows = ({"id": f"p{n}", "prompt": f"How is broken thing {n} mended?"}
                for n in range(options.prompts))  # fmt: skip
        self.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """The command, begun; NAME is its run folder and its home."""
        words = [sys.executable, "-m", "rlaif", "constitution", "critique", self.prompts]
        words += ["-m", "server/actor", "--judge", "server/judge", "--base-url", self.url]
        words += ["-n", self.options.rounds, "--concurrency", self.options.concurrency]
        words += ["-o", self.folder / name, "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment["RLAIF_HOME"] = str(self.folder / f"home-{name}")
        return subprocess.Popen(list(map(str, words)), env=environment, stdout=subprocess.PIPE)

    def finish(self, name: str) -> dict[str, Any]:
        """The summary of the command, run to its end."""
        process = self.start(name)
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the command ended with {process.returncode}")
        return dict(json.loads(out))

    def asked(self) -> int:
        """How many calls the server has had so far."""
        with urllib.request.urlopen(self.url, timeout=30) as reply:
            return int(json.load(reply)["calls"])

    def kept(self, name: str) -> int:
        """How many replies the store of a run holds."""
        path = self.folder / f"home-{name}" / "replies.sqlite"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(path, timeout=30)) as store:
            made = "SELECT count(*) FROM sqlite_master WHERE name = 'replies'"
            if not store.execute(made).fetchone()[0]:  # the command is just making its store
                return 0
            return int(store.execute("SELECT count(*) FROM replies").fetchone()[0])

    def unbroken(self) -> dict[str, Any]:
        """One run to the end, timed by its own account."""
        before = self.asked()
        summary = self.finish("unbroken")
        ideal_s = self.calls * self.options.latency / self.options.concurrency
        return {
            "calls": self.asked() - before,
            "seconds": summary["wall_s"],
            "ideal_s": round(ideal_s, 3),
            "of_ideal": round(ideal_s / summary["wall_s"], 4),
            "revised": summary["revised"],
        }

    def broken(self) -> dict[str, Any]:
        """The same, killed on the way: each time when another share of the calls is kept."""
        kills, kept_at_kill = self.options.kills, []
        for kill in range(1, kills + 1):
            process = self.start("broken")
            while process.poll() is None and self.kept("broken") < self.calls * kill / (kills + 1):
                time.sleep(0.05)
            process.kill()
            process.communicate()
            kept_at_kill.append(self.kept("broken"))
        before = self.asked()
        summary = self.finish("broken")
        return {
            "kept_at_kill": kept_at_kill,
            "missing_at_last": self.calls - (kept_at_kill[-1] if kept_at_kill else 0),
            "calls_of_last": self.asked() - before,
            "calls_cached_of_last": summary["calls_cached"],
            "files_identical": self.same("revisions.jsonl") and self.same_verdicts(),
        }

    def same(self, name: str) -> bool:
        one, two = ((self.folder / run / name).read_bytes() for run in ("unbroken", "broken"))
        return one == two

    def same_verdicts(self) -> bool:
        """Whether both runs have the same verdicts, but for when and whence replies came."""
        kept = [[], []]
        for found, run in zip(kept, ("unbroken", "broken"), strict=True):
            with (self.folder / run / "verdicts.jsonl").open() as file:
                for line in file:
                    verdict = json.loads(line)
                    for call in verdict["calls"]:
                        call["latency_s"] = call["cached"] = None
                    found.append(verdict)
        return kept[0] == kept[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.latency))
        return
    words = [sys.executable, __file__, "--serve", "--latency", str(options.latency)]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), options, port)
            found: dict[str, Any] = {
                "prompts": options.prompts,
                "rounds": options.rounds,
                "concurrency": options.concurrency,
                "latency_s": options.latency,
                "calls": bench.calls,
                "unbroken": bench.unbroken(),
                "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
            }
            if options.kills:
                found["broken"] = bench.broken()
    finally:
        server.communicate("")
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
