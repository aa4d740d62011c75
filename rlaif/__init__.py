"""LLM judges whose verdicts you can trust, and the preference data and training that follow.

    import rlaif

    judge = rlaif.Judge("openai/gpt-5.1", rubric="helpfulness", budget_usd=1.00)
    verdicts = judge.compare("pairs.jsonl")         # both orders, kept, retried, within the budget
    verdicts.table()                                # in a notebook: a table with its intervals

    reward = judge.reward()                         # for reward_funcs of TRL's online trainers

Importing this package loads no torch, no trl and no provider's SDK: each public name is imported
when it is first used. Errors are in `rlaif.errors`; all of them are `RlaifError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rlaif.api.judging import Judge
    from rlaif.api.opening import open_backend
    from rlaif.api.table import Table
    from rlaif.api.verdicts import Verdicts
    from rlaif.backends.base import Backend
    from rlaif.backends.scripted import ScriptedBackend
    from rlaif.errors import BackendError, RlaifError
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.judge.pointwise import PointwiseJudge
    from rlaif.judge.tournament import Tournament
    from rlaif.rewards.judge_reward import JudgeReward
    from rlaif.specs.constitution import Constitution, load_constitution
    from rlaif.specs.rubric import Rubric, load_rubric
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
    "Candidate": "types",
    "Comparison": "types",
    "Completion": "types",
    "Constitution": "specs.constitution",
    "Item": "types",
    "Judge": "api.judging",
    "JudgeReward": "rewards.judge_reward",
    "Message": "types",
    "PairwiseJudge": "judge.pairwise",
    "PointwiseJudge": "judge.pointwise",
    "PreferencePair": "types",
    "Request": "types",
    "RlaifError": "errors",
    "Rubric": "specs.rubric",
    "Sampling": "types",
    "ScriptedBackend": "backends.scripted",
    "Table": "api.table",
    "Tournament": "judge.tournament",
    "Verdict": "types",
    "Verdicts": "api.verdicts",
    "load_constitution": "specs.constitution",
    "load_rubric": "specs.rubric",
    "open_backend": "api.opening",
}

__all__ = [
    "Backend",
    "BackendError",
    "Candidate",
    "Comparison",
    "Completion",
    "Constitution",
    "Item",
    "Judge",
    "JudgeReward",
    "Message",
    "PairwiseJudge",
    "PointwiseJudge",
    "PreferencePair",
    "Request",
    "RlaifError",
    "Rubric",
    "Sampling",
    "ScriptedBackend",
    "Table",
    "Tournament",
    "Verdict",
    "Verdicts",
    "__version__",
    "load_constitution",
    "load_rubric",
    "open_backend",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rlaif' has no attribute {name!r}")
    value = getattr(import_module(f"rlaif.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
