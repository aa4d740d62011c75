"""What a service offers and allows: the file of `rlaif serve --config`.

    judges:
      default: {model: openai/gpt-5.1, rubric: helpfulness}
      quick: {model: server/judge, base_url: "http://gpu:8000/v1", rubric: correctness}
    inputs: /srv/datasets          # runs may read data sets below it; without it only uploads
    limits: {batch: 1000, upload_mb: 500}

A request names a judge of this file, and may name another rubric that the file allows. Models,
addresses and keys come from here and from the server's environment alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from rlaif.errors import ConfigError, suggestion
from rlaif.judge.methods import CompareMethod
from rlaif.specs.rubric import Rubric, load_rubric
from rlaif.specs.shipped import is_path, shipped_files
from rlaif.specs.yamlfile import YamlFile, read_yaml

Text = Annotated[str, Field(min_length=1)]
Amount = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, le=10_000_000)]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class JudgeConfig(_Strict):
    """One judge that requests may name."""

    model: Text
    """Its address, `provider/name`."""
    base_url: Text | None = None
    """Its server, for `server/`."""
    rubric: Text = "helpfulness"
    """The rubric it judges by, unless the request names another that is allowed."""
    method: CompareMethod = "auto"
    temperature: Annotated[float, Field(le=2, allow_inf_nan=False)] = 0.0
    max_tokens: Count = 1024
    draws: Count | None = None
    timeout_s: Amount = 120.0
    """Longest wait for one call."""
    concurrency: Count | None = None
    """Most calls in flight to its endpoint; found by itself by default."""
    requests_per_minute: Amount | None = None
    tokens_per_minute: Amount | None = None


class Limits(_Strict):
    """What one request, one token and the whole service may take."""

    body_mb: Amount = 16.0
    """Largest body of a request, in megabytes."""
    upload_mb: Amount = 512.0
    """Largest data set that is uploaded."""
    batch: Count = 4096
    """Most items of one request."""
    rows: Count = 1_000_000
    """Most rows of a run."""
    in_flight: Count = 2048
    """Most requests that are worked on at once; more are answered 503."""
    header_s: Amount = 10.0
    """Longest time that a client may take to send the head of a request."""
    body_s: Amount = 60.0
    """Longest time that a client may take to send its body."""
    request_s: Amount = 600.0
    """Longest time that an answer may take."""
    runs_at_once: Count = 2
    """Runs that one server process works on at once."""
    queued_runs: Count = 1000
    """Most runs that wait, over all tokens."""
    queued_runs_a_token: Count = 100


class RewardConfig(_Strict):
    """How rewards are made for trainers whose protocol cannot say which judge to ask."""

    judge: Text = "default"
    by: Literal["score", "comparison"] = "score"
    opponents: Count | None = None
    neutral: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """The reward of a response without a verdict, counted in `extra_logs`. Without it such a batch
    is answered 503 with the causes, which OpenRLHF asks again."""


class ServiceConfig(_Strict):
    """Everything about one service but its address and its tokens."""

    judges: Annotated[dict[Text, JudgeConfig], Field(min_length=1)]
    rubrics: list[Text] | None = None
    """Rubrics that requests may name, shipped names or files; every shipped one by default."""
    inputs: Text | None = None
    """Folder below which runs may read data sets."""
    hosts: list[Text] = []
    """Names by which browsers reach this service, beside the address it listens on."""
    limits: Limits = Limits()
    reward: RewardConfig = RewardConfig()


def load_config(path: Path) -> ServiceConfig:
    """The configuration in a YAML file; its own relative paths are below the file's folder.

    Raises:
        SpecError: it is malformed: names the line and the field.
    """
    document = read_yaml(path)
    config = document.validated(ServiceConfig)
    check(config, document)
    beside = path.resolve().parent
    judges = {
        name: judge.model_copy(update={"rubric": _beside(judge.rubric, beside)})
        for name, judge in config.judges.items()
    }
    rubrics = config.rubrics and [_beside(name, beside) for name in config.rubrics]
    inputs = config.inputs and str(beside / config.inputs)
    return config.model_copy(update={"judges": judges, "rubrics": rubrics, "inputs": inputs})


def _beside(name: str, folder: Path) -> str:
    return str(folder / name) if is_path(name) else name


def check(config: ServiceConfig, document: YamlFile) -> None:
    """Raise `SpecError` unless the parts of `config` fit each other."""
    for name in config.judges:
        if not _NAME.fullmatch(name):
            raise document.error("should be letters, digits, '.', '_' and '-'", "judges", name)
        if name == "people":
            raise document.error("is what a run names that asks no judge", "judges", name)
    wanted = config.reward.judge
    if wanted not in config.judges and "reward" in document.data:
        hint = suggestion(wanted, config.judges)
        raise document.error(f"there is no judge {wanted!r}; {hint}", "reward", "judge")
    if any(judge.temperature < 0 for judge in config.judges.values()):
        raise document.error("a temperature is 0 or more", "judges")


def allowed_rubrics(config: ServiceConfig) -> dict[str, Rubric]:
    """The rubrics that requests may name, by name, in order of name.

    Raises:
        SpecError: a file is missing or malformed.
        ConfigError: two files give the same name to different rubrics.
    """
    named = list(shipped_files("rubrics")) if config.rubrics is None else config.rubrics
    found: dict[str, Rubric] = {}
    for one in [*named, *(judge.rubric for judge in config.judges.values())]:
        rubric = load_rubric(one)
        if found.setdefault(rubric.name, rubric).digest != rubric.digest:
            raise ConfigError(f"two rubrics are called {rubric.name!r}: give one another name")
    return dict(sorted(found.items()))


Value = TypeVar("Value")


def known(name: str, among: dict[str, Value], what: str) -> Value:
    """What is called `name`.

    Raises:
        ConfigError: nothing is.
    """
    if name not in among:
        shown = name if len(name) <= 64 else name[:64] + "…"
        raise ConfigError(f"there is no {what} {shown!r} here; {suggestion(name[:64], among)}")
    return among[name]
