"""A task of which the optimum is known: answer `ok`, and stop, from a policy that has no idea.

A response earns a third for each of its first three tokens that is right: o, k, the end. The policy
guesses among 259 tokens at first, so that what is right has to be found at each place by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

WORD = "ok"
PROMPTS = [{"prompt": f"say {n}:"} for n in range(1, 4)]
"""They end alike, as the prompts of a chat do. Where they do not, what is learned of one spoils
another at first, and a response that is right but for a token may be too sure of it to change."""
SETTINGS: dict[str, Any] = {
    "total_episodes": 16384,
    "batch_size": 256,
    "micro_batch_size": 256,
    "rollout_batch_size": 256,
    "epochs": 2,
    "learning_rate": 2e-3,
    "max_grad_norm": 0.1,
    "response_length": 5,
    "missing_eos_penalty": 0.1,
    "kl_stop": 0.03,
    "kl_coefficient": 0.0,
    "entropy_coefficient": 0.05,
    "advantage_memory": 0.99,
    "logged_samples": 0,
    "save_updates": 10**6,
}
"""Of `PPOConfig`. An update has about as many responses as there are tokens to guess from, so that
what is right at a place is found before the policy is sure of something else there: of 64, one run
in five ended with two places of three. Steps are small, two passes with gradients cut to 0.1, and
`kl_stop` ends an update that goes further: where all responses are right, one of 0.3 nats a token
has thrown a policy out of the optimum. The entropy keeps places open where nothing was found yet:
what pays at one is tried at all. The penalty does so for the end, which is wrong at the first two
places and might be given up before it was ever tried at the third."""


def reward_for(tokenizer: Any) -> Callable[..., list[float]]:
    """The reward function, for the tokens of a policy."""
    word = [*tokenizer.encode(WORD), tokenizer.eos_token_id]

    def fixed_word(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [
            sum(a == b for a, b in zip(ids, word, strict=False)) / len(word)
            for ids in completion_ids
        ]

    return fixed_word


def train(folder: Path, output: Path, seed: int, **given: Any) -> dict[str, Any]:
    """Train the checkpoint in `folder`; the summary. 90 held-out responses measure it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlaif.train.ppo import PPOConfig, PPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer = PPOTrainer(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_for(tokenizer),
        PPOConfig(output, seed=seed, **(SETTINGS | given)),
        PROMPTS,
        processing_class=tokenizer,
        eval_dataset=PROMPTS * 30,
    )
    return trainer.train()
