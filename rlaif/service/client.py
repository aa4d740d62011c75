"""Rewards from a service, for trainers: TRL's reward function and verl's `compute_score`.

    from rlaif.service.client import ServiceReward

    reward = ServiceReward("http://judge:8000", token=TOKEN)
    GRPOTrainer(model, reward_funcs=[reward], args=config, train_dataset=prompts)

    # verl: custom_reward_function.path=…/rlaif/service/client.py, .name=compute_score,
    #       .reward_kwargs.url=http://judge:8000, .reward_kwargs.token_file=/run/secrets/judge
    # OpenRLHF needs no client: --remote_rm_url http://judge:8000/get_reward

The trainer's machine needs no service and no provider's key: only this file and httpx.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from rlaif.backends._http import retry_after
from rlaif.background import bridged, run_blocking, waiting
from rlaif.errors import BackendError, Cause, ConfigError, DataError, VerdictError
from rlaif.rewards.texts import messages_of
from rlaif.types import CAUSES, Role, as_dict

if TYPE_CHECKING:
    import httpx

_TRIES = 6
_LONGEST_WAIT_S = 30.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class ServiceReward:
    """A reward function that asks a service. Rewards lie in [-1, 1], `None` without a verdict.

    Args:
        url: The service, such as http://localhost:8000.
        token: What it asks for, where it does.
        judge: Which of its judges.
        rubric: One of its rubrics, instead of the judge's own.
        by: Whether a reward is a grade, or the standing among the completions of its prompt.
        opponents: By comparison, how many others each completion meets; all by default.
        reference: The column with each prompt's reference; `None` for none.
        batch: Most completions of one request; a prompt's group is not divided.
        timeout_s: Longest wait for one request.
        name: What the trainer calls it in its logs.

    Raises:
        ConfigError: the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        judge: str = "default",
        rubric: str | None = None,
        by: Literal["score", "comparison"] = "score",
        opponents: int | None = None,
        reference: str | None = "reference",
        batch: int = 512,
        timeout_s: float = 600.0,
        name: str = "judge",
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"the service's URL begins with http:// or https://, not {url[:40]!r}"
            )
        self.__name__ = name
        self._url = url.rstrip("/")
        self._token = token
        self._asked = {"judge": judge, "by": by}
        if rubric is not None:
            self._asked["rubric"] = rubric
        self._opponents = opponents
        self._reference = reference
        self._batch = batch
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"ServiceReward({self._url!r}, judge={self._asked['judge']!r})"

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: object = None,
        *,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """The reward of each completion, `None` where there is no verdict.

        Args:
            prompts: One for each completion, text or messages; a group shares an equal one.
            completions: Text or messages.
            completion_ids: Not read.
            log_metric: Told of the coverage and the cost, under the name's prefix.
            columns: The data set's; the reference is taken from its own.

        Raises:
            DataError: prompts and completions are not as many, or one is no text.
            ConfigError: the service refuses the request.
            BackendError: the service cannot be reached, or its judge cannot.
        """
        del completion_ids
        if len(prompts) != len(completions):
            message = f"{len(prompts)} prompts are not as many as {len(completions)} completions"
            raise DataError(message)
        references = columns.get(self._reference) if self._reference else None
        rewards, _, cost = await self.judged(prompts, completions, references)
        if log_metric is not None and rewards:
            read = sum(reward is not None for reward in rewards)
            log_metric(f"{self.__name__}/coverage", read / len(rewards))
            log_metric(f"{self.__name__}/cost_usd", cost)
        return rewards

    @property
    def blocking(self) -> Callable[..., list[float | None]]:
        """The same as a plain function, which waits: for trainers that do not await."""
        return waiting(self, self.__name__)

    def close(self) -> None:
        """Give the connections back. Safe to call twice."""
        if self._client is not None:
            run_blocking(self._client.aclose())
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def judged(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        references: Sequence[Any] | None = None,
    ) -> tuple[list[float | None], list[str | None], float]:
        """The rewards, why there is none, and what they cost in US dollars.

        Raises:
            DataError, ConfigError, BackendError: as a call.
        """
        asked = [_plain(prompt, "user", "prompt") for prompt in prompts]
        given = [_plain(completion, "assistant", "completion") for completion in completions]
        known = list(references) if references is not None else [None] * len(asked)
        known = [one if isinstance(one, str) and one else None for one in known]
        parts = _parts(asked, self._batch)
        answers = await bridged(self._all([self._body(asked, given, known, p) for p in parts]))
        rewards: list[float | None] = [None] * len(asked)
        causes: list[str | None] = [None] * len(asked)
        for places, answer in zip(parts, answers, strict=True):
            for place, reward, cause in zip(
                places, answer["rewards"], answer["causes"], strict=True
            ):
                rewards[place], causes[place] = reward, cause
        return rewards, causes, sum(answer["cost_usd"] for answer in answers)

    def _body(
        self, prompts: list[Any], completions: list[Any], references: list[Any], part: list[int]
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            **self._asked,
            "prompts": [prompts[place] for place in part],
            "completions": [completions[place] for place in part],
        }
        if any(references[place] for place in part):
            body["references"] = [references[place] for place in part]
        if self._opponents is not None:
            body["opponents"] = self._opponents
        return body

    async def _all(self, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(self._post(body) for body in bodies)))

    async def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        import httpx

        if self._client is None:
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            self._client = httpx.AsyncClient(
                base_url=self._url, headers=headers, timeout=self._timeout_s, trust_env=False
            )
        failure = ""
        for attempt in range(_TRIES):
            wait_s = min(_LONGEST_WAIT_S, 0.5 * 2.0**attempt)
            try:
                response = await self._client.post("/v1/rewards", json=body)
            except httpx.HTTPError as error:
                failure = f"the service {self._url} cannot be reached: {type(error).__name__}"
            else:
                if response.status_code == 200:
                    return _answer(response)
                failure = f"the service answers {response.status_code}: {_detail(response)}"
                if response.status_code not in _AGAIN:
                    raise ConfigError(failure)
                asked_s = retry_after(response.headers)
                wait_s = wait_s if asked_s is None else asked_s
            if attempt < _TRIES - 1:
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
        raise BackendError(failure, retryable=True, kind="connection")


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: object,
    extra_info: Mapping[str, Any] | None = None,
    *,
    url: str,
    token_file: str | None = None,
    judge: str = "default",
    rubric: str | None = None,
    neutral: float | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Verl's reward of one response: `score`, `no_verdict` (0 or 1) and `cost_usd`.

    Args:
        data_source: Not read.
        solution_str: The response.
        ground_truth: The reference, where it is text.
        extra_info: Holds the prompt as `prompt` (text or messages) or `question`.
        url: The service.
        token_file: A file with the token, where the service asks for one.
        judge: Which of its judges.
        rubric: One of its rubrics, instead of the judge's own.
        neutral: The reward of a response without a verdict; without it that is an error.
        kwargs: Not read.

    Raises:
        DataError: there is no prompt.
        VerdictError: there is no verdict, and no neutral reward.
        ConfigError, BackendError: as `ServiceReward`.
    """
    del data_source, kwargs
    info = extra_info or {}
    prompt = info.get("prompt") if info.get("prompt") is not None else info.get("question")
    if prompt is None or not len(prompt):
        raise DataError("extra_info needs the prompt, as 'prompt' or 'question'")
    if not isinstance(prompt, str):
        prompt = list(prompt)  # Parquet gives arrays
    reward = _shared(url, token_file, judge, rubric)
    rewards, causes, cost = await reward.judged([prompt], [solution_str], [ground_truth])
    score = neutral if rewards[0] is None else rewards[0]
    if score is None:
        cause: Cause = next((known for known in CAUSES if known == causes[0]), "unreadable")
        raise VerdictError(
            f"a response has no verdict ({causes[0]}) and no neutral reward is set", cause=cause
        )
    return {"score": score, "no_verdict": int(rewards[0] is None), "cost_usd": cost}


@cache
def _shared(url: str, token_file: str | None, judge: str, rubric: str | None) -> ServiceReward:
    """One client, and its connections, for all responses that verl asks about."""
    token = Path(token_file).read_text(encoding="utf-8").strip() if token_file else None
    return ServiceReward(url, token=token, judge=judge, rubric=rubric)


def _plain(value: object, role: Role, what: str) -> Any:
    return value if isinstance(value, str) else as_dict(messages_of(value, role, what))


def _parts(prompts: Sequence[Any], most: int) -> list[list[int]]:
    """Places of requests of at most `most` completions, those of equal prompts together."""
    groups: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(repr(prompt), []).append(place)
    parts: list[list[int]] = []
    for places in groups.values():
        if not parts or len(parts[-1]) + len(places) > most:
            parts.append([])
        parts[-1].extend(places)
    return parts


def _answer(response: httpx.Response) -> dict[str, Any]:
    """The rewards in an answer.

    Raises:
        ConfigError: it holds none, as of whatever else stands at the URL.
    """
    try:
        answer: dict[str, Any] = response.json()
        if {"rewards", "causes", "cost_usd"} <= answer.keys():
            return answer
    except (ValueError, AttributeError):
        pass
    raise ConfigError("the answer holds no rewards: is the service's URL right?")


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])[:300]
    except (ValueError, KeyError, TypeError):
        return "it gives no reason"
