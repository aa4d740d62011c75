"""What held-out pairs say of a model: accuracy with its interval, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlaif.stats.agreement import wilson


def measured_pairs(
    trainer: Any, differences: Callable[[Any, Mapping[str, Any]], Any], *, scale: float
) -> dict[str, Any]:
    """How the model tells the held-out pairs apart.

    Args:
        trainer: With the rows as its `eval_dataset`.
        differences: Of a network and a batch, what speaks for the chosen response: shape (n,).
        scale: Nats for each unit of it.

    Returns:
        `n`, `accuracy` (equal ones count half) with `low` and `high` (95 %, Wilson), and
        `log_loss`, nats: of taking the chosen response as the better one.
    """
    import torch
    from torch.nn.functional import logsigmoid

    network, accelerator = trainer.model, trainer.accelerator
    training = network.training
    network.eval()
    found = []
    with torch.no_grad():
        for batch in trainer.get_eval_dataloader():
            given = differences(network, {k: v.to(network.device) for k, v in batch.items()})
            found.append(accelerator.gather_for_metrics(given.float()).cpu())
    network.train(training)
    d = torch.cat(found)
    right = float((d > 0).sum() + 0.5 * (d == 0).sum())
    low, high = wilson(right, len(d))
    return {
        "n": len(d),
        "accuracy": right / len(d),
        "low": low,
        "high": high,
        "log_loss": float(-logsigmoid(scale * d).mean()),
    }
