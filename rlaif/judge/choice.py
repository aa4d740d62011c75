"""Which way of asking suits a model: what `auto` stands for."""

from __future__ import annotations

from rlaif.backends.base import Backend
from rlaif.backends.opening import layers

SMALL_MODEL_PARAMETERS = 1_000_000_000
"""A smaller local model is not asked for verdicts by default: it says "A" to everything."""


def is_small(backend: Backend) -> bool:
    """Whether the model is a local one that is too small to be asked for verdicts."""
    *_, provider = layers(backend)
    parameters: int = getattr(provider, "parameters", SMALL_MODEL_PARAMETERS)
    return parameters < SMALL_MODEL_PARAMETERS


def is_reward(backend: Backend) -> bool:
    """Whether the model gives rewards and no replies: a sequence classifier."""
    return backend.model.startswith("reward/")
