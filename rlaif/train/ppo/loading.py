"""The parts of a training as the caller gives them, made ready."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlaif.errors import ConfigError
from rlaif.train.ppo.actor import without_dropout
from rlaif.train.ppo.config import PPOConfig


def load_policy(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """The policy and its tokenizer, read from a folder where one is given.

    Raises:
        ConfigError: there is no such checkpoint, or no tokenizer for a model in memory.
    """
    if not isinstance(model, str | Path):
        if tokenizer is None:
            raise ConfigError("a model in memory needs its tokenizer: processing_class")
        return model, tokenizer
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlaif.backends.local import check_checkpoint, quiet_transformers

    check_checkpoint(Path(model))
    quiet_transformers()
    network = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, local_files_only=True
    )
    return network, tokenizer or AutoTokenizer.from_pretrained(model, local_files_only=True)


def with_adapters(policy: Any, peft_config: Any, seed: int) -> Any:
    """The policy, with adapters if any are wanted, which begin the same for the same seed.

    Raises:
        ConfigError: it has some already.
    """
    if peft_config is None:
        return policy
    import torch
    from peft import PeftModel, get_peft_model

    if isinstance(policy, PeftModel):
        raise ConfigError("the model has adapters already: leave out peft_config")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(policy, peft_config)


def reference_model(policy: Any, given: Any, args: PPOConfig, *, adapters: bool) -> Any:
    """The reference; None where adapters can be switched off, or where nothing is penalized.

    Args:
        policy: What will be trained, before it has new adapters.
        given: The reference that the caller wants.
        args: The settings.
        adapters: Whether the policy will have new adapters.
    """
    if given is None and (adapters or hasattr(policy, "disable_adapter")):
        return None
    if given is None and not args.kl_coefficient:
        return None
    held = given if given is not None else copy.deepcopy(policy)
    without_dropout(held)
    return held.requires_grad_(False).eval()


def adam(moving: Sequence[Any], args: PPOConfig) -> Any:
    """The optimizer, with one pass over all weights a step.

    Raises:
        ConfigError: there is nothing to move.
    """
    import torch

    if not moving:
        raise ConfigError("no weight of the model moves")
    return torch.optim.AdamW(
        moving,
        lr=args.learning_rate,
        eps=args.adam_epsilon,
        weight_decay=args.weight_decay,
        fused=all(weights.device.type in ("cpu", "cuda") for weights in moving),
    )
