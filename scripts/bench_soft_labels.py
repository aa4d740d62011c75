"""Soft against hard labels where labels are noisy: DPO and a reward model, on known preferences.

    python scripts/bench_soft_labels.py [--seeds 10] [--pairs 256] [--json FILE]

Responses are four words out of 24, each word has a hidden value, and
P(a preferred) = sigmoid(scale * (value of a - value of b)). Each seed draws values, pairs and
weights anew. The policy is a recurrent network, the reward model a sum over words; both are trained
with the losses of `rlaif.train.losses`, on the same pairs with the same settings, by

- soft: p itself;
- drawn: the winner that one draw of the judge gives, right with probability p, taken as certain;
- likelier: the winner that p favors, never wrong, and all taken as certain alike.

Measured on 400 held-out pairs of unseen responses: `accuracy`, how often the model prefers what is
truly better; `excess`, the cross-entropy to the true p over the least there can be, nats; for DPO
also `quality`, the mean hidden value of what the policy says where it first is 0.2 nats a response
from the reference, in standard deviations of a random response, and `kl_end`, how far it has gone
in the end. Differences are soft minus hard over the same seeds, with a 95 % t interval.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlaif.stats.means import mean_interval
from rlaif.train.losses import soft_dpo_loss, soft_reward_loss

WORDS, LENGTH, HELD_OUT, SPOKEN = 24, 4, 400, 2000
KL_LEVEL = 0.2
KINDS = ("soft", "drawn", "likelier")
Row = dict[str, Any]


class Policy(torch.nn.Module):
    """A recurrent network that says one word after another."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(WORDS + 1, 16)
        self.state = torch.nn.GRU(16, 32, batch_first=True)
        self.next = torch.nn.Linear(32, WORDS)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        """Log-probability of each response, nats: shape (n,) of (n, 4)."""
        before = torch.cat([torch.full_like(texts[:, :1], WORDS), texts[:, :-1]], 1)
        logits = self.next(self.state(self.words(before))[0]).log_softmax(-1)
        return logits.gather(2, texts[:, :, None]).sum((1, 2))

    def say(self, n: int) -> torch.Tensor:
        """Responses drawn: shape (n, 4)."""
        made = torch.full((n, 1), WORDS)
        for _ in range(LENGTH):
            odds = self.next(self.state(self.words(made))[0][:, -1]).softmax(-1)
            made = torch.cat([made, torch.multinomial(odds, 1)], 1)
        return made[:, 1:]


class RewardModel(torch.nn.Module):
    """A reward for each word, and a little for how they stand together."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(WORDS, 16)
        self.inner = torch.nn.Linear(LENGTH * 16, 32)
        self.out = torch.nn.Linear(32, 1)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        """The reward of each response: shape (n,) of (n, 4)."""
        return self.out(torch.tanh(self.inner(self.words(texts).flatten(1))))[:, 0]


def labeled(kind: str, p: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """P(first preferred) as the loss is told."""
    return {"soft": p, "drawn": drawn.float(), "likelier": (p > 0.5).float()}[kind]


def descend(
    network: torch.nn.Module,
    loss: Any,
    given: argparse.Namespace,
    look: Callable[[], None] = lambda: None,
) -> None:
    """So many steps of Adam on the whole data, with a look every four."""
    optimizer = torch.optim.Adam(network.parameters(), given.learning_rate)
    for step in range(given.steps):
        if step % 4 == 0:
            look()
        optimizer.zero_grad()
        loss().mean().backward()
        optimizer.step()


def judged(policy: Policy, start: Policy, value: torch.Tensor) -> tuple[float, float]:
    """How far a policy went, nats a response, and how good is what it says."""
    with torch.no_grad():
        made = policy.say(SPOKEN)
        kl = float((policy(made) - start(made)).mean())
    return kl, float(value[made].sum(1).mean() / LENGTH**0.5)


def at_equal_kl(path: list[tuple[float, float]], level: float) -> float:
    """The quality where a run's KL first reaches `level`, between two looks; else at its end."""
    for (kl, quality), (further, then) in itertools.pairwise(path):
        if further >= level > kl:
            return quality + (then - quality) * (level - kl) / (further - kl)
    return path[-1][1]


def measured(difference: Any, truth: Any) -> dict[str, float]:
    """What held-out pairs say of `difference`, what speaks for the first response."""
    p = 1 / (1 + np.exp(-truth))
    cross = p * np.logaddexp(0, -difference) + (1 - p) * np.logaddexp(0, difference)
    least = p * np.logaddexp(0, -truth) + (1 - p) * np.logaddexp(0, truth)
    return {
        "accuracy": float(np.mean((difference > 0) == (truth > 0))),
        "excess": float(np.mean(cross - least)),
    }


def one_seed(seed: int, scale: float, given: argparse.Namespace) -> dict[str, Row]:
    """What each trainer makes of each kind of labels."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    value = torch.tensor(rng.standard_normal(WORDS), dtype=torch.float32)
    a, b = (torch.tensor(rng.integers(WORDS, size=(given.pairs, LENGTH))) for _ in "ab")
    far, near = (torch.tensor(rng.integers(WORDS, size=(HELD_OUT, LENGTH))) for _ in "ab")
    p = torch.sigmoid(scale * (value[a].sum(1) - value[b].sum(1)))
    drawn = torch.tensor(rng.random(given.pairs)) < p
    truth = (scale * (value[far].sum(1) - value[near].sum(1))).numpy()
    start, untaught = Policy(), RewardModel()
    with torch.no_grad():
        reference = start(a) - start(b)
    found: dict[str, Row] = {}
    for kind in KINDS:
        label = labeled(kind, p, drawn)
        policy, model = copy.deepcopy(start), copy.deepcopy(untaught)
        path: list[tuple[float, float]] = []
        descend(
            policy,
            lambda: soft_dpo_loss(policy(a) - policy(b) - reference, label, given.beta),  # noqa: B023
            given,
            lambda: path.append(judged(policy, start, value)),  # noqa: B023
        )
        path.append(judged(policy, start, value))
        descend(model, lambda: soft_reward_loss(model(a) - model(b), label), given)  # noqa: B023
        with torch.no_grad():
            gains = [policy(x) - start(x) for x in (far, near)]
            found[f"dpo {kind}"] = measured(given.beta * (gains[0] - gains[1]).numpy(), truth) | {
                "quality": at_equal_kl(path, KL_LEVEL),
                "kl_end": path[-1][0],
            }
            found[f"reward {kind}"] = measured((model(far) - model(near)).numpy(), truth)
    return found


def summarized(runs: list[dict[str, Row]]) -> list[Row]:
    """Means, and soft minus hard with its interval, for each trainer and measure."""
    table = []
    for trainer in ("dpo", "reward"):
        for measure in runs[0][f"{trainer} soft"]:
            values = {k: [run[f"{trainer} {k}"][measure] for run in runs] for k in KINDS}
            row: Row = {"trainer": trainer, "measure": measure}
            row |= {kind: float(np.mean(values[kind])) for kind in KINDS}
            for kind in KINDS[1:]:
                pairs = zip(values["soft"], values[kind], strict=True)
                gap = mean_interval([s - h for s, h in pairs])
                row[f"minus_{kind}"] = [gap.value, gap.low, gap.high]
            table.append(row)
    return table


def show(scale: float, sure: float, table: list[Row]) -> None:
    print(f"\nscale {scale:g}: one draw is right with probability {sure:.2f}")
    head = ("trainer", "measure", *KINDS, "soft - drawn", "soft - likelier")
    print(("{:<8} {:<9}" + " {:>8}" * 3 + " {:>27}" * 2).format(*head))
    for row in table:
        gaps = [row[f"minus_{kind}"] for kind in KINDS[1:]]
        told = [f"{g[0]:+.3f} [{g[1]:+.3f}, {g[2]:+.3f}]" for g in gaps]
        means = "".join(f" {row[kind]:>8.3f}" for kind in KINDS)
        print(
            f"{row['trainer']:<8} {row['measure']:<9}{means}" + "".join(f" {t:>27}" for t in told)
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    torch.set_num_threads(1)  # the products are small
    given, started = arguments(), time.monotonic()
    results: dict[str, Any] = {}
    for scale in given.scales:
        runs = [one_seed(seed, scale, given) for seed in range(given.seeds)]
        draws = np.random.default_rng(0).standard_normal((100_000, 2)) * np.sqrt(LENGTH)
        sure = float(np.mean(1 / (1 + np.exp(-scale * np.abs(draws[:, 0] - draws[:, 1])))))
        table = summarized(runs)
        results[f"{scale:g}"] = {"right": sure, "rows": table}
        show(scale, sure, table)
    if given.json:
        seconds = round(time.monotonic() - started, 1)
        told = {k: v for k, v in vars(given).items() if k != "json"}
        given.json.write_text(
            json.dumps({"settings": told, "seconds": seconds, "results": results}, indent=2)
        )


if __name__ == "__main__":
    main()
