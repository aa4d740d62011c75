"""How fast the service answers: requests to /v1/score, and rewards to /get_reward.

    python scripts/bench_service.py --requests 20000 --clients 500 --verdicts 100000

A server judged by an instant script runs in a process of its own, and after it a FastAPI endpoint
of a few lines that does no work, as reward servers are often written. Both get the same load from
clients in this process. With `--verdicts`, also how long each page takes of two runs that large;
with `--store URL`, what the service keeps is kept in PostgreSQL. Prints tables, and all of it as
one JSON object, which `--json` writes to a file instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from rlaif.cli.output import table

MINIMAL = """
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
import uvicorn

app = FastAPI()


@app.post("/get_reward")
async def get_reward(request: Request):
    data = await request.json()
    rewards = [0.5 for _ in data.get("query", [0])]
    return JSONResponse({"rewards": rewards, "scores": rewards, "extra_logs": {"x": rewards}})


uvicorn.run(app, host="127.0.0.1", port={port}, log_level="error", access_log=False)
"""
CHOICES = {
    "one": '{"match": "", "reply": "[[A]]"}\n',
    "other": '{"match": "What is 7", "reply": "Hm."}\n{"match": "", "reply": "[[A]]"}\n',
}
"""The scripts of two judges of pairs, which differ on every ninth pair or so."""


@contextmanager
def process(*command: str, env: dict[str, str]):
    child = subprocess.Popen([sys.executable, *command], env=env, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(20)


def rss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(url: str, bodies: list[bytes], clients: int, pid: int) -> dict[str, float]:
    """Post `bodies` from so many connections; requests a second, latencies, the server's work."""
    left = iter(bodies)
    took: list[float] = []
    errors = 0
    headers = {"content-type": "application/json"}

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal errors
        for body in left:
            started = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
                errors += answer.status != 200
            took.append(time.perf_counter() - started)

    connector = aiohttp.TCPConnector(limit=clients)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        started, used = time.perf_counter(), cpu_s(pid)
        await asyncio.gather(*(client(session) for _ in range(clients)))
        seconds, used = time.perf_counter() - started, cpu_s(pid) - used
    took.sort()
    return {
        "requests": len(took),
        "errors": errors,
        "per_second": round(len(took) / seconds, 1),
        "cpu_us": round(1e6 * used / len(took), 1),
        "p50_ms": round(1000 * took[len(took) // 2], 2),
        "p99_ms": round(1000 * took[int(0.99 * (len(took) - 1))], 2),
    }


async def in_process(script: Path, home: Path, n: int) -> float:
    """Microseconds of processor time that one fresh verdict takes without any HTTP."""
    from rlaif.api.judging import Judge
    from rlaif.runner import ordered
    from rlaif.specs.items import read_data

    judge = Judge(f"scripted/{script}", store=home / "in-process.sqlite")
    rows = [{"prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(n)]
    grader = judge.pointwise()
    started = time.process_time()
    async for _ in ordered(
        read_data(rows, "score"), lambda pair: grader.score(pair[0], pair[1][0]), concurrency=256
    ):
        pass
    return 1e6 * (time.process_time() - started) / n


def wait_for(child: subprocess.Popen[str], pattern: str) -> str:
    for line in child.stderr:
        if found := re.search(pattern, line):
            return found[1]
    raise SystemExit("the server did not begin")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def wait_until_open(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(200):
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise SystemExit("the minimal endpoint did not begin")


def score_bodies(n: int, salt: str) -> list[bytes]:
    made = ({"prompt": f"What is {i} {salt}?", "response": f"It is {i}."} for i in range(n))
    return [json.dumps(body).encode() for body in made]


async def make_run(session: aiohttp.ClientSession, url: str, judge: str, n: int) -> str:
    """The id of a run of `n` comparisons, which is done."""
    rows = (
        {
            "prompt": f"What is {i} times {i}? " * 20,
            "response_a": f"It is {i * i}, says alpha. " * 20,
            "response_b": f"It is {i + i}, says beta. " * 20,
            "model_a": "alpha",
            "model_b": "beta",
        }
        for i in range(n)
    )
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    async with session.post(f"{url}/v1/uploads", data=data) as answer:
        upload = (await answer.json())["upload"]
    work = {"kind": "compare", "judge": judge, "data": {"upload": upload}}
    async with session.post(f"{url}/v1/runs", json=work) as answer:
        run = await answer.json()
    while run["state"] in ("queued", "running"):
        await asyncio.sleep(1)
        async with session.get(f"{url}/v1/runs/{run['id']}") as answer:
            run = await answer.json()
    if run["state"] != "done":
        raise SystemExit(f"the run ended as {run}")
    return run["id"]


async def pages(url: str, n: int) -> dict[str, list[float]]:
    """Milliseconds of each page of two runs of `n` verdicts: the median and the worst of 20."""
    page = aiohttp.ClientSession(headers={"accept": "text/html"})
    async with page, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
        a, b = [await make_run(session, url, judge, n) for judge in CHOICES]

        async def look(path: str) -> str:
            async with page.get(url + path) as answer:
                if answer.status != 200:
                    raise SystemExit(f"{path}: {answer.status}")
                return await answer.text()

        for name in (a, b):  # the index is made before the report
            while "data-waits" in await look(f"/runs/{name}/report"):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        found = {}
        for name, path in {
            "runs": "/",
            "run": f"/runs/{a}",
            "verdicts": f"/runs/{a}/verdicts",
            "verdicts_last": f"/runs/{a}/verdicts?page={n // 25}",
            "search": f"/runs/{a}/verdicts?q=says+alpha",
            "filter": f"/runs/{b}/verdicts?reading=tie&model=beta&page=100",
            "verdict": f"/runs/{a}/verdicts/{n // 2}",
            "report": f"/runs/{a}/report",
            "label": f"/runs/{a}/label",
            "label_unsure": f"/runs/{a}/label?queue=unsure",
            "flips": f"/flips?a={a}&b={b}",
            "flips_last": f"/flips?a={a}&b={b}&page={n // 250}",
        }.items():
            took = []
            for _ in range(20):
                started = time.perf_counter()
                await look(path)
                took.append(round(1000 * (time.perf_counter() - started), 1))
            found[name] = [sorted(took)[10], max(took)]
        return found


def reward_bodies(n: int) -> list[bytes]:
    prompts = [f"What is {i}? Think it over and answer in one sentence. " for i in range(64)]
    body = {"query": [f"{p}It is {i}." for i, p in enumerate(prompts)], "prompts": prompts}
    return [json.dumps(body).encode()] * n


async def bench(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    script = folder / "script.jsonl"
    script.write_text('{"match": "", "reply": "Fine. [[4]]"}\n')
    port = free_port()
    (folder / "minimal.py").write_text(MINIMAL.replace("{port}", str(port)))
    config = folder / "service.yaml"
    config.write_text(f"judges:\n  default: {{model: scripted/{script}}}\n")
    for name, lines in CHOICES.items():
        (folder / name).write_text(lines)
        with config.open("a") as file:
            file.write(f"  {name}: {{model: scripted/{folder / name}}}\n")
    env = os.environ | {"RLAIF_HOME": str(folder / "home")}
    found: dict[str, object] = {}
    serve = ["-m", "rlaif", "serve", "-c", str(config), "--port", "0"]
    if arguments.store:
        serve += ["--store", arguments.store]
    with process(*serve, env=env) as child:
        url = wait_for(child, r"(http://\S+)")
        await load(f"{url}/v1/score", score_bodies(500, "warm"), 50, child.pid)
        before = rss_mb(child.pid)
        n, clients = arguments.requests, arguments.clients
        bodies = score_bodies(n, "a")
        found["score_fresh"] = await load(f"{url}/v1/score", bodies, clients, child.pid)
        middle = rss_mb(child.pid)
        found["score_cached"] = await load(f"{url}/v1/score", bodies, clients, child.pid)
        found["rss_mb"] = [round(value) for value in (before, middle, rss_mb(child.pid))]
        rewards = await load(f"{url}/get_reward", reward_bodies(arguments.batches), 32, child.pid)
        found["get_reward_64"] = rewards | {"rewards_per_second": 64 * rewards["per_second"]}
        if arguments.verdicts:
            found["pages_ms"] = await pages(url, arguments.verdicts)
            found["rss_mb"].append(round(rss_mb(child.pid)))
    with process(str(folder / "minimal.py"), env=env) as child:
        url = f"http://127.0.0.1:{port}/get_reward"
        await wait_until_open(url)
        await load(url, reward_bodies(100), 32, child.pid)
        found["minimal_one"] = await load(url, bodies, clients, child.pid)
        found["minimal_64"] = await load(url, reward_bodies(arguments.batches), 32, child.pid)
    found["in_process_us"] = round(await in_process(script, folder, 5000), 1)
    for name, beside in (("score_fresh", "one"), ("score_cached", "one"), ("get_reward_64", "64")):
        ours, theirs = found[name], found[f"minimal_{beside}"]
        found[f"ratio_{name}"] = {
            "throughput": round(ours["per_second"] / theirs["per_second"], 3),
            "work": round(theirs["cpu_us"] / max(ours["cpu_us"], 1.0), 3),
        }
    return found


def show(found: dict[str, Any]) -> None:
    """Print what was asked, and what share of the minimal endpoint's rate that is."""
    columns = ("per_second", "cpu_us", "p50_ms", "p99_ms", "errors")
    loads = [name for name, one in found.items() if isinstance(one, dict) and "cpu_us" in one]
    rows = [
        [name, *(found[name][c] for c in columns), found.get(f"ratio_{name}", {}).get("throughput")]
        for name in loads
    ]
    table("load", ("", *columns, "of minimal"), rows, note=f"RSS {found['rss_mb']} MiB")
    if "pages_ms" in found:
        table("pages, ms", ("", "median", "worst"), [(k, *v) for k, v in found["pages_ms"].items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--batches", type=int, default=3000)
    parser.add_argument("--verdicts", type=int, default=0)
    parser.add_argument("--store", metavar="URL")
    parser.add_argument("--json", type=Path, help="a file for all of it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(bench(arguments, Path(folder)))
    show(found)
    text = json.dumps(found, indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
