#!/usr/bin/env python
"""Speed and memory of the statistics, beside the packages that do the same. Seeded.

    python scripts/bench_stats.py                          # all of it: some minutes
    python scripts/bench_stats.py --only bootstrap --json out.json
    python scripts/bench_stats.py --arena-python PATH      # an interpreter that has arena-rank

Each contestant runs in a process of its own, so that its peak memory is its own; importing and
making the data are not timed. Peers are timed on fewer rounds and scaled to all of them, which
leaves their set-up out and so flatters them. Three tasks:

- bootstrap: Bradley-Terry strengths of 200 models from 1,000,000 comparisons on 1,000 prompts
  (both orders of each pair), 1,000 rounds. `rlaif` and `choix` and `scikit-learn` draw prompts;
  `arena-rank` draws comparisons, the only thing it can, as `rlaif, comparisons` does beside it.
- length: length-controlled win rates of 200 models on 805 prompts.
- stream: 100,000, 300,000 and 1,000,000 verdict records, from disk to a table of win rates and
  strengths; peak memory beside the number of records and of pairs of models on prompts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value


def votes(a: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Comparisons of a judge whose liking for models varies by prompt: i, j, y, prompt."""
    rng = np.random.default_rng(a.seed)
    strengths = rng.normal(0, 1, a.models)
    half = a.comparisons // 2
    prompt = np.repeat(np.arange(a.prompts), -(-half // a.prompts))[:half]
    i = rng.integers(a.models, size=half)
    j = (i + rng.integers(1, a.models, size=half)) % a.models
    favor = strengths + rng.normal(0, 0.5, (a.prompts, a.models))
    first, second, both = np.concatenate([i, j]), np.concatenate([j, i]), np.tile(prompt, 2)
    p = sigmoid(favor[both, first] - favor[both, second])
    u = rng.random(both.size)
    y = np.where(u < 0.85 * p, 1.0, np.where(u < 0.85 * p + 0.15, 0.5, 0.0))
    return first, second, y, both


def bootstrap_rlaif(a: argparse.Namespace, *, by_prompt: bool = True) -> Result:
    from rlaif.stats.bootstrap import bootstrap_bradley_terry

    i, j, y, prompt = votes(a)
    bootstrap_bradley_terry([0, 1], [1, 0], [1, 1], 2, ridge=1.0)  # it imports scipy when called
    before = peak_mb()
    seconds, boot = timed(
        lambda: bootstrap_bradley_terry(
            i, j, y, a.models, clusters=prompt if by_prompt else None, rounds=a.rounds, seed=a.seed
        )
    )
    return {
        "seconds": seconds,
        "rounds": a.rounds,
        "before_mb": before,
        "se": float(boot.se.mean()),
        "strength": float(boot.strengths[0]),
    }


def bootstrap_rlaif_comparisons(a: argparse.Namespace) -> Result:
    return bootstrap_rlaif(a, by_prompt=False)


def peer(a: argparse.Namespace, fit: Callable[[np.ndarray], np.ndarray], wins: Any) -> Result:
    """Time `fit` on resampled tables, scaled to all rounds; `wins` makes a table from weights."""
    before = peak_mb()
    rng = np.random.default_rng(a.seed)
    full = fit(wins(np.ones(a.prompts)))
    draws = []
    start = time.perf_counter()
    for _ in range(a.peer_rounds):
        drawn = np.bincount(rng.integers(a.prompts, size=a.prompts), minlength=a.prompts)
        draws.append(fit(wins(drawn.astype(float))))
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds * a.rounds / a.peer_rounds,
        "rounds": a.peer_rounds,
        "before_mb": before,
        "se": float(np.std(draws, axis=0, ddof=1).mean()),
        "strength": float(full[0] - full.mean()),
    }


def bootstrap_choix(a: argparse.Namespace) -> Result:
    import choix

    i, j, y, prompt = votes(a)
    n, start = a.models, np.zeros(a.models)

    def wins(drawn: np.ndarray) -> np.ndarray:
        weight, size = drawn[prompt], n * n
        forth = np.bincount(i * n + j, weight * y, size)
        return (forth + np.bincount(j * n + i, weight * (1 - y), size)).reshape(n, n)

    def fit(table: np.ndarray) -> np.ndarray:
        nonlocal start
        start = choix.ilsr_pairwise_dense(table, initial_params=start, tol=1e-8, max_iter=1000)
        return np.asarray(start)

    return peer(a, fit, wins)


def bootstrap_sklearn(a: argparse.Namespace) -> Result:
    from scipy.sparse import csr_matrix, vstack
    from sklearn.linear_model import LogisticRegression

    i, j, y, prompt = votes(a)
    n = a.models
    pairs, row = np.unique(i * n + j, return_inverse=True)
    where = np.arange(pairs.size)
    columns = np.concatenate([pairs // n, pairs % n])
    values = np.repeat([1.0, -1.0], pairs.size)
    design = csr_matrix((values, (np.tile(where, 2), columns)), shape=(pairs.size, n))
    design, labels = vstack([design, design]).tocsr(), np.repeat([1, 0], pairs.size)

    def weights(drawn: np.ndarray) -> np.ndarray:
        weight = drawn[prompt]
        won = np.bincount(row, weight * y, pairs.size)
        return np.concatenate([won, np.bincount(row, weight * (1 - y), pairs.size)])

    model = LogisticRegression(
        C=np.inf, fit_intercept=False, tol=1e-6, max_iter=1000, warm_start=True
    )

    def fit(weight: np.ndarray) -> np.ndarray:
        coefficients = model.fit(design, labels, sample_weight=weight).coef_[0]
        return np.asarray(coefficients - coefficients.mean())

    return peer(a, fit, weights)


def bootstrap_arena_rank(a: argparse.Namespace) -> Result:
    import jax
    import pandas as pd
    from arena_rank.models.bradley_terry import BradleyTerry, fit_single_bootstrap_sample
    from arena_rank.utils.data_utils import PairDataset

    i, j, y, _ = votes(a)
    names = np.array([f"m{k:05}" for k in range(a.models)])
    outcome = np.array(["model_b", "tie", "model_a"])[(2 * y).astype(int)]
    frame = pd.DataFrame({"model_a": names[i], "model_b": names[j], "winner": outcome})
    before = peak_mb()
    data = PairDataset.from_pandas(frame)
    model = BradleyTerry(a.models)
    model.fit(data)
    # Its own loop forks a process that runs JAX, which may never come back: this is the work of
    # one of its workers, in this process, compiled beforehand.
    share = data.counts / data.counts.sum()
    key, size = jax.random.PRNGKey(a.seed), int(data.counts.sum())
    fit_single_bootstrap_sample(data.counts, model, data)

    def run() -> list[np.ndarray]:
        shape = (a.peer_rounds, data.counts.shape[0])
        counts = jax.random.multinomial(key, size, share, shape=shape, dtype=model.dtype)
        return [np.asarray(fit_single_bootstrap_sample(c, model, data)["ratings"]) for c in counts]

    seconds, draws = timed(run)
    ratings = np.asarray(model.params["ratings"])
    return {
        "seconds": seconds * a.rounds / a.peer_rounds,
        "rounds": a.peer_rounds,
        "before_mb": before,
        "se": float(np.std(draws, axis=0, ddof=1).mean()),
        "strength": float(ratings[0] - ratings.mean()),
    }


def lengths(a: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Outcomes and lengths of many models on 805 prompts: y, baseline, model (by row), d."""
    rng = np.random.default_rng(a.seed)
    n = 805
    d, baseline = rng.normal(0, 1.5, n), rng.lognormal(7.5, 0.4, n)
    model = baseline * rng.lognormal(0, 0.6, (a.models, n))
    t = np.tanh((baseline - model) / (baseline - model).std(axis=1, keepdims=True))
    odds = -1.5 * t + 0.8 * d + rng.normal(-1, 1, (a.models, 1)) + rng.logistic(0, 1, t.shape)
    return sigmoid(3 * odds), baseline, model, d


def length_rlaif(a: argparse.Namespace, rounds: int = 0) -> Result:
    from rlaif.stats.length_control import refit_win_rate

    y, baseline, model, d = lengths(a)
    before = peak_mb()
    seconds, found = timed(
        lambda: [
            refit_win_rate(y[k], baseline, model[k], d, rounds=rounds) for k in range(a.models)
        ]
    )
    return {
        "seconds": seconds,
        "rounds": rounds,
        "before_mb": before,
        "mean": float(np.mean([rate.value for rate in found])),
    }


def length_rlaif_errors(a: argparse.Namespace) -> Result:
    return length_rlaif(a, 200)


def length_sklearn(a: argparse.Namespace) -> Result:
    from sklearn.linear_model import LogisticRegression

    from rlaif.stats.length_columns import length_term
    from rlaif.stats.length_control import DEFAULT_C

    y, baseline, model, d = lengths(a)
    before = peak_mb()
    fit = LogisticRegression(
        l1_ratio=1, C=DEFAULT_C, solver="liblinear", fit_intercept=False, tol=1e-4, max_iter=1000
    )

    def one(k: int) -> float:
        x = np.column_stack([length_term(baseline, model[k]), d, np.ones(d.size)])
        labels, weight = np.repeat([1, 0], d.size), np.concatenate([y[k], 1 - y[k]])
        w = fit.fit(np.vstack([x, x]), labels, sample_weight=weight).coef_[0]
        return float(sigmoid(w[1] * d + w[2]).mean())

    seconds, found = timed(lambda: [one(k) for k in range(a.models)])
    return {"seconds": seconds, "rounds": 0, "before_mb": before, "mean": float(np.mean(found))}


def write_verdicts(path: Path, a: argparse.Namespace) -> None:
    """Comparison records as a run folder holds them, a tenth without a verdict.

    Each model meets the baseline on every prompt before any pair meets again: the first
    `models` times `prompts` records are of new pairs, the others repeat them.
    """
    from rlaif.types import (
        Call,
        Candidate,
        Item,
        JudgeRef,
        Message,
        OrderVerdict,
        Preference,
        Sampling,
        Usage,
        Verdict,
    )

    rng = np.random.default_rng(a.seed)
    judge = JudgeRef("scripted/judge", "verdict", Sampling())
    calls = tuple(
        Call(digest="0" * 64, reply="[[A]]", usage=Usage(), latency_s=0.0, cached=True, shown=shown)
        for shown in ("AB", "BA")
    )
    with path.open("w", encoding="utf-8") as file:
        for k in range(a.verdicts):
            p = float(rng.random())
            winner = "A" if p > 0.5 else "B"
            item = Item(f"q{k % a.prompts}", (Message("user", "What is the tallest mountain?"),))
            model = f"m{k // a.prompts % a.models}"
            sides = (
                Candidate(model, (Message("assistant", "Mount Everest, at 8,849 m."),), model),
                Candidate("base", (Message("assistant", "It is Everest."),), "base"),
            )
            orders = (OrderVerdict("AB", winner, p), OrderVerdict("BA", winner, p))
            found: dict[str, Any] = {"status": "no_verdict", "cause": "unreadable"}
            if k % 10:
                found = {"status": "ok", "preference": Preference(winner, p, orders, True)}
            verdict = Verdict(f"v{k}", "comparison", item, sides, judge, calls=calls, **found)
            file.write(json.dumps(verdict.as_dict()) + "\n")


def stream_rlaif(a: argparse.Namespace, share: float = 1.0) -> Result:
    """The first `share` of the records, as `rlaif leaderboard` reads them."""
    import scipy.linalg
    import scipy.sparse
    import scipy.special  # noqa: F401

    from rlaif.evals.leaderboard import LeaderboardTable, Settings
    from rlaif.evals.reading import read_runs

    path = Path(a.file)
    verdicts = round(a.verdicts * share)
    if share < 1:
        whole, path = path, path.with_name(f"first-{verdicts}.jsonl")
        with whole.open("rb") as source, path.open("wb") as part:
            part.writelines(itertools.islice(source, verdicts))
    before = peak_mb()

    def run() -> dict[str, Any]:
        table = LeaderboardTable()
        read_runs([path], table.add)
        return table.result(Settings(baseline="base"))

    seconds, found = timed(run)
    return {
        "seconds": seconds,
        "rounds": 0,
        "before_mb": before,
        "verdicts": verdicts,
        "records_per_s": verdicts / seconds,
        "file_mb": path.stat().st_size / 2**20,
        "pairs_on_prompts": min(verdicts, a.models * a.prompts),
        "models": len(found["rows"]),
    }


def stream_tenth(a: argparse.Namespace) -> Result:
    return stream_rlaif(a, 0.1)


def stream_third(a: argparse.Namespace) -> Result:
    return stream_rlaif(a, 0.3)


TASKS: dict[str, dict[str, Callable[[argparse.Namespace], Result]]] = {
    "bootstrap": {
        "rlaif": bootstrap_rlaif,
        "choix": bootstrap_choix,
        "scikit-learn": bootstrap_sklearn,
        "rlaif, comparisons": bootstrap_rlaif_comparisons,
        "arena-rank": bootstrap_arena_rank,
    },
    "length": {
        "rlaif": length_rlaif,
        "rlaif, 200 rounds": length_rlaif_errors,
        "scikit-learn": length_sklearn,
    },
    "stream": {
        "rlaif, a tenth": stream_tenth,
        "rlaif, three tenths": stream_third,
        "rlaif": stream_rlaif,
    },
}
OURS = {"arena-rank": "rlaif, comparisons"}
"""Which of our rows does the same work as a peer, where it is not `rlaif`."""


def run_apart(a: argparse.Namespace, task: str, name: str) -> Result:
    """One contestant in a process of its own."""
    python = a.arena_python if name == "arena-rank" else sys.executable
    options = [f"--{key}={getattr(a, key.replace('-', '_'))}" for key in NUMBERS]
    command = [python, __file__, "--inside", f"{task}:{name}", f"--file={a.file}", *options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=a.patience
        )
    except subprocess.TimeoutExpired:
        return {"absent": f"no answer in {a.patience} s"}
    except OSError as error:
        return {"absent": f"{python}: {error.strerror}"}
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return {"absent": reason[0]}
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


NUMBERS = {
    "comparisons": 1_000_000,
    "models": 200,
    "prompts": 1_000,
    "rounds": 1_000,
    "peer-rounds": 20,
    "verdicts": 1_000_000,
    "seed": 0,
}


def show(task: str, found: dict[str, Result]) -> None:
    print(f"\n{task}\n{'':22}{'seconds':>10}{'ratio':>8}{'peak MB':>9}{'before':>8}  rest")
    for name, result in found.items():
        if "absent" in result:
            print(f"{name:22}{'absent':>10}  {result['absent'][:70]}")
            continue
        ours = found[OURS.get(name, "rlaif")].get("seconds")
        ratio = f"{result['seconds'] / ours:7.1f}x" if ours else ""
        left_out = {"seconds", "peak_mb", "before_mb"}
        rest = {key: value for key, value in result.items() if key not in left_out}
        print(
            f"{name:22}{result['seconds']:10.2f}{ratio:>8}{result['peak_mb']:9.0f}"
            f"{result['before_mb']:8.0f}  "
            + " ".join(f"{key}={value:.4g}" for key, value in rest.items())
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=sorted(TASKS))
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--patience", type=int, default=600, help="seconds for one contestant")
    parser.add_argument("--arena-python", default=sys.executable)
    parser.add_argument("--file", default="", help=argparse.SUPPRESS)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.inside:
        task, name = a.inside.split(":")
        result = TASKS[task][name](a)
        print(json.dumps({**result, "peak_mb": peak_mb()}))
        return
    results: dict[str, dict[str, Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task, contestants in TASKS.items():
            if a.only not in {None, task}:
                continue
            if task == "stream":
                a.file = str(Path(folder) / "verdicts.jsonl")
                write_verdicts(Path(a.file), a)
            results[task] = {name: run_apart(a, task, name) for name in contestants}
            show(task, results[task])
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    report = {"machine": machine, "options": {k: vars(a)[k.replace("-", "_")] for k in NUMBERS}}
    text = json.dumps({**report, "results": results}, indent=2)
    print("\n" + text)
    if a.json:
        a.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
