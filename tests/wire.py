"""A server on this machine that speaks the providers' wire formats, for tests without a network.

    with WireServer(lambda messages: "Score: 4") as server:
        backend = ServerBackend("judge", BackendOptions(base_url=server.url))

It runs in a thread of its own, so that anything can be tested against it: the provider SDKs, a
command line that starts its own event loop, another process. It serves `/v1/chat/completions` with
log-probabilities (vLLM's `prompt_logprobs` too), `/v1/responses`, `/v1/models`, Anthropic's
`/v1/messages`, and the first two under Azure's paths.

A toy tokenizer stands for the model's: one token a word, with the white space before it. The toy
chat template writes `<role>` before each message and `<assistant>` where it asks for a reply.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.wire_cache import Part, PrefixCache, tokenize
from tests.wire_faults import Fault, Faults, Recorded, api_error, html, in_order, refuse

__all__ = ["Fault", "Recorded", "WireReply", "WireServer", "api_error", "html", "refuse"]

ChatMessages = list[dict[str, str]]


@dataclass(frozen=True)
class WireReply:
    """What the model says; the fields are named as in `rlaif.Completion`."""

    text: str
    finish_reason: str = "stop"
    """`stop`, `length` or `refusal`."""
    thinking: str = ""
    cached_input: int = 0


class WireServer:
    """Serves one model until its `with` block ends.

    Args:
        reply: From the messages to what the model says; the same words each time by default.
        models: Names that `/v1/models` lists; calls for another name get a 404. None takes any.
        logprob: Log-probability of a token, for replies and for given text.
        alternatives: Other tokens with their log-probabilities, offered at every token.
        faults: What goes wrong: one per call in order (None for nothing), or a function of it.
        delay_s: How long the model takes to reply.
        key: What clients must send; others get a 401 that repeats what they sent.
        scores_text: Whether it knows `prompt_logprobs`.
        owner: Who `/v1/models` says owns the models, such as `vllm` or `llamacpp`.
        version: What `/version` says, as vLLM does; a 404 where it is None.
        headers: Sent with every answer.
        certificate: Files of a certificate and its key; it then speaks https.
        cache: Its prompt cache. Without one, replies say what was cached.
        responses: Whether it has the responses API.
    """

    def __init__(
        self,
        reply: Callable[[ChatMessages], str | WireReply] = lambda _: "A fixed reply.",
        *,
        models: list[str] | None = None,
        logprob: Callable[[str], float] = lambda token: -0.125 * len(token.strip()),
        alternatives: Iterable[tuple[str, float]] = (("A", -0.5), ("B", -1.5), ("tie", -4.0)),
        faults: Faults = (),
        delay_s: float = 0.0,
        key: str | None = None,
        scores_text: bool = True,
        owner: str | None = None,
        version: str | None = None,
        headers: dict[str, str] | None = None,
        certificate: tuple[Path, Path] | None = None,
        cache: PrefixCache | None = None,
        responses: bool = True,
    ) -> None:
        self._reply = reply
        self._models = models
        self._logprob = logprob
        self._alternatives = list(alternatives)
        self._fault = faults if callable(faults) else in_order(faults)
        self._delay_s = delay_s
        self._key = key
        self._scores_text = scores_text
        self._owner = owner
        self._version = version
        self._headers = headers or {}
        self._certificate = certificate
        self._cache = cache
        self._responses = responses
        self._ready = threading.Event()
        self.requests: list[Recorded] = []
        """Every call that asked for a reply, in order of arrival."""
        self.in_flight = 0
        self.peak_in_flight = 0
        self._peers: set[object] = set()
        self.url = ""
        """With `/v1` at its end."""

    @property
    def calls(self) -> int:
        """How many calls asked for a reply."""
        return len(self.requests)

    @property
    def connections(self) -> int:
        """How many connections clients opened for these."""
        return len(self._peers)

    @property
    def origin(self) -> str:
        """The URL without its path."""
        return self.url.removesuffix("/v1")

    def __enter__(self) -> WireServer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(timeout=10):
            raise RuntimeError("the test server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=64 * 2**20)
        for root in ("/v1", "/openai/v1", "/openai/deployments/{name}"):
            app.router.add_post(f"{root}/chat/completions", self._chat)
        if self._responses:
            for root in ("/v1", "/openai/v1", "/openai"):
                app.router.add_post(f"{root}/responses", self._respond)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/version", self._tell_version)
        self.add_routes(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        tls = None
        if self._certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(*self._certificate)
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048, ssl_context=tls)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http{'s' if tls else ''}://{host}:{port}/v1"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def add_routes(self, app: web.Application) -> None:
        """What else a server of another kind serves."""

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, self._chat_answer)

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, self._response_answer)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, self._message_answer)

    async def _answer(
        self, request: web.Request, answer: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Recorded(request.path, headers, json.loads(await request.read()))
        self._note_connection(request)
        self.requests.append(call)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            fault = self._rejection(call) or self._fault(call) or Fault()
            if fault.hang:
                await self._stop.wait()
            if fault.drop:
                return await self._cut(request, b"")
            body = answer(call.body) if fault.body is None else fault.body
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if self._cache is not None and fault.body is None:
                self._cache.keep(_parts(call.body))
            content = body if isinstance(body, bytes) else _encode(body)
            if fault.cut:
                return await self._cut(request, content)
            headers = {"Content-Type": "application/json", **self._headers, **fault.headers}
            return web.Response(status=fault.status, headers=headers, body=content)
        finally:
            self.in_flight -= 1

    async def _cut(self, request: web.Request, content: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        if content:
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
        if request.transport is not None:
            request.transport.abort()
        return response

    def _note_connection(self, request: web.Request) -> None:
        peer = request.transport and request.transport.get_extra_info("peername")
        self._peers.add(peer)

    def _rejection(self, call: Recorded) -> Fault | None:
        own = call.headers.get("x-api-key") or call.headers.get("api-key")
        sent = own or call.headers.get("authorization", "")
        if self._key is not None and sent.removeprefix("Bearer ") != self._key:
            return api_error(401, f"Incorrect API key provided: {sent}.", code="invalid_api_key")
        if self._models is not None and call.body["model"] not in self._models:
            text = f"The model {call.body['model']} does not exist"
            return api_error(404, text, code="model_not_found")
        return None

    async def _list_models(self, _: web.Request) -> web.Response:
        names = self._models or ["judge"]
        owned = {} if self._owner is None else {"owned_by": self._owner}
        models = [{"id": name, **owned} for name in names]
        return web.json_response({"object": "list", "data": models})

    async def _tell_version(self, _: web.Request) -> web.Response:
        if self._version is None:
            raise web.HTTPNotFound
        return web.json_response({"version": self._version})

    def _said(self, body: dict[str, Any]) -> tuple[WireReply, int, int]:
        """What the model says, and the prompt tokens that the cache had and takes up."""
        parts = _parts(body)
        messages: ChatMessages = []
        for part in parts:
            if part.opens:
                messages.append({"role": part.role, "content": part.text})
            else:
                messages[-1]["content"] += part.text
        said = self._reply(messages)
        reply = said if isinstance(said, WireReply) else WireReply(said)
        if self._cache is None:
            return reply, reply.cached_input, 0
        return (reply, *self._cache.look(parts))

    def _chat_answer(self, body: dict[str, Any]) -> dict[str, Any]:
        said, cached, _ = self._said(body)
        prompt, reply = _template(body), tokenize(said.text)
        reasons = {"refusal": "content_filter"}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": f"{body['model']}-2026-01-01",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": reasons.get(said.finish_reason, said.finish_reason),
                    "message": {
                        "role": "assistant",
                        "content": said.text,
                        "refusal": None,
                        **({"reasoning_content": said.thinking} if said.thinking else {}),
                    },
                    "logprobs": self._logprobs(reply, body) if body.get("logprobs") else None,
                }
            ],
            "usage": {
                "prompt_tokens": len(prompt),
                "completion_tokens": len(reply),
                "total_tokens": len(prompt) + len(reply),
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }
        if "prompt_logprobs" in body and self._scores_text:
            answer["prompt_logprobs"] = [None, *map(self._given, prompt[1:])]
        return answer

    def _response_answer(self, body: dict[str, Any]) -> dict[str, Any]:
        said, cached, _ = self._said(body)
        prompt, reply = _template(body), tokenize(said.text)
        part: dict[str, Any] = {"type": "output_text", "text": said.text, "annotations": []}
        if "message.output_text.logprobs" in body.get("include", []):
            part["logprobs"] = self._logprobs(reply, body)["content"]
        if said.finish_reason == "refusal":
            part = {"type": "refusal", "refusal": said.text}
        thought = [{"type": "summary_text", "text": said.thinking}]
        cut = said.finish_reason == "length"
        return {
            "id": "resp_1",
            "object": "response",
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "error": None,
            "model": f"{body['model']}-2026-01-01",
            "output": [
                *([{"type": "reasoning", "id": "r", "summary": thought}] if said.thinking else []),
                {"type": "message", "role": "assistant", "status": "completed", "content": [part]},
            ],
            "usage": {
                "input_tokens": len(prompt),
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": len(reply),
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": len(prompt) + len(reply),
            },
        }

    def _logprobs(self, tokens: list[str], body: dict[str, Any]) -> dict[str, Any]:
        """As OpenAI writes them; the token itself is among its alternatives, least likely first."""

        def entry(token: str, logprob: float) -> dict[str, Any]:
            return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

        def with_top(token: str) -> dict[str, Any]:
            others = [(t, p) for t, p in self._alternatives if t != token]
            top = sorted([(token, self._logprob(token)), *others], key=lambda pair: -pair[1])
            shown = [entry(t, p) for t, p in top[: body.get("top_logprobs", 0)]]
            return {**entry(token, self._logprob(token)), "top_logprobs": shown[::-1]}

        return {"content": [with_top(token) for token in tokens], "refusal": None}

    def _given(self, token: str) -> dict[str, Any]:
        """As vLLM writes the log-probability of a prompt token."""
        entry = {"logprob": self._logprob(token), "rank": 1, "decoded_token": token}
        return {str(sum(token.encode())): entry}

    def _message_answer(self, body: dict[str, Any]) -> dict[str, Any]:
        said, cached, written = self._said(body)
        reasons = {"stop": "end_turn", "length": "max_tokens"}
        thinking = [{"type": "thinking", "thinking": said.thinking, "signature": "s"}]
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": f"{body['model']}-2026-01-01",
            "content": [*(thinking if said.thinking else []), {"type": "text", "text": said.text}],
            "stop_reason": reasons.get(said.finish_reason, said.finish_reason),
            "stop_sequence": None,
            "usage": {
                "input_tokens": len(_template(body)) - cached - written,
                "cache_read_input_tokens": cached,
                "cache_creation_input_tokens": written,
                "output_tokens": len(tokenize(said.text)),
            },
        }


def _parts(body: dict[str, Any]) -> list[Part]:
    """The conversation of any of the formats, part by part, with the marks for the cache."""
    system = [{"role": "system", "content": body["system"]}] if "system" in body else []
    parts = []
    for message in [*system, *(body.get("messages") or body.get("input") or [])]:
        content = message["content"]
        blocks = [{"text": content}] if isinstance(content, str) else content
        for place, block in enumerate(blocks):
            marked = bool({"cache_control", "prompt_cache_breakpoint"} & block.keys())
            parts.append(Part(message["role"], block["text"], opens=place == 0, marked=marked))
    return parts


def _template(body: dict[str, Any]) -> list[str]:
    """The toy tokens of the conversation as the toy chat template writes it."""
    tokens = [token for part in _parts(body) for token in part.tokens]
    return tokens + (["<assistant>"] if body.get("add_generation_prompt", True) else [])


def _encode(body: str | dict[str, Any]) -> bytes:
    return (body if isinstance(body, str) else json.dumps(body)).encode()
