"""LLM judges whose verdicts you can trust, and the preference data and training that follow.

Importing this package loads no torch, no trl and no provider's SDK: each public name is imported
when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rlaif.backends.base import Backend, BackendOptions
    from rlaif.backends.cached import CachedBackend
    from rlaif.backends.limited import LimitedBackend
    from rlaif.backends.registry import open_provider
    from rlaif.backends.retrying import RetryingBackend
    from rlaif.backends.scripted import ScriptedBackend
    from rlaif.errors import (
        BackendError,
        ConfigError,
        DataError,
        RlaifError,
        SpecError,
        StoreError,
        VerdictError,
    )
    from rlaif.judge.likelihood import LikelihoodJudge
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.judge.pointwise import PointwiseJudge
    from rlaif.judge.reward import RewardJudge
    from rlaif.specs.constitution import Constitution, load_constitution
    from rlaif.specs.rubric import Rubric, load_rubric
    from rlaif.store.replies import ReplyStore
    from rlaif.types import (
        Candidate,
        Comparison,
        Completion,
        Item,
        Message,
        PreferencePair,
        Request,
        Sampling,
        Verdict,
    )

_HOME = {
    "Backend": "backends.base",
    "BackendError": "errors",
    "BackendOptions": "backends.base",
    "CachedBackend": "backends.cached",
    "Candidate": "types",
    "Comparison": "types",
    "Completion": "types",
    "ConfigError": "errors",
    "Constitution": "specs.constitution",
    "DataError": "errors",
    "Item": "types",
    "LikelihoodJudge": "judge.likelihood",
    "LimitedBackend": "backends.limited",
    "Message": "types",
    "PairwiseJudge": "judge.pairwise",
    "PointwiseJudge": "judge.pointwise",
    "PreferencePair": "types",
    "ReplyStore": "store.replies",
    "Request": "types",
    "RetryingBackend": "backends.retrying",
    "RewardJudge": "judge.reward",
    "RlaifError": "errors",
    "Rubric": "specs.rubric",
    "Sampling": "types",
    "ScriptedBackend": "backends.scripted",
    "SpecError": "errors",
    "StoreError": "errors",
    "Verdict": "types",
    "VerdictError": "errors",
    "load_constitution": "specs.constitution",
    "load_rubric": "specs.rubric",
    "open_provider": "backends.registry",
}

__all__ = [
    "Backend",
    "BackendError",
    "BackendOptions",
    "CachedBackend",
    "Candidate",
    "Comparison",
    "Completion",
    "ConfigError",
    "Constitution",
    "DataError",
    "Item",
    "LikelihoodJudge",
    "LimitedBackend",
    "Message",
    "PairwiseJudge",
    "PointwiseJudge",
    "PreferencePair",
    "ReplyStore",
    "Request",
    "RetryingBackend",
    "RewardJudge",
    "RlaifError",
    "Rubric",
    "Sampling",
    "ScriptedBackend",
    "SpecError",
    "StoreError",
    "Verdict",
    "VerdictError",
    "__version__",
    "load_constitution",
    "load_rubric",
    "open_provider",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rlaif' has no attribute {name!r}")
    value = getattr(import_module(f"rlaif.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
