"""How many comparisons a ranking of N needs: active choice against random pairing and merge sort.

    python scripts/bench_ranking.py [--quick] [--seeds N] [--json FILE]
        [--annotations FOLDER] [--noise NATS]

A judge's whole table is drawn first: P(i preferred to j) = sigmoid(s_i - s_j + e), e normal, one
for each pair, as of a judge that answers the same whenever it is asked. Strengths are normal with
standard deviation 1.5 (`bt`), or log-odds of recorded AlpacaEval preferences against the baseline
(`alpaca`). The target is the order of the full round robin over that table. Every row uses the same
estimator; `random` asks the pairs in random order.

`random` and `active` are the comparisons after which Kendall's tau, averaged over the seeds, stays
at 0.95 or more, with the line drawn from the last count below it; `first_` the mean over seeds of
the comparisons at which a run first reaches 0.95, with its standard error. For N = 8 a run is at
0.95 only where none of the 28 pairs is misordered. Merge sort is shown with
the comparisons and the tau it ends with; log2 N! is what any sort by yes and no needs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.judge.tournament import active_rounds, merge_sort_rounds
from rlaif.stats.numeric import sigmoid
from rlaif.stats.pair_choice import Standing
from rlaif.stats.ranks import kendall_tau

Floats = NDArray[np.float64]
TAU = 0.95
SIZES = {8: 200, 16: 60, 32: 20, 64: 8}
"""Candidates, and seeds by default."""
COLUMNS = (
    "judge",
    "n",
    "pairs",
    "log2_factorial",
    "random",
    "active",
    "ratio",
    "ratio_se",
    "first_random",
    "first_active",
    "first_active_se",
    "first_ratio",
    "merge_sort",
    "merge_sort_tau",
    "seeds",
    "wall_s",
)
_EDGE = 0.003
"""Recorded preferences are moved into [edge, 1 - edge] before their log-odds are taken."""


def recorded_strengths(folder: Path) -> Floats:
    """Log-odds of the preferences in AlpacaEval's annotations, nats."""
    found: list[float] = []
    for path in sorted(folder.glob("*.jsonl*")):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line)["preference"] for line in file]
        found += [row - 1 for row in rows if row is not None and row >= 1]
    p = np.clip(np.array(found), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p / (1 - p)))


def judge_table(n: int, rng: np.random.Generator, noise: float, pool: Floats | None) -> Floats:
    """P(row preferred to column), shape (n, n)."""
    strengths = rng.normal(0, 1.5, n) if pool is None else rng.choice(pool, n)
    p = sigmoid(strengths[:, None] - strengths[None, :] + rng.normal(0, noise, (n, n)))
    upper = np.triu(p, 1)
    return np.asarray(upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(n))


def path_to_target(table: Floats, rounds: str, rng: np.random.Generator) -> list[tuple[int, float]]:
    """(comparisons, tau with the full round robin's order) after each round."""
    n, standing = len(table), Standing(len(table))
    target = table.sum(axis=1)
    source = {
        "random": _random_rounds,
        "active": active_rounds,
        "merge-sort": merge_sort_rounds,
    }[rounds](standing, rng)
    path, count = [], 0
    for pairs in source:
        for i, j in pairs:
            standing.add(i, j, float(table[i, j]))
        count += len(pairs)
        s = standing.strengths
        path.append((count, kendall_tau(s, target) if np.ptp(s) > 0 else 0.0))
        if rounds != "merge-sort" and count >= n * (n - 1) // 2:
            break
    return path


def _random_rounds(standing: Standing, rng: np.random.Generator) -> Any:
    i, j = np.triu_indices(standing.n, 1)
    order = rng.permutation(i.size)
    step = max(1, standing.n // 8)
    for start in range(0, i.size, step):
        yield [(int(i[k]), int(j[k])) for k in order[start : start + step]]


def curve(path: Sequence[tuple[int, float]], pairs: int) -> Floats:
    """Tau after 0, 1, ... `pairs` comparisons, shape (pairs + 1,): that of the last round."""
    found = np.zeros(pairs + 1)
    for count, tau in path:
        found[count:] = tau
    return found


def needed(curves: Floats) -> float:
    """The comparisons from which on the mean tau stays at `TAU`, between two counts by a line."""
    mean = curves.mean(axis=0)
    below = np.flatnonzero(mean < TAU)
    if not below.size:
        return 0.0
    last = int(below[-1])
    return float(last + (TAU - mean[last]) / (mean[last + 1] - mean[last]))


def ratio_error(active: Floats, random: Floats, rng: np.random.Generator) -> float:
    """Standard error of needed(active) / needed(random), by resampling the seeds together."""
    n = len(active)
    drawn = [rng.integers(0, n, n) for _ in range(200)]
    return float(np.std([needed(active[d]) / needed(random[d]) for d in drawn]))


def row(kind: str, n: int, seeds: int, noise: float, pool: Floats | None) -> dict[str, Any]:
    """One line of the table."""
    pairs, started = n * (n - 1) // 2, time.monotonic()
    curves: dict[str, Floats] = {}
    ends: list[tuple[int, float]] = []
    for name in ("random", "active", "merge-sort"):
        paths = []
        for seed in range(seeds):
            table = judge_table(n, np.random.default_rng([seed, n]), noise, pool)
            paths.append(path_to_target(table, name, np.random.default_rng([seed, n, 1])))
        curves[name] = np.array([curve(path, pairs) for path in paths])
        ends = [path[-1] for path in paths]
    first = {k: np.argmax(c >= TAU, axis=1) for k, c in curves.items() if k != "merge-sort"}
    mean = {k: needed(curves[k]) for k in first}
    return {
        "judge": kind,
        "noise_nats": noise,
        "n": n,
        "seeds": seeds,
        "pairs": pairs,
        "log2_factorial": round(math.lgamma(n + 1) / math.log(2), 1),
        "random": round(mean["random"], 1),
        "active": round(mean["active"], 1),
        "ratio": round(mean["active"] / mean["random"], 3),
        "ratio_se": round(
            ratio_error(curves["active"], curves["random"], np.random.default_rng(0)), 3
        ),
        "first_random": round(float(first["random"].mean()), 1),
        "first_active": round(float(first["active"].mean()), 1),
        "first_active_se": round(float(first["active"].std(ddof=1) / math.sqrt(seeds)), 1),
        "first_ratio": round(float(first["active"].mean() / first["random"].mean()), 3),
        "merge_sort": round(float(np.mean([count for count, _ in ends])), 1),
        "merge_sort_tau": round(float(np.mean([tau for _, tau in ends])), 3),
        "wall_s": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="N = 8 and 16 with few seeds")
    parser.add_argument("--seeds", type=int, help="tables for each row")
    parser.add_argument("--noise", type=float, default=0.5, help="of a pair's log-odds, nats")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument(
        "--annotations",
        type=Path,
        default=Path(__file__).resolve().parents[2] / "shared/data/alpaca_eval/annotations",
        help="AlpacaEval's annotations",
    )
    args = parser.parse_args()
    pools: dict[str, Floats | None] = {"bt": None}
    if args.annotations.is_dir():
        pools["alpaca"] = recorded_strengths(args.annotations)
    else:
        print(f"no annotations in {args.annotations}: only drawn strengths")
    sizes = {8: 10, 16: 4} if args.quick else SIZES
    print("  ".join(COLUMNS))
    rows = []
    for kind, pool in pools.items():
        for n, seeds in sizes.items():
            rows.append(row(kind, n, args.seeds or seeds, args.noise, pool))
            print("  ".join(str(rows[-1][c]).rjust(len(c)) for c in COLUMNS), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"tau": TAU, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
