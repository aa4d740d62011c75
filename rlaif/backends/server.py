"""Any OpenAI-compatible server (vLLM, Ollama, llama.cpp, LM Studio): the address `server/NAME`."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from rlaif.backends._chat import chat_body, chat_messages, parse_chat, parse_usage
from rlaif.backends._http import (
    Body,
    Corrections,
    Endpoint,
    api_root,
    clean_key,
    read_json,
    status_error,
    transport_error,
)
from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, ConfigError, suggestion
from rlaif.types import Completion, Messages, Request, TokenLogprob

if TYPE_CHECKING:
    import aiohttp

KEY = "RLAIF_SERVER_API_KEY"
_MOST_PREFIXES = 4096


class ServerBackend:
    """Chat completions of one model of a server, over one session that keeps its connections.

    It speaks HTTP itself: an SDK costs several times the processor time per call, which shows with
    a fast local server. With the task `likelihood` it asks for vLLM's `prompt_logprobs`.

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
        self._endpoint = Endpoint("the server", api_root(options.base_url), name, KEY, key)
        self._timeout_s = options.timeout_s
        self._corrections = Corrections(
            frozenset({"temperature", "top_p", "seed", "logprobs", "top_logprobs"}),
            {"max_tokens": "max_completion_tokens"},
        )
        self._session: aiohttp.ClientSession | None = None
        self._prefix_tokens: dict[Messages, int] = {}

    @property
    def model(self) -> str:
        return f"server/{self._endpoint.model}"

    @property
    def identity(self) -> str:
        return f"{self.model}@{self._endpoint.url}"

    async def complete(self, request: Request) -> Completion:
        """The model's reply, or the log-probabilities of the last message.

        Raises:
            BackendError: the server failed, refused the request, or cannot score given text (then
                fatal).
        """
        started = time.perf_counter()
        if request.task == "likelihood":
            return await self._score(request, started)
        body = chat_body(self._endpoint.model, request, max_tokens_name="max_tokens")
        answer = await self._ask(body)
        return parse_chat(self._endpoint, answer, time.perf_counter() - started)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

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
        body = Body(self._endpoint, read_json(self._endpoint, answer))
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
            usage = parse_usage(Body(self._endpoint, read_json(self._endpoint, answer)))
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

    async def _ask(self, body: dict[str, Any]) -> str:
        """The body of a success; asks again while a refusal teaches which parameter to change."""
        while True:
            sent = self._corrections.apply(body)
            status, headers, answer = await self._call("POST", "/chat/completions", sent)
            if 200 <= status < 300:
                return answer
            if self._corrections.learn(sent, status, answer):
                continue
            if status == 404:
                raise await self._not_found(answer)
            raise status_error(self._endpoint, status, headers, answer)

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, Any, str]:
        """Status, headers and body of an answer.

        Raises:
            BackendError: there was none in time.
        """
        import aiohttp

        data = None if body is None else json.dumps(body).encode()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._open_session().request(
                    method, self._endpoint.url + path, data=data, allow_redirects=False
                ) as response,
            ):
                content = await response.read()
                return response.status, response.headers, content.decode(errors="replace")
        except (aiohttp.ClientError, OSError) as error:
            raise transport_error(self._endpoint, error, self._timeout_s) from error

    def _open_session(self) -> aiohttp.ClientSession:
        """The one session, made when first needed, as it belongs to the running event loop."""
        import aiohttp

        if self._session is None or self._session.closed:
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            if self._endpoint.key:
                headers["Authorization"] = f"Bearer {self._endpoint.key}"
            self._session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                # the limit is ours, over the whole call; aiohttp's own would be 5 minutes
                timeout=aiohttp.ClientTimeout(total=None),
                # cookies of one call have no place in another
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _not_found(self, answer: str) -> BackendError:
        """The error for a 404, with the models that the server has where it says."""
        error = status_error(self._endpoint, 404, {}, answer)
        try:
            status, _, listing = await self._call("GET", "/models")
            found = Body(self._endpoint, read_json(self._endpoint, listing)).parts("data")
            names = [self._endpoint.redact(model.text("id")) for model in found]
        except BackendError:
            return error
        if status != 200 or not names:
            return error
        hint = suggestion(self._endpoint.model, names[:50])
        return BackendError(
            f"the server at {self._endpoint.url} has no model {self._endpoint.model!r}; {hint}",
            fatal=True,
        )


def _ink(text: str) -> str:
    """`text` without its white space."""
    return "".join(text.split())
