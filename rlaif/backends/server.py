"""Any OpenAI-compatible server (vLLM, Ollama, llama.cpp, LM Studio): the address `server/NAME`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from rlaif.backends._body import Body, read_json
from rlaif.backends._chat import chat_body, chat_messages, parse_chat, parse_usage
from rlaif.backends._connection import Connection
from rlaif.backends._corrections import Corrections
from rlaif.backends._dialect import EXTRAS, Dialect, extras, find_dialect, wants_extras
from rlaif.backends._http import (
    Endpoint,
    api_root,
    clean_key,
    clean_proxy,
    nothing_there,
    proxy_place,
    status_error,
    unknown_model,
)
from rlaif.backends._limits import read_limits
from rlaif.backends.base import BackendOptions
from rlaif.backends.pace import OnLimits
from rlaif.backends.timeouts import Timeouts
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Messages, Request, TokenLogprob

KEY = "RLAIF_SERVER_API_KEY"
_MOST_PREFIXES = 4096
_OPTIONAL = frozenset(
    {
        *("temperature", "top_p", "seed", "logprobs", "top_logprobs"),
        *("reasoning_effort", "response_format"),
    }
)
"""Parameters that may be left out where the server refuses them."""


class ServerBackend:
    """Chat completions of one model of a server, over one session that keeps its connections.

    It speaks HTTP itself: an SDK costs several times the processor time per call, which shows with
    a fast local server. With the task `likelihood` it asks for vLLM's `prompt_logprobs`; choices
    and prompts that others begin with are told in the server's own dialect, see `_dialect`.

    Args:
        name: The model's name at the server.
        options: `base_url` is required, with or without the `/v1` at its end; `api_key` is not.

    Raises:
        ConfigError: the URL is missing, or the key or the URL cannot be one.
    """

    def __init__(self, name: str, options: BackendOptions) -> None:
        if not options.base_url:
            raise ConfigError("server/ needs the server's address: pass --base-url URL")
        key = clean_key(options.api_key, KEY)
        proxy = clean_proxy(options.proxy)
        self._endpoint = Endpoint(
            "the server", api_root(options.base_url), name, KEY, key, proxy_place(proxy)
        )
        connect_s = min(Timeouts().connect_s, options.timeout_s)
        self.timeouts = Timeouts(connect_s=connect_s, total_s=options.timeout_s)
        self.on_limits: OnLimits | None = None
        """Told what the headers of every answer say is left of the server's limits."""
        self._connection = Connection(self._endpoint, self.timeouts, proxy)
        self._corrections = Corrections(_OPTIONAL | EXTRAS, {"max_tokens": "max_completion_tokens"})
        self._dialect: asyncio.Future[Dialect] | None = None
        self._prefix_tokens: dict[Messages, int] = {}
        self._model = f"server/{name}"
        self._identity = f"{self._model}@{self._endpoint.url}"

    @property
    def model(self) -> str:
        return self._model

    @property
    def identity(self) -> str:
        return self._identity

    async def complete(self, request: Request) -> Completion:
        """The model's reply, or the log-probabilities of the last message.

        Raises:
            BackendError: the server failed, refused the request, or cannot score given text (then
                fatal).
        """
        started = time.perf_counter()
        if request.task == "likelihood":
            return await self._score(request, started)
        if request.task == "reward":
            raise ConfigError(f"{self.model} gives no rewards; use reward/PATH")
        body = chat_body(self._endpoint.model, request) | await self._extras(request)
        answer = await self._ask(body)
        return parse_chat(self._endpoint, answer, time.perf_counter() - started)

    async def aclose(self) -> None:
        if self._dialect is not None and not self._dialect.done():
            self._dialect.cancel()
            self._dialect = None
        await self._connection.aclose()

    async def _score(self, request: Request, started: float) -> Completion:
        """The last message and the log-probabilities of its tokens.

        The server gives those of the whole conversation as its chat template writes it. The tokens
        of the last message are those after what the template writes when it asks for a reply.
        """
        *before, last = request.messages
        if last.role != "assistant":
            raise ConfigError("only a last message of the assistant can be scored")
        answer = await self._ask(
            {
                "model": self._endpoint.model,
                "messages": chat_messages(request.messages),
                "max_tokens": 1,
                "prompt_logprobs": 0,
                "add_generation_prompt": False,
                "continue_final_message": True,
            }
        )
        body = self._body(answer)
        if body.get("prompt_logprobs") is None:
            raise BackendError(
                f"the server at {self._endpoint.url} cannot score given text: it returned no "
                "prompt_logprobs (vLLM does)",
                fatal=True,
            )
        start = await self._count_prefix(tuple(before))
        return Completion(
            text=last.content,
            model=body.text("model"),
            tokens=self._scored(body, start, last.content),
            usage=parse_usage(body),
            latency_s=time.perf_counter() - started,
        )

    async def _count_prefix(self, before: Messages) -> int:
        """How many tokens the chat template writes before a reply; asked once for each prompt."""
        if before not in self._prefix_tokens:
            answer = await self._ask(
                {
                    "model": self._endpoint.model,
                    "messages": chat_messages(before),
                    "max_tokens": 1,
                    "add_generation_prompt": True,
                }
            )
            usage = parse_usage(self._body(answer))
            if len(self._prefix_tokens) >= _MOST_PREFIXES:
                self._prefix_tokens.clear()
            self._prefix_tokens[before] = usage.input
        return self._prefix_tokens[before]

    def _scored(self, body: Body, start: int, content: str) -> tuple[TokenLogprob, ...]:
        """The tokens from `start` on, once it is sure that they are those of `content`."""
        given = body.items("prompt_logprobs")[start:] if start else []
        tokens = tuple(self._given_token(candidates) for candidates in given)
        spelled = "".join(token.token for token in tokens)
        # a token that ends inside a character cannot be spelled alone; white space is the
        # tokenizer's and the template's to change
        if not tokens or ("\ufffd" not in spelled and _ink(spelled) != _ink(content)):
            raise BackendError(
                "the server's chat template does not write the last message after its prompt as it "
                "is, so its tokens cannot be told apart"
            )
        return tokens

    def _given_token(self, candidates: object) -> TokenLogprob:
        """The token that the text has; vLLM puts it first."""
        first = next(iter(candidates.values()), None) if isinstance(candidates, dict) else None
        entry = Body(self._endpoint, first, "prompt_logprobs")
        return TokenLogprob(entry.text("decoded_token"), entry.logprob("logprob"))

    async def _ask(self, body: dict[str, Any]) -> bytes:
        """The body of a success; asks again while a refusal teaches which parameter to change."""
        while True:
            sent = self._corrections.apply(body)
            answer = await self._connection.post("/chat/completions", sent)
            if self.on_limits is not None and (limits := read_limits(answer.headers)) is not None:
                self.on_limits(limits)
            if 200 <= answer.status < 300:
                return answer.body
            if self._corrections.learn(sent, answer.status, answer.text):
                continue
            if answer.status == 404:
                raise await self._not_found(answer.text)
            raise status_error(self._endpoint, answer.status, answer.headers, answer.text)

    def _body(self, answer: bytes) -> Body:
        """The JSON object in the body of a success."""
        return Body(self._endpoint, read_json(self._endpoint, answer.decode(errors="replace")))

    async def _extras(self, request: Request) -> dict[str, Any]:
        """What the server's own dialect has for `request`; the server is asked once who it is."""
        if not wants_extras(request):
            return {}
        if self._dialect is None:
            finding = find_dialect(self._endpoint, self._connection)
            self._dialect = asyncio.ensure_future(finding)
        # shielded: a call that is cancelled leaves the others their answer
        return extras(request, await asyncio.shield(self._dialect))

    async def _not_found(self, answer: str) -> BackendError:
        """The error for a 404, with the models that the server has where it says."""
        error = status_error(self._endpoint, 404, {}, answer)
        try:
            listing = await self._connection.get(f"{self._endpoint.url}/models")
            names = [model.text("id") for model in self._body(listing.body).parts("data")]
        except BackendError:
            return nothing_there(self._endpoint, error)
        if listing.status != 200:
            return nothing_there(self._endpoint, error)
        if not names or self._endpoint.model in names:
            return error
        return unknown_model(self._endpoint, names)


def _ink(text: str) -> str:
    """`text` without its white space."""
    return "".join(text.split())
