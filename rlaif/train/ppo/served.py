"""A server that draws the policy's responses: vLLM, or another that speaks its protocol.

    served = ServedPolicy("http://localhost:8000/v1", "base", folder=Path("runs/ppo/served"))
    PPOTrainer(model, rewards, args, rows, peft_config=lora, served_policy=served)

Prompts go out as token ids to `/completions`, and token ids come back (`return_token_ids`). After
each update the adapters are written to a folder and the server loads them from there under a new
name (vLLM: `--enable-lora`, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, and a file system in common). The
log-probabilities that PPO compares are computed here, so that the server's rounding costs nothing
but a little of being on-policy.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rlaif.errors import BackendError, ConfigError
from rlaif.train.ppo.rollout import Episodes, pad_left

if TYPE_CHECKING:
    import httpx

_TRIES = 5
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

Drawn = tuple[list[int], bool]
"""The tokens of a response with the one that ends it, and whether it ended by itself."""


class ServedPolicy:
    """A policy behind an OpenAI-compatible server.

    Args:
        base_url: Its address, such as http://localhost:8000/v1.
        model: The name under which it serves the policy as it is before training.
        folder: Where adapters are put for the server; a path that it can read too.
        api_key: What the server wants to see, if anything.
        timeout_s: Longest wait for one response.
        concurrency: Most responses that are drawn at once.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        folder: Path,
        api_key: str | None = None,
        timeout_s: float = 300.0,
        concurrency: int = 256,
    ) -> None:
        self.model = model
        self._url = base_url.rstrip("/")
        # a name of this process alone: a server may hold adapters of another run
        self._base, self._stem = model, f"{model}-{uuid4().hex[:8]}"
        self._folder = folder
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._concurrency = concurrency

    def __repr__(self) -> str:
        return f"ServedPolicy({self._url!r}, {self.model!r})"

    async def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        most: int,
        ends: Collection[int],
        temperature: float,
        seed: int,
    ) -> list[Drawn]:
        """A response to each prompt, from the policy that was last published.

        Raises:
            BackendError: the server did not answer, or answered without token ids.
        """
        gate = asyncio.Semaphore(self._concurrency)
        body = {
            "model": self.model,
            "max_tokens": most,
            "temperature": temperature,
            "top_p": 1.0,
            "stop_token_ids": sorted(ends),
            "ignore_eos": not ends,
            "return_token_ids": True,
        }

        async def one(client: httpx.AsyncClient, place: int, prompt: Sequence[int]) -> Drawn:
            async with gate:
                asked = {**body, "prompt": list(prompt), "seed": (seed + place) % 2**31}
                return _read(await self._post(client, "completions", asked), ends)

        async with self._client() as client:
            return list(await asyncio.gather(*(one(client, i, p) for i, p in enumerate(prompts))))

    async def publish(self, policy: Any, update: int) -> None:
        """Let the server draw from the policy as it is now.

        Raises:
            ConfigError: the policy has no adapters; its whole weights do not travel this way.
            BackendError: the server does not load them.
        """
        if not hasattr(policy, "disable_adapter"):
            raise ConfigError("a server follows a policy by its adapters: give peft_config")
        name = f"{self._stem}-update-{update}"
        place = self._folder / name.replace("/", "_")
        shutil.rmtree(place, ignore_errors=True)
        await asyncio.to_thread(policy.save_pretrained, place)
        before = self.model
        async with self._client() as client:
            loaded = {"lora_name": name, "lora_path": str(place.resolve())}
            await self._post(client, "load_lora_adapter", loaded)
            self.model = name
            if before != self._base:
                await self._post(client, "unload_lora_adapter", {"lora_name": before})
                shutil.rmtree(self._folder / before.replace("/", "_"), ignore_errors=True)

    def _client(self) -> httpx.AsyncClient:
        import httpx

        return httpx.AsyncClient(
            headers=self._headers,
            timeout=self._timeout_s,
            limits=httpx.Limits(max_connections=self._concurrency),
        )

    async def _post(self, client: httpx.AsyncClient, where: str, body: Mapping[str, Any]) -> Any:
        """The answer to a call, asked again where that may help; text where it is no JSON."""
        import httpx

        url = f"{self._url}/{where}"
        for attempt in range(1, _TRIES + 1):
            try:
                answer = await client.post(url, json=dict(body))
            except httpx.HTTPError as error:
                failure = BackendError(f"{url}: {type(error).__name__}", kind="connection")
            else:
                if answer.is_success:
                    return _json(answer)
                words = f"{url}: {answer.status_code} {answer.text[:200]}"
                failure = BackendError(words, kind="server")
                if answer.status_code not in _RETRIED:
                    raise BackendError(words, kind="request", fatal=True)
            if attempt < _TRIES:
                await asyncio.sleep(0.2 * 2**attempt)
        raise failure


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text


def _read(answer: Any, ends: Collection[int]) -> Drawn:
    """The response in an answer of `/completions`.

    Raises:
        BackendError: it holds no token ids.
    """
    try:
        choice = answer["choices"][0]
        tokens = [int(token) for token in choice["token_ids"]]
        stopped = choice["finish_reason"] == "stop"
    except (KeyError, IndexError, TypeError, ValueError) as error:
        words = "the server's completions have no token_ids: it must know return_token_ids"
        raise BackendError(words, kind="bad_reply", fatal=True) from error
    over = next((place for place, token in enumerate(tokens) if token in ends), None)
    if over is not None:
        return tokens[: over + 1], True
    if stopped and ends:  # the token that ended it was left out
        named = choice.get("stop_reason")
        return [*tokens, named if isinstance(named, int) else min(ends)], True
    if not tokens:
        raise BackendError("the server drew no token", kind="bad_reply")
    return tokens, False


def episodes_of(prompts: Sequence[Sequence[int]], drawn: Sequence[Drawn], pad: int) -> Episodes:
    """Prompts and responses given as token ids, as tensors."""
    import torch

    before, mask = pad_left(prompts, pad)
    length = max(len(tokens) for tokens, _ in drawn)
    after = torch.full((len(drawn), length), pad, dtype=torch.long)
    there = torch.zeros((len(drawn), length), dtype=torch.long)
    for row, (tokens, _) in enumerate(drawn):
        after[row, : len(tokens)] = torch.as_tensor(tokens)
        there[row, : len(tokens)] = 1
    ended = torch.tensor([stopped for _, stopped in drawn])
    return Episodes(torch.cat([before, after], 1), torch.cat([mask, there], 1), length, ended)
